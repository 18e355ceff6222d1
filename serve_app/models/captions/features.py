"""`measure_features`: light, colour and texture of a picture, on a copy of at most 256 pixels. Imports no torch.

Lightness and chroma are those of CIE Lab (1976, D65, sRGB after IEC 61966-2-1); colourfulness is that of Hasler and
Süsstrunk, "Measuring colourfulness in natural images", SPIE 5007 (2003).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.models.captions.colors import main_colors
from serve_app.results import PictureFeatures

_NUM_COLUMNS = 16
_COPY_PX = 256
_MOST_CHROMA = 133.81  # of sRGB's pure blue, the largest of all its colours
_MOST_SPREAD = 50.0  # of L*: one half of the pixels black, the other white
_HIGHLY_COLORFUL = 109.0  # "extremely colourful", the last step of Hasler and Süsstrunk's scale
_EDGE = 8.0  # L* a pixel
_NUM_BINS = 64
_FAINT = 6.0  # of 255: so little colour a pixel counts half
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)


def measure_features(image: Image.Image) -> PictureFeatures:
    """Return the features of an RGB picture of any size."""
    copy = image.copy()
    copy.thumbnail((_COPY_PX, _COPY_PX), Image.Resampling.BOX)
    rgb = np.asarray(copy, dtype=np.float64)
    lab = lab_of(rgb)
    lightness = lab[..., 0]
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    return PictureFeatures(
        brightness=_share(lightness.mean() / 100.0),
        saturation=_share(chroma.mean() / _MOST_CHROMA),
        warmth=_warmth(rgb),
        contrast=_share(lightness.std() / _MOST_SPREAD),
        colorfulness=_colorfulness(rgb),
        edge_density=_edge_density(lightness),
        entropy=_entropy(lightness),
        colors=main_colors(lightness, chroma, _hue_deg(rgb)),
        contour=_contour(lightness),
    )


def lab_of(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return L*, a* and b* of sRGB values between 0 and 255, (…, 3)."""
    values = rgb / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    ratios = linear @ _TO_XYZ.T / _WHITE
    x, y, z = np.moveaxis(np.where(ratios > (6 / 29) ** 3, np.cbrt(ratios), ratios * (29 / 6) ** 2 / 3 + 4 / 29), -1, 0)
    return np.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), axis=-1)


def _share(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0)) + 0.0  # no -0.0


def _warmth(rgb: NDArray[np.float64]) -> float:
    """Return red minus blue relative to the difference of the channels: 1 of red to yellow, -1 of cyan to blue."""
    spread = rgb.max(axis=-1) - rgb.min(axis=-1)
    return float((rgb[..., 0] - rgb[..., 2]).mean() / (spread.mean() + _FAINT))


def _colorfulness(rgb: NDArray[np.float64]) -> float:
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = (rgb[..., 0] + rgb[..., 1]) / 2.0 - rgb[..., 2]
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return _share((spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean())) / _HIGHLY_COLORFUL)


def _edge_density(lightness: NDArray[np.float64]) -> float:
    padded = np.pad(lightness, 1, mode="edge")
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2.0
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2.0
    return float((np.hypot(down, across) > _EDGE).mean())


def _entropy(lightness: NDArray[np.float64]) -> float:
    counts, _ = np.histogram(lightness, bins=_NUM_BINS, range=(0.0, 100.0))
    shares = counts[counts > 0] / counts.sum()
    return _share(-(shares * np.log2(shares)).sum() / np.log2(_NUM_BINS))


def _hue_deg(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return HSV's hue; 0 of a grey pixel."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    most, spread = rgb.max(axis=-1), np.ptp(rgb, axis=-1)
    divisor = np.where(spread > 0, spread, 1.0)
    sector = np.where(
        most == red,
        (green - blue) / divisor,
        np.where(most == green, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    return np.where(spread > 0, sector * 60.0 % 360.0, 0.0)


def _contour(lightness: NDArray[np.float64]) -> tuple[float, ...]:
    columns = Image.fromarray(lightness.astype(np.float32)).resize((_NUM_COLUMNS, 1), Image.Resampling.BOX)
    return tuple(_share(value / 100.0) for value in np.asarray(columns)[0])
