"""Images that an engine is tried on before it serves: where there are no real ones, made by a fixed recipe."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from serve_app.models.images.preprocessing import SIDE_PX

NUM_IMAGES = 16
_SEED = 20261127


def probe_images() -> np.ndarray:
    """Return images that drive a network as pictures do: soft colours, edges, texture; the same ones every time.

    Returns:
        (16, 224, 224, 3) uint8.
    """
    rng = np.random.default_rng(_SEED)
    return np.stack([_image(rng) for _ in range(NUM_IMAGES)])


def _image(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 256, (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 9))):
        left, top = rng.integers(-40, SIDE_PX - 20, 2).tolist()
        width, height = rng.integers(20, 160, 2).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.0, 2.0))))
    noise = rng.normal(0.0, rng.uniform(0.0, 12.0), (SIDE_PX, SIDE_PX, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
