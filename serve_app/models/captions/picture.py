"""`prepare_picture`: a caller's file to a clean JPEG and its measurements. Imports no torch."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image

from serve_app.models.captions.features import measure_features
from serve_app.models.image_file import decoded_image, has_several_frames, opened_image
from serve_app.results import PreparedPicture

LONG_SIDE_PX = 1600
_JPEG_QUALITY = 88
_FIRST_ONLY = "The file holds several pictures; only the first was taken"


def check_picture_header(file: bytes | BinaryIO, *, max_pixels: int) -> None:
    """Check a picture's format and size by its header; no pixel is decoded.

    Args:
        file: read from its beginning, where its position is afterwards.
        max_pixels: as of `models.image_file.opened_image`.

    Raises:
        ImageUnreadable: the file is no picture of a known format.
        ImageTooLarge: it has too many pixels.
    """
    if isinstance(file, bytes):
        data = file
    else:
        file.seek(0)
        data = file.read()
        file.seek(0)
    with opened_image(data, max_pixels=max_pixels):
        pass


def prepare_picture(data: bytes, *, max_pixels: int) -> PreparedPicture:
    """Return a picture of at most 1600 pixels on its longer side, as a JPEG without any metadata, and its features.

    The same file gives the same bytes. Colour profiles are neither applied nor kept.

    Args:
        data: a file as `models.image_file` reads it.
        max_pixels: of the file's picture, half as many with transparency or more than 8 bits.

    Raises:
        ImageUnreadable: the file is no picture of a known format, or is broken.
        ImageTooLarge: it has too many pixels.
    """
    return prepared(*clean_pixels(data, max_pixels=max_pixels))


def clean_pixels(data: bytes, *, max_pixels: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the pixels of `prepare_picture`, (height, width, 3) uint8, and notes on the file."""
    with decoded_image(data, max_pixels=max_pixels, at_least_px=LONG_SIDE_PX) as decoded:
        pixels = np.asarray(shrunk(decoded, LONG_SIDE_PX))
    del decoded  # before the file is opened once more: WebP takes its memory at once
    return pixels, (_FIRST_ONLY,) if has_several_frames(data) else ()


def prepared(pixels: np.ndarray, notes: Sequence[str]) -> PreparedPicture:
    """Return a picture as a JPEG, with its features, from what `clean_pixels` returns."""
    clean = Image.fromarray(pixels)
    jpeg = encode_jpeg(clean)
    return PreparedPicture(
        jpeg=jpeg,
        width=clean.width,
        height=clean.height,
        sha256=hashlib.sha256(jpeg).hexdigest(),
        features=measure_features(clean),
        notes=tuple(notes),
    )


def shrunk(image: Image.Image, long_side_px: int) -> Image.Image:
    """Return a picture whose longer side has at most so many pixels, and whose shorter one has at least one."""
    scale = long_side_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def encode_jpeg(image: Image.Image) -> bytes:
    """Return an RGB picture as a JPEG's bytes."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()
