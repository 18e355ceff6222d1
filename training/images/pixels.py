"""Pictures decoded once, as the server decodes them, and kept on disk while a training runs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from serve_app.errors import ServeAppError
from serve_app.models.images.preprocessing import SIDE_PX, read_image

if TYPE_CHECKING:
    from training.images.folders import Sample


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pictures that could be read.

    Attributes:
        samples: file and class of each.
        images: (pictures, 224, 224, 3) uint8, what the server would give to the network.
        digests: of each picture's pixels: equal where pictures are the same, whatever their files' metadata.
        unreadable: the other files, and why.
    """

    samples: tuple[Sample, ...]
    images: np.ndarray
    digests: tuple[str, ...]
    unreadable: dict[Path, str]

    @property
    def labels(self) -> np.ndarray:
        """Class of each picture, (pictures,) int64."""
        return np.array([sample.label for sample in self.samples], np.int64)

    def at(self, indices: np.ndarray, side_px: int) -> np.ndarray:
        """Return chosen pictures at another size, (chosen, side_px, side_px, 3) uint8."""
        if side_px == SIDE_PX:
            return self.images[indices]
        size = (side_px, side_px)
        resized = np.empty((len(indices), *size, 3), np.uint8)
        for place, index in enumerate(indices):
            resized[place] = np.asarray(Image.fromarray(self.images[index]).resize(size, Image.Resampling.BILINEAR))
        return resized


def decode(samples: Sequence[Sample], *, threads: int = 1) -> Pixels:
    """Return the pictures' pixels, in their order; what cannot be read is left out and named.

    The array lies in an unnamed file in the folder for temporary files: 150 kB a picture.
    """
    with tempfile.TemporaryFile() as file:
        shape = (max(len(samples), 1), SIDE_PX, SIDE_PX, 3)
        images = np.memmap(file, np.uint8, mode="w+", shape=shape)
    read: list[Sample] = []
    digests: list[str] = []
    unreadable: dict[Path, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        for sample, result in zip(samples, pool.map(_read, samples), strict=True):
            if isinstance(result, str):
                unreadable[sample.path] = result
                continue
            images[len(read)] = result
            digests.append(hashlib.sha256(result.tobytes()).hexdigest())
            read.append(sample)
    return Pixels(tuple(read), images[: len(read)], tuple(digests), unreadable)


def _read(sample: Sample) -> np.ndarray | str:
    try:
        return read_image(sample.path.read_bytes())
    except (ServeAppError, OSError) as error:
        return str(error)
