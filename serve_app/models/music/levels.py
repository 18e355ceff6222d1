"""Levels of sound: loudness after ITU-R BS.1770-4, and peaks between the samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

SILENT_LUFS = -70.0  # the absolute gate of BS.1770: nothing below it is counted
_SILENT_DBFS = -120.0

_OVERSAMPLING = 4  # as BS.1770-4, Annex 2
_BLOCK = 1 << 16
_MARGIN = 32  # samples that the interpolation reaches beyond a block


def as_columns(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, channels) float32 of (n,) or (n, channels)."""
    columns = np.asarray(audio, dtype=np.float32)
    return columns[:, None] if columns.ndim == 1 else columns


def decibels(amplitude: float, floor: float = _SILENT_DBFS) -> float:
    """Return 20 log10 of an amplitude; `floor` for silence."""
    return max(floor, 20.0 * math.log10(amplitude)) if amplitude > 0.0 else floor


def loudness_lufs(audio: NDArray[np.float32], rate: int) -> float:
    """Return the integrated loudness of (n, channels); -70 for silence and for less than 0.4 s."""
    from pyloudnorm import Meter

    meter = Meter(rate)
    if len(audio) <= meter.block_size * rate:
        return SILENT_LUFS
    return max(SILENT_LUFS, float(meter.integrated_loudness(audio)))


def peaks(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n,): at each sample, the largest magnitude of any channel up to the next one, four times oversampled."""
    found = np.zeros(len(audio), dtype=np.float32)
    for start in range(0, len(audio), _BLOCK):
        end = min(start + _BLOCK, len(audio))
        first = max(0, start - _MARGIN)
        block = resample_poly(audio[first : end + _MARGIN], _OVERSAMPLING, 1, axis=0)
        inner = np.abs(block[(start - first) * _OVERSAMPLING :][: (end - start) * _OVERSAMPLING]).max(axis=1)
        found[start:end] = inner.reshape(end - start, _OVERSAMPLING).max(axis=1)
    return found
