"""Image files for tests, some of which no library writes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

QUARTERS = ((220, 40, 40), (40, 200, 60), (40, 60, 220), (230, 220, 40))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture without two equal neighbours: any slip of a pixel shows."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Return four plain fields: red, green, blue, yellow."""
    pixels = np.zeros((height, width, 3), np.uint8)
    tops, lefts = (
        (slice(None, height // 2), slice(height // 2, None)),
        (slice(None, width // 2), slice(width // 2, None)),
    )
    for number, colour in enumerate(QUARTERS):
        pixels[tops[number // 2], lefts[number % 2]] = colour
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Return a PNG of any header; `rows` are the pixels, without the filter bytes that are put before each row."""
    stride = len(rows) // height if rows else 0
    lines = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height)) if rows else b""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def write_photographs(folder: Path, count: int) -> None:
    """Fill a folder with small JPEGs, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        image = coarse.resize((240, 230), Image.Resampling.BICUBIC)
        left, top = rng.integers(0, 150, 2).tolist()
        image.paste(tuple(rng.integers(0, 256, 3).tolist()), (left, top, left + 70, top + 60))
        pixels = np.asarray(image) + rng.normal(0, 6, (230, 240, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number:03}.jpg", quality=90)
