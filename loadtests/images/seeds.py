"""Small good pictures in every kind that our image routes take, to be mutated."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from loadtests.images.load import ROOT

_SIZE_PX = (160, 120)
# Pillow writes no HEIC, these were made elsewhere (see the README beside them)
_HEIC = ROOT / "tests" / "data" / "images"


def seed_pictures(heic: Path = _HEIC) -> dict[str, bytes]:
    """Return them by name; AVIF and HEIC where they are to be had."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, _SIZE_PX[0])[None, :, None] + np.linspace(0, 40, _SIZE_PX[1])[:, None, None]
    pixels = np.clip(ramp + rng.normal(0, 12, (_SIZE_PX[1], _SIZE_PX[0], 3)), 0, 255).astype(np.uint8)
    rgb = Image.fromarray(pixels)
    grey = rgb.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    alpha = rgb.copy()
    alpha.putalpha(grey)
    frames = [rgb.rotate(angle).convert("P") for angle in (0, 10, 20)]
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    seeds = {
        "jpeg-baseline": _written(rgb, "JPEG", quality=85),
        "jpeg-progressive": _written(rgb, "JPEG", quality=85, progressive=True),
        "jpeg-cmyk": _written(rgb.convert("CMYK"), "JPEG"),
        "jpeg-grey": _written(grey, "JPEG"),
        "jpeg-exif": _written(rgb, "JPEG", exif=exif, restart_marker_blocks=4),
        "png-rgb": _written(rgb, "PNG"),
        "png-16-bit": _written(deep, "PNG"),
        "png-palette": _written(rgb.quantize(64), "PNG", transparency=3),
        "png-alpha": _written(alpha, "PNG"),
        "png-1-bit": _written(rgb.convert("1"), "PNG"),
        "webp-lossy": _written(rgb, "WEBP", quality=80),
        "webp-lossless": _written(alpha, "WEBP", lossless=True, method=0),
        "webp-animated": _written(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(9)], method=0),
        "gif": _written(frames[0], "GIF"),
        "gif-animated": _written(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0),
        "bmp": _written(rgb, "BMP"),
        "bmp-palette": _written(frames[0], "BMP"),
        "tiff-lzw": _written(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": _written(rgb, "TIFF", compression="jpeg"),
        "tiff-deflate-float": _written(grey.convert("F"), "TIFF", compression="tiff_deflate"),
        "tiff-plain-16-bit": _written(deep, "TIFF"),
        "tiff-group-4": _written(rgb.convert("1"), "TIFF", compression="group4"),
        "tiff-two-pages": _written(
            rgb, "TIFF", save_all=True, append_images=[rgb.rotate(9)], compression="tiff_deflate"
        ),
        "png-interlaced": interlaced_png(pixels),
    }
    if features.check("avif"):
        seeds["avif"] = _written(rgb, "AVIF", quality=60, speed=10)
        seeds["avif-alpha"] = _written(alpha, "AVIF", quality=60, speed=10)
    for path in sorted(heic.glob("*.heic")) if heic.is_dir() else ():
        seeds[f"heic-{path.stem}"] = path.read_bytes()
    return seeds


def interlaced_png(pixels: np.ndarray) -> bytes:
    """Return an Adam7 PNG of (height, width, 3) uint8, which Pillow reads but does not write."""
    from loadtests.images.crafted import png

    raw = bytearray()
    for x, y, step_x, step_y in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        for row in pixels[y::step_y, x::step_x]:
            raw += b"\0" + row.tobytes()
    height, width, _ = pixels.shape
    return png(width, height, bytes(raw), colour=2, interlaced=True)


def _written(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
