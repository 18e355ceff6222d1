"""Strangers' pictures, decoded in processes of their own: what `models.images.preprocessing` and
`models.captions.picture` do with them, within limits of memory and time.

A picture takes at most 10 bytes of memory a pixel of the limit: 500 MB at 50 million pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cache
from typing import Any, BinaryIO

import numpy as np

from serve_app.errors import ImageUnreadable
from serve_app.media.cage import Cage, Limits
from serve_app.models.captions.picture import check_picture_header, clean_pixels, prepared
from serve_app.models.image_file import BYTES_PER_PIXEL
from serve_app.models.images.preprocessing import SIDE_PX, Fit, read_image
from serve_app.results import PreparedPicture
from serve_app.sentences import Sentence

_LEAST_BYTES = 64 << 20  # so that a low limit of pixels does not refuse small pictures
_CPU_S = 30.0  # the slowest, an AVIF of 50 million pixels, takes 5
_WALL_S = 300.0  # a busy machine gives a process a tenth of its time


def _never() -> bool:
    return False


@cache
def picture_cage() -> Cage:
    """Return this process's cage for pictures."""
    return Cage(ImageUnreadable, Sentence("picture"), [__name__])


def limits(num_bytes: int, max_pixels: int) -> Limits:
    """Return what decoding a picture of a file of so many bytes may take."""
    memory_bytes = max(_LEAST_BYTES, BYTES_PER_PIXEL * max_pixels) + num_bytes
    return Limits(memory_bytes=memory_bytes, cpu_s=_CPU_S, wall_s=_WALL_S)


def read_caged(data: bytes, fit: Fit, max_pixels: int, should_stop: Callable[[], bool] = _never) -> np.ndarray:
    """Return what `read_image` returns; ImageUnreadable too where the file ends its decoder or takes too much.

    Raises Unavailable where the machine has no process for a decoder, CancelledError once `should_stop` returns true.
    """
    pixels, _ = _in_cage("network_pixels", data, {"fit": fit, "max_pixels": max_pixels}, should_stop)
    return _checked(pixels, SIDE_PX, SIDE_PX)


def prepare_caged(data: bytes, *, max_pixels: int, should_stop: Callable[[], bool] = _never) -> PreparedPicture:
    """Return what `prepare_picture` returns; errors as of `read_caged`."""
    pixels, value = _in_cage("caption_pixels", data, {"max_pixels": max_pixels}, should_stop)
    return prepared(_checked(pixels), tuple(map(str, value)))


def check_caged(data: bytes, *, max_pixels: int) -> None:
    """Do what `check_picture_header` does; errors as of `read_caged`."""
    _in_cage("check_header", data, {"max_pixels": max_pixels}, _never)


def _in_cage(name: str, data: bytes, arguments: dict[str, Any], should_stop: Callable[[], bool]) -> Any:
    most = limits(len(data), arguments["max_pixels"])
    return picture_cage().call(f"{__name__}:{name}", data, arguments, most, should_stop)


def _checked(pixels: np.ndarray | None, height: int | None = None, width: int | None = None) -> np.ndarray:
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageUnreadable(Sentence("The picture can't be decoded: its decoder fails"))
    if height is not None and pixels.shape[:2] != (height, width):
        raise ImageUnreadable(Sentence("The picture can't be decoded: its decoder fails"))
    return pixels


def network_pixels(file: BinaryIO, *, fit: Fit, max_pixels: int) -> np.ndarray:
    """Run in the cage."""
    return read_image(file.read(), fit=fit, max_pixels=max_pixels)


def caption_pixels(file: BinaryIO, *, max_pixels: int) -> Generator[np.ndarray, None, list[str]]:
    """Run in the cage."""
    pixels, notes = clean_pixels(file.read(), max_pixels=max_pixels)
    yield pixels
    return list(notes)


def check_header(file: BinaryIO, *, max_pixels: int) -> None:
    """Run in the cage."""
    check_picture_header(file.read(), max_pixels=max_pixels)
