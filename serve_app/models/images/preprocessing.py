"""`read_image`: an image file's bytes to the network's pixels, equal to torchvision's transforms in the training:

    Compose([Resize(224), CenterCrop(224), ToTensor(), Normalize(mean, std)])     fit: crop (the default)
    Compose([Resize((224, 224)), ToTensor(), Normalize(mean, std)])               fit: stretch

PIL opens the picture and converts it to RGB (`models.image_file`). The pixels are the same to the last bit, except
where one side is more than 16 times the other (`_crop_of_a_strip`). The engines do `ToTensor` and `Normalize`. Imports
no torch.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from PIL import Image

from serve_app.models.image_file import MAX_PIXELS, decoded_image, upright_rgb

SIDE_PX = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_LONGEST_PX = 16 * SIDE_PX


class Fit(StrEnum):
    """How a picture that is not square becomes one."""

    CROP = "crop"
    STRETCH = "stretch"


def read_image(data: bytes, *, fit: Fit = Fit.CROP, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return a picture's pixels for a network, (224, 224, 3) uint8, red, green, blue.

    Args:
        max_pixels: of the file's picture, half as many with transparency or more than 8 bits; checked before decoding.

    Raises:
        ImageUnreadable: the file is no picture of a known format, or is broken.
        ImageTooLarge: it has too many pixels.
    """
    with decoded_image(data, max_pixels=max_pixels) as image:
        return np.asarray(_square(image, fit))


def image_pixels(image: Image.Image, *, fit: Fit = Fit.CROP, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the same of a PIL image, which stays as it is; arguments and errors as of `read_image`."""
    with upright_rgb(image, max_pixels=max_pixels) as upright:
        return np.asarray(_square(upright, fit))


def _square(image: Image.Image, fit: Fit) -> Image.Image:
    if fit is Fit.STRETCH:
        return image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    width, height = image.size
    long_px = int(SIDE_PX * max(width, height) / min(width, height))
    if long_px > _LONGEST_PX:
        return _crop_of_a_strip(image, long_px)
    size = (SIDE_PX, long_px) if width <= height else (long_px, SIDE_PX)
    left, top = (round((side - SIDE_PX) / 2.0) for side in size)
    return image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + SIDE_PX, top + SIDE_PX))


def _crop_of_a_strip(image: Image.Image, long_px: int) -> Image.Image:
    """Return the same square without resizing the rest of the strip, which may be a thousand times larger.

    PIL does its two passes over a part in another order, and each rounds: up to a quarter of the pixels differ by one.
    """
    width, height = image.size
    scale = max(width, height) / long_px
    start = round((long_px - SIDE_PX) / 2.0) * scale
    end = min(start + SIDE_PX * scale, max(width, height))
    box = (0, start, width, end) if width <= height else (start, 0, end, height)
    return image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, box=box)
