"""`downmix`: samples of any type and any channels to mono float32.

Not by swresample: for float output it sums stereo without normalising, and two channels of opposite polarity cancel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SURROUND_WEIGHT = np.sqrt(0.5)  # ITU-R BS.775-3, table 2: surrounds at -3 dB against the front
_FRONT = frozenset({"FL", "FR", "FC", "FLC", "FRC", "DL", "DR", "WL", "WR"})
_LOW_FREQUENCY = frozenset({"LFE", "LFE2"})  # carries no speech
_INVERTED_BELOW = -0.9  # correlation of left and right; real stereo speech stays above about -0.3
_INT_SCALE = {"u1": (128.0, 128.0), "i2": (0.0, 2.0**15), "i4": (0.0, 2.0**31), "i8": (0.0, 2.0**63)}


def channel_weights(names: Sequence[str]) -> np.ndarray:
    """Return each channel's weight; they sum to 1, so that no mix of samples within full scale can leave it.

    `names` are FFmpeg's (FL, FR, FC, LFE, BL, …); unknown ones count as front.
    """
    known = any(name in _FRONT for name in names)
    weights = np.array(
        [0.0 if name in _LOW_FREQUENCY else 1.0 if name in _FRONT or not known else SURROUND_WEIGHT for name in names],
        dtype=np.float32,
    )
    if not weights.any():  # a file of nothing but a low-frequency channel
        weights[:] = 1.0
    return weights / weights.sum()


def equal_weights(names: Sequence[str]) -> np.ndarray:
    """Return the same weight for every channel, also for a low-frequency one; they sum to 1."""
    return np.full(len(names), 1.0 / len(names), dtype=np.float32)


def to_float(samples: np.ndarray) -> np.ndarray:
    """Scale samples of any of FFmpeg's types to float32 with full scale 1; float32 samples are returned as they are."""
    kind = samples.dtype.str[1:]
    if kind not in _INT_SCALE:
        return samples.astype(np.float32, copy=False)
    offset, scale = _INT_SCALE[kind]
    floats = samples.astype(np.float32)
    if offset:
        floats -= offset
    floats *= 1.0 / scale
    return floats


def downmix(samples: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, bool]:
    """Mix a block (channels, n) float32 to mono (n,); one side of a stereo pair in opposite polarity is negated.

    Returns:
        The mix, and whether a side was negated, which overwrites it in `samples`.
    """
    if len(samples) == 1:
        return samples[0], False
    inverted = False
    if len(samples) == 2:
        left, right = samples
        power = float(np.sqrt(np.dot(left, left)) * np.sqrt(np.dot(right, right)))
        inverted = power > 0 and float(np.dot(left, right)) < _INVERTED_BELOW * power
        if inverted:
            np.negative(right, out=right)
    return weights @ samples, inverted
