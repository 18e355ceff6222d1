"""Pictures for tests of captions."""

from __future__ import annotations

import numpy as np
from PIL import Image

from serve_app.models.captions.picture import prepare_picture
from serve_app.results import PreparedPicture
from tests.unit.models.images.pictures import encoded


def plain(color: object, size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.new("RGB", size, color)  # type: ignore[arg-type]


def striped(*colors: object, size: tuple[int, int] = (120, 80)) -> Image.Image:
    """Return bands of equal height, from the top."""
    image = Image.new("RGB", size)
    height = size[1] // len(colors)
    for number, color in enumerate(colors):
        image.paste(color, (0, number * height, size[0], (number + 1) * height))  # type: ignore[arg-type]
    return image


def random_scene(seed: int) -> Image.Image:
    """Return a picture of a few coloured patches, blurred or not, light or dark, vivid or not."""
    draw = np.random.default_rng(seed)
    size = tuple(int(side) for side in draw.integers(1, 30, 2))
    base = draw.integers(0, 256, 3)
    spread = draw.uniform(0, 120)
    pixels = np.clip(base + draw.normal(0, spread, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    filters = (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)
    return Image.fromarray(pixels).resize((64, 48), filters[seed % 2])


def prepared(image: Image.Image) -> PreparedPicture:
    return prepare_picture(encoded(image, "PNG"), max_pixels=50_000_000)
