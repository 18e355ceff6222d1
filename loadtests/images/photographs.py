"""Made-up photographs: 640x480 JPEGs of 100 to 140 KB, each with its own colours, shapes and grain."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH_PX, HEIGHT_PX = 640, 480
_QUALITY = 92
_BYTES = (100_000, 140_000)


def photograph(seed: int) -> bytes:
    """Return one; the same for the same seed and the same Pillow."""
    rng = np.random.default_rng(seed)
    picture = _background(rng)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(4, 14))):
        left, top = rng.uniform(-0.1, 0.9) * WIDTH_PX, rng.uniform(-0.1, 0.9) * HEIGHT_PX
        box = (left, top, left + rng.uniform(0.05, 0.5) * WIDTH_PX, top + rng.uniform(0.05, 0.6) * HEIGHT_PX)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        draw_shape = (draw.ellipse, draw.rectangle, draw.chord)[int(rng.integers(3))]
        angles = (int(rng.integers(180)), int(rng.integers(180, 360))) if draw_shape == draw.chord else ()
        draw_shape(box, *angles, fill=colour, outline=None)
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.2)), dtype=np.float32)
    grain = rng.normal(size=(HEIGHT_PX, WIDTH_PX, 1)).astype(np.float32)
    low, high = 0.0, 40.0
    for _ in range(8):  # as much grain as makes a camera's file size
        middle = (low + high) / 2
        content = _encoded(pixels + middle * grain)
        if _BYTES[0] <= len(content) <= _BYTES[1]:
            break
        low, high = (middle, high) if len(content) < _BYTES[0] else (low, middle)
    return content


def write_photographs(folder: Path, num: int) -> tuple[Path, ...]:
    """Write so many; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"photo-{seed:03}.jpg" for seed in range(num))
    for seed, path in enumerate(paths):
        path.write_bytes(photograph(seed))
    return paths


def _background(rng: np.random.Generator) -> Image.Image:
    """Return soft colours: noise of few pixels, made large."""
    total = np.zeros((HEIGHT_PX, WIDTH_PX, 3), dtype=np.float32)
    for width, weight in ((4, 0.55), (16, 0.3), (64, 0.15)):
        few = rng.integers(0, 256, (max(2, width * 3 // 4), width, 3), dtype=np.uint8)
        total += weight * np.asarray(
            Image.fromarray(few).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC), dtype=np.float32
        )
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def _encoded(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
