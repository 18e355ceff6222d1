"""Pictures as other photographs of the same thing: crops, turns, light, blur, JPEG, something in front."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from serve_app.models.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far pictures are changed; shares are of the pictures in a batch.

    Attributes:
        least_area: of a crop, of the whole picture.
        stretch: of a crop's sides, at most.
        turn_degrees: to either side, at most.
        brightness, contrast, saturation: factors, up to 1 + and down to 1 - this.
        cast: of each colour's brightness.
        blur_share, jpeg_share, erase_share, grey_share: how often.
    """

    least_area: float = 0.45
    stretch: float = 1.25
    turn_degrees: float = 12.0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.35
    cast: float = 0.08
    blur_share: float = 0.15
    jpeg_share: float = 0.1
    erase_share: float = 0.15
    grey_share: float = 0.05


LIGHT = Augmentation(
    least_area=0.7,
    turn_degrees=8.0,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    blur_share=0.05,
    jpeg_share=0.0,
    erase_share=0.05,
)


def normalised(images: np.ndarray | Tensor) -> Tensor:
    """Return pictures (batch, rows, columns, 3) uint8 as the network takes them: (batch, 3, rows, columns) float32."""
    values = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255.0
    return _normalise(values)


def augment(images: np.ndarray, side_px: int, how: Augmentation, rng: np.random.Generator) -> Tensor:
    """Return pictures (batch, rows, columns, 3) uint8, each changed, as (batch, 3, side_px, side_px), normalised."""
    if how.jpeg_share:
        images = images.copy()
        for index in np.flatnonzero(rng.random(len(images)) < how.jpeg_share):
            images[index] = _jpeg(images[index], int(rng.integers(20, 80)))
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
    grid = functional.affine_grid(
        _places(len(images), how, rng), [len(images), 3, side_px, side_px], align_corners=False
    )
    values = functional.grid_sample(values, grid, padding_mode="reflection", align_corners=False)
    values = _light(values, how, rng)
    blurred = np.flatnonzero(rng.random(len(images)) < how.blur_share)
    if len(blurred):
        values[blurred] = _blur(values[blurred], float(rng.uniform(0.4, 1.6)) * side_px / 224.0 + 0.2)
    for index in np.flatnonzero(rng.random(len(images)) < how.erase_share):
        high, wide = (int(each) for each in rng.uniform(0.1, 0.35, 2) * side_px)
        top, left = int(rng.integers(0, side_px - high)), int(rng.integers(0, side_px - wide))
        values[index, :, top : top + high, left : left + wide] = torch.from_numpy(rng.random((3, 1, 1), np.float32))
    return _normalise(values)


def _normalise(values: Tensor) -> Tensor:
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return (values - mean) / std


def _places(num: int, how: Augmentation, rng: np.random.Generator) -> Tensor:
    """Return matrices (num, 2, 3) from places in the crop to places in the picture: scale, turn, flip, shift."""
    scale = np.sqrt(rng.uniform(how.least_area, 1.05, num))
    stretch = np.exp(rng.uniform(-1.0, 1.0, num) * np.log(how.stretch) / 2)
    flip = rng.choice([-1.0, 1.0], num)
    turn = np.radians(rng.uniform(-how.turn_degrees, how.turn_degrees, num))
    wide, high = scale * stretch, scale / stretch
    free = np.maximum(1.0 - np.stack([wide, high]), 0.0)
    shift = rng.uniform(-1.0, 1.0, (2, num)) * free
    rows = [
        np.stack([flip * wide * np.cos(turn), -high * np.sin(turn), shift[0]], axis=1),
        np.stack([flip * wide * np.sin(turn), high * np.cos(turn), shift[1]], axis=1),
    ]
    return torch.from_numpy(np.stack(rows, axis=1).astype(np.float32))


def _light(values: Tensor, how: Augmentation, rng: np.random.Generator) -> Tensor:
    num = len(values)

    def factor(by: float, shape: tuple[int, ...] = (num, 1, 1, 1)) -> Tensor:
        return torch.from_numpy(rng.uniform(1.0 - by, 1.0 + by, shape).astype(np.float32))

    values = values * factor(how.brightness) * factor(how.cast, (num, 3, 1, 1))
    grey = (values * torch.tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    saturation = factor(how.saturation)
    saturation[rng.random(num) < how.grey_share] = 0.0
    values = grey + saturation * (values - grey)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    return (middle + factor(how.contrast) * (values - middle)).clamp_(0.0, 1.0)


def _blur(values: Tensor, sigma: float) -> Tensor:
    reach = max(int(2.5 * sigma), 1)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = functional.pad(values, (reach,) * 4, mode="replicate")
    across = functional.conv2d(padded, kernel.unsqueeze(2), groups=3)
    return functional.conv2d(across, kernel.unsqueeze(3), groups=3)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored))
