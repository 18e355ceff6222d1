"""Colours, and which of them only held-out drawings have."""

from __future__ import annotations

import colorsys
from enum import StrEnum

import numpy as np


class Style(StrEnum):
    """What a drawing is made of: vessels, colours and surroundings to train on, or those kept for the test."""

    TRAINED = "trained"
    HELD_OUT = "held_out"


# hues of printed, painted and plastic things, 0 to 1: two ranges of the circle that do not meet
_HUES = {
    Style.TRAINED: ((0.93, 1.04), (0.20, 0.42), (0.55, 0.66)),
    Style.HELD_OUT: ((0.09, 0.16), (0.46, 0.52), (0.72, 0.86)),
}


def tinted(rng: np.random.Generator, style: Style, *, vivid: bool = True) -> np.ndarray:
    """Return a colour (3,) of one of the style's hues."""
    low, high = _HUES[style][rng.integers(len(_HUES[style]))]
    saturation = rng.uniform(0.45, 0.95) if vivid else rng.uniform(0.08, 0.4)
    value = rng.uniform(0.3, 0.95) if vivid else rng.uniform(0.65, 0.97)
    return np.array(colorsys.hsv_to_rgb(rng.uniform(low, high) % 1.0, saturation, value), np.float32)


def white(rng: np.random.Generator) -> np.ndarray:
    """Return some white: of paper, china, plastic."""
    return np.float32(rng.uniform(0.84, 0.99)) * varied(rng, (1.0, 1.0, 1.0), 0.03)


def grey(rng: np.random.Generator, low: float = 0.03, high: float = 0.9) -> np.ndarray:
    """Return a grey (3,)."""
    return np.float32(rng.uniform(low, high)) * varied(rng, (1.0, 1.0, 1.0), 0.03)


def kraft(rng: np.random.Generator) -> np.ndarray:
    """Return a brown of unbleached paper."""
    return varied(rng, (0.72, 0.55, 0.38), 0.08)


def steel(rng: np.random.Generator) -> np.ndarray:
    """Return a colour of bare steel."""
    return np.float32(rng.uniform(0.55, 0.8)) * varied(rng, (1.0, 1.0, 1.02), 0.02)


def varied(rng: np.random.Generator, colour: tuple[float, float, float] | np.ndarray, by: float) -> np.ndarray:
    """Return a colour a little off another."""
    return np.clip(np.asarray(colour, np.float32) + rng.uniform(-by, by, 3).astype(np.float32), 0.0, 1.0)
