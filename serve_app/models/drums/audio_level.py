"""The level at which the drum network hears music: one gain a file, found from a histogram that can be streamed.

A recording's loud strokes come to the same level whatever its gain, however much of it is silence and however it is
cut into blocks. NumPy only: training scales its songs by the same code.
"""

from __future__ import annotations

import numpy as np

FRAME = 441  # 10 ms at 44.1 kHz
TARGET_DB = -14.0  # of the loud frames; a drum's peaks then lie near full scale
_LOUD_FRACTION = 0.95
# Frames further below the loudest are pauses: how long they last must not change the gain.
_RANGE_DB = 40.0
_MAX_GAIN_DB = 60.0
_SILENCE_DB = -90.0  # about the noise of 16-bit dither
_STEP_DB = 0.5
# Float files may hold samples of any scale (also integers that were never divided by 32768).
_LOWEST_DB, _HIGHEST_DB = -200.0, 120.0


class LevelMeter:
    """Finds the gain of a signal that comes in blocks; how it is cut makes no difference."""

    def __init__(self) -> None:
        self._counts = np.zeros(round((_HIGHEST_DB - _LOWEST_DB) / _STEP_DB), dtype=np.int64)
        self._rest = np.empty(0, dtype=np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Take in the next block, (n,) float32 mono at 44.1 kHz."""
        if len(self._rest):
            samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % FRAME
        self._rest = samples[whole:].copy()
        self._counts += _histogram(samples[:whole].reshape(-1, FRAME))

    @property
    def is_silent(self) -> bool:
        """Whether nothing so far is louder than -90 dBFS, a constant offset not counted."""
        return _loudest_db(self._total()) < _SILENCE_DB

    def gain_db(self) -> float:
        """Return the gain for all that was added; 0 for silence, at most +60, without limit downwards."""
        counts = self._total()
        loudest_db = _loudest_db(counts)
        if loudest_db < _SILENCE_DB:
            return 0.0
        first = max(0, int((loudest_db - _RANGE_DB - _LOWEST_DB) / _STEP_DB))
        heard = np.cumsum(counts[first:])
        level_db = _center_db(first + int(np.searchsorted(heard, _LOUD_FRACTION * heard[-1])))
        return min(TARGET_DB - level_db, _MAX_GAIN_DB)

    def _total(self) -> np.ndarray:
        return self._counts + _histogram(self._rest[np.newaxis]) if len(self._rest) else self._counts


def level_gain(samples: np.ndarray) -> float:
    """Return the factor that brings a whole signal, (n,) float32 mono at 44.1 kHz, to the network's level."""
    meter = LevelMeter()
    meter.add(samples)
    return to_factor(meter.gain_db())


def to_factor(gain_db: float) -> float:
    """Return a gain in decibels as a factor of amplitude."""
    return float(10.0 ** (gain_db / 20.0))


def _histogram(frames: np.ndarray) -> np.ndarray:
    """Count the levels of frames (n, samples); what is constant within a frame does not count."""
    power = np.nan_to_num(frames.var(axis=1), nan=0.0)
    levels_db = 10.0 * np.log10(np.maximum(power, 1e-30))
    bins = ((np.clip(levels_db, _LOWEST_DB, _HIGHEST_DB - _STEP_DB / 2) - _LOWEST_DB) / _STEP_DB).astype(int)
    return np.bincount(bins, minlength=round((_HIGHEST_DB - _LOWEST_DB) / _STEP_DB))


def _loudest_db(counts: np.ndarray) -> float:
    used = np.flatnonzero(counts)
    return _center_db(int(used[-1])) if len(used) else _LOWEST_DB


def _center_db(index: int) -> float:
    return _LOWEST_DB + (index + 0.5) * _STEP_DB
