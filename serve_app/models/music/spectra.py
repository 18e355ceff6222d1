"""Onsets, tempo, pitch classes and flatness of sound, in numpy: librosa compiles for seconds and takes memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import get_window

HOPS_PER_S = 100  # of `band_levels` and `novelty`
_NUM_OCTAVES = 10  # centres from 31.5 Hz to 16 kHz

_BLOCK_FRAMES = 64
_WINDOW_S = 0.0464
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 16_000.0
_NUM_BANDS = 36
_RANGE_DB = 80.0
_ONSET_HEIGHT = 0.07  # as librosa's, of the highest
_ONSET_REACH = 3  # hops
_MEAN_REACH = 10
_SLOWEST_BPM, _FASTEST_BPM = 40.0, 220.0
_USUAL_BPM = 110.0
_PITCH_WINDOW_S = 0.1858
_PITCH_LOWEST_HZ, _PITCH_HIGHEST_HZ = 130.0, 2_000.0

Floats = NDArray[np.float64]


def octave_levels_db(sound: NDArray[np.float32], rate: int) -> Floats:
    """Return the power of each octave of mono sound below half the rate, in dB of the loudest one."""
    size = round(_PITCH_WINDOW_S * rate)
    frequencies = np.fft.rfftfreq(size, 1.0 / rate)
    power = sum(np.square(spectra).sum(axis=0) for spectra in _spectra(sound, size, size // 2))
    centres = 1_000.0 * 2.0 ** np.arange(-5, _NUM_OCTAVES - 5)
    edges = np.searchsorted(frequencies, np.append(centres[centres < rate / 2], rate) / 2**0.5)
    totals = np.add.reduceat(power, edges[:-1])
    return 10.0 * np.log10(np.maximum(totals / max(totals.max(), 1e-30), 1e-12))


def band_levels(sound: NDArray[np.float32], rate: int) -> tuple[Floats, Floats]:
    """Return the levels of 36 bands, (frames, 36) in dB, and the spectral flatness, (frames,) from 0 to 1."""
    size = round(_WINDOW_S * rate)
    frequencies = np.fft.rfftfreq(size, 1.0 / rate)
    highest_hz = min(_HIGHEST_HZ, 0.45 * rate)
    edges = np.searchsorted(frequencies, np.geomspace(_LOWEST_HZ, highest_hz, _NUM_BANDS + 1))
    edges = np.maximum.accumulate(np.maximum(edges, edges[0] + np.arange(len(edges))))
    edges = np.minimum(edges, len(frequencies) - 1)
    levels, flatness = [], []
    for spectra in _spectra(sound, size, rate // HOPS_PER_S):
        power = np.square(spectra) + 1e-12
        levels.append(np.add.reduceat(power, edges[:-1], axis=1))
        flatness.append(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1))
    powers = np.concatenate(levels)
    decibels = 10.0 * np.log10(np.maximum(powers, powers.max() * 10.0 ** (-_RANGE_DB / 10.0)))
    return decibels, np.concatenate(flatness)


def novelty(levels: Floats) -> Floats:
    """Return (frames,): how much the bands rise at each frame, 1 at most."""
    rises = np.maximum(0.0, levels[1:] - levels[:-1]).mean(axis=1)
    curve = np.concatenate(([0.0], rises))
    return curve / max(curve.max(), 1e-9) if curve.max() > 0.1 else np.zeros(len(curve))


def onsets(curve: Floats) -> NDArray[np.intp]:
    """Return the frames where a sound begins: peaks of `novelty` above its local mean (Böck et al., DAFx 2012)."""
    is_peak = (curve == maximum_filter1d(curve, 2 * _ONSET_REACH + 1)) & (
        curve >= uniform_filter1d(curve, 2 * _MEAN_REACH + 1) + _ONSET_HEIGHT
    )
    found = np.flatnonzero(is_peak)
    return found[np.concatenate(([True], np.diff(found) > _ONSET_REACH))] if len(found) else found


def tempo_bpm(curve: Floats) -> float:
    """Return the likeliest tempo of `novelty` between 40 and 220 quarter notes a minute; 0 where nothing repeats.

    The period whose first four multiples have the highest autocorrelation, with a preference for 110 (Ellis 2007).
    """
    centred = curve - curve.mean()
    size = next_fast_len(2 * len(centred), real=True)
    repeats = irfft(np.square(np.abs(rfft(centred, size))), size)[: len(centred)]
    if len(repeats) < 2 * HOPS_PER_S or repeats[0] <= 1e-9:
        return 0.0
    repeats = repeats / repeats[0]
    tempos = np.arange(_SLOWEST_BPM, _FASTEST_BPM, 0.25)
    lags = 60.0 * HOPS_PER_S / tempos
    multiples = np.arange(1, 5)
    values = np.interp(lags[:, None] * multiples, np.arange(len(repeats)), repeats, right=0.0)
    likely = np.exp(-0.5 * np.square(np.log2(tempos / _USUAL_BPM)))
    return float(tempos[int(np.argmax(values.mean(axis=1) * likely))])


def pitch_classes(sound: NDArray[np.float32], rate: int) -> Floats:
    """Return (12,), C first: the share of each pitch class in the spectral peaks from 130 Hz to 2 kHz."""
    size = round(_PITCH_WINDOW_S * rate)
    frequencies = np.fft.rfftfreq(size, 1.0 / rate)
    first, last = np.searchsorted(frequencies, (_PITCH_LOWEST_HZ, _PITCH_HIGHEST_HZ))
    classes = np.rint(69 + 12 * np.log2(frequencies[first:last] / 440.0)).astype(int) % 12
    totals = np.zeros(12)
    for spectra in _spectra(sound, size, size // 2):
        inner = spectra[:, first:last]
        is_peak = (inner > spectra[:, first - 1 : last - 1]) & (inner >= spectra[:, first + 1 : last + 1])
        heights = np.where(is_peak, inner, 0.0)
        heights[heights < 0.05 * heights.max(axis=1, keepdims=True, initial=1e-9)] = 0.0
        totals += np.bincount(classes, weights=heights.sum(axis=0), minlength=12)
    return totals / max(totals.sum(), 1e-9)


def _spectra(sound: NDArray[np.float32], size: int, hop: int) -> Iterator[NDArray[np.float32]]:
    """Yield magnitudes, (frames, size // 2 + 1), of blocks of Hann windows."""
    padded = np.pad(sound, (size // 2, size - size // 2))
    window = get_window("hann", size).astype(np.float32) * (2.0 / size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    for start in range(0, len(frames), _BLOCK_FRAMES):
        yield np.abs(rfft(frames[start : start + _BLOCK_FRAMES] * window, axis=1))
