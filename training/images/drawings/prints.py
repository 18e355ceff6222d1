"""What is printed, pressed or cut into surfaces of vessels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.images.drawings.solids import Seen
from training.images.drawings.vessels import Print


def printed(colour: np.ndarray, seen: Seen, what: Print) -> np.ndarray:
    """Return a surface's colours (rows, columns, 3) with a print on it."""
    azimuth = np.arctan2(seen.sides, seen.facing)
    mask = _KINDS[what.kind](seen, what, azimuth)
    if what.kind in _SHADES:
        return np.where((seen.mask & mask)[..., None], colour * 0.6 + 0.4 * what.colour, colour)
    # a print is lit like the paper under it
    lit = np.clip(0.6 + 0.45 * np.maximum(seen.facing, 0.0), 0.0, 1.0)[..., None]
    return np.where((seen.mask & mask)[..., None], what.colour * lit, colour).astype(np.float32)


def _within(seen: Seen, what: Print) -> np.ndarray:
    return (seen.heights >= what.low) & (seen.heights <= what.high) & ~seen.top


def _local(seen: Seen, what: Print, azimuth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates around the middle of a print, -1 to 1 over its height."""
    half = max((what.high - what.low) / 2, 1e-3)
    return (azimuth - what.azimuth) * 0.38 / half, (seen.heights - (what.high + what.low) / 2) / half


def _disc(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    x, y = _local(seen, what, azimuth)
    return ~seen.top & (x**2 + y**2 < 1.0)


def _text(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    x, y = _local(seen, what, azimuth)
    letters = np.sin(x * what.count * 2.2 + np.sin(x * 9.0)) > -0.2
    return ~seen.top & (np.abs(x) < 1.5) & (np.abs(y) < 0.35) & letters & (np.abs(np.sin(y * 9 + x * 5)) > 0.25)


def _band(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    return _within(seen, what)


def _leaf(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    x, y = _local(seen, what, azimuth)
    return ~seen.top & (np.abs(x) < 0.55 * (1.0 - y**2)) & (np.abs(x) > 0.05) & (np.abs(y) < 1.0)


def _dots(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    return ~seen.top & (np.sin(azimuth * what.count * 2) * np.sin(seen.heights * what.count * 5) > 0.6)


def _ribs(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    return _within(seen, what) & (np.sin(azimuth * what.count) > 0.2)


def _facets(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    return _within(seen, what) & (np.sin(azimuth * what.count) > 0.85)


def _sip(seen: Seen, what: Print, azimuth: np.ndarray) -> np.ndarray:
    """A hole in the highest face, near its edge."""
    if not seen.top.any():
        return seen.top
    rows, columns = np.nonzero(seen.top)
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    half = max((columns.max() - columns.min()) / 2, 1.0), max((rows.max() - rows.min()) / 2, 1.0)
    x = (np.arange(seen.top.shape[1]) - middle[0]) / half[0] - 0.65 * np.sin(what.azimuth)
    y = (np.arange(seen.top.shape[0]) - middle[1]) / half[1] - 0.65 * np.cos(what.azimuth)
    return seen.top & (x[None, :] ** 2 / 0.04 + y[:, None] ** 2 / 0.015 < 1.0)


_SHADES = {"ribs"}
_KINDS: dict[str, Callable[[Seen, Print, np.ndarray], np.ndarray]] = {
    "disc": _disc,
    "text": _text,
    "band": _band,
    "leaf": _leaf,
    "dots": _dots,
    "ribs": _ribs,
    "facets": _facets,
    "sip": _sip,
}
