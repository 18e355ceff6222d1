"""Names of colours, in plain English and Korean, by hue, chroma and lightness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# English name → Korean name; `classify` gives the places of the keys.
KOREAN_NAMES = {
    "black": "검은색",
    "dark grey": "짙은 회색",
    "grey": "회색",
    "light grey": "옅은 회색",
    "white": "흰색",
    "red": "빨간색",
    "dark red": "검붉은색",
    "pink": "분홍색",
    "orange": "주황색",
    "brown": "갈색",
    "beige": "베이지색",
    "yellow": "노란색",
    "pale yellow": "연노란색",
    "olive": "올리브색",
    "green": "초록색",
    "dark green": "짙은 초록색",
    "light green": "연두색",
    "turquoise": "청록색",
    "dark turquoise": "짙은 청록색",
    "light blue": "하늘색",
    "blue": "파란색",
    "dark blue": "남색",
    "violet": "보라색",
    "dark violet": "짙은 보라색",
    "lilac": "연보라색",
    "magenta": "자홍색",
}
_NAMES = tuple(KOREAN_NAMES)
_GREY_CHROMA = 8.0  # below it an eye sees no hue
# hue in degrees of HSV up to which a family reaches; red begins and ends the circle
_HUE_ENDS = (14, 44, 68, 160, 188, 258, 292, 336, 360)
_FAMILIES = ("red", "orange", "yellow", "green", "turquoise", "blue", "violet", "magenta", "red")
# family → names of its dark, middle and light colours
_BY_LIGHTNESS = {
    "red": ("dark red", "red", "pink"),
    "orange": ("brown", "orange", "beige"),
    "yellow": ("olive", "yellow", "pale yellow"),
    "green": ("dark green", "green", "light green"),
    "turquoise": ("dark turquoise", "turquoise", "turquoise"),
    "blue": ("dark blue", "blue", "light blue"),
    "violet": ("dark violet", "violet", "lilac"),
    "magenta": ("dark violet", "magenta", "pink"),
}
# L* up to which a family's colour is dark, and from which it is light
_LIGHTNESS = {
    "red": (40.0, 66.0),
    "orange": (58.0, 78.0),
    "yellow": (62.0, 90.0),
    "green": (34.0, 72.0),
    "turquoise": (40.0, 101.0),
    "blue": (27.0, 58.0),
    "violet": (28.0, 62.0),
    "magenta": (30.0, 70.0),
}
_PURE_CHROMA = 55.0  # a light orange or yellow of this chroma is no beige or pale yellow


def main_colors(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue_deg: NDArray[np.float64], *, most: int = 5
) -> tuple[tuple[str, float], ...]:
    """Return the names of a picture's main colours and their shares of its pixels, the largest first.

    Colours of less than 4 % are left out, but never the largest.

    Args:
        lightness: CIE L*, of any shape.
        chroma: of CIE Lab, of the same shape.
        hue_deg: of HSV, 0 to 360, of the same shape.
    """
    counts = np.bincount(_classify(lightness, chroma, hue_deg).ravel(), minlength=len(_NAMES))
    shares = counts / counts.sum()
    order = sorted(range(len(_NAMES)), key=lambda index: -shares[index])[:most]
    return tuple((_NAMES[index], float(shares[index])) for index in order if index == order[0] or shares[index] >= 0.04)


def _classify(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue_deg: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return the place in `_NAMES` of each pixel's colour."""
    greys = np.digitize(lightness, (12.0, 38.0, 68.0, 92.0))
    families = np.digitize(hue_deg, _HUE_ENDS[:-1])
    dark = np.array([_LIGHTNESS[name][0] for name in _FAMILIES])[families]
    light = np.array([_LIGHTNESS[name][1] for name in _FAMILIES])[families]
    is_warm = np.isin(families, [_FAMILIES.index("orange"), _FAMILIES.index("yellow")])
    is_light = (lightness >= light) & ~(is_warm & (chroma >= _PURE_CHROMA))
    tones = np.where(lightness < dark, 0, np.where(is_light, 2, 1))
    # an orange of little chroma is brown or beige, whatever its lightness
    muted = (families == _FAMILIES.index("orange")) & (chroma < 30.0)
    tones = np.where(muted, np.where(lightness < 65.0, 0, 2), tones)
    named = np.array([[_NAMES.index(name) for name in _BY_LIGHTNESS[family]] for family in _FAMILIES])
    found = named[families, tones]
    return np.where((chroma < _GREY_CHROMA) | (lightness < 5.0), greys, found)
