"""`measure_frames`, `features_of`: volume, pitch and brightness, measured once over a file and looked up for each word.

Pitch after P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
a sampled sound", IFA Proceedings 17 (1993): autocorrelation of the windowed signal divided by that of the window,
candidates weighed by octave cost, and the cheapest path through them. Pitch and centroid share one FFT per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from serve_app.results import SAMPLE_RATE_HZ, AcousticFeatures

_OCTAVE_JUMP_COST = 0.35
_VOICED_UNVOICED_COST = 0.14  # both per 10 ms: Praat's defaults for its time step of 0.01 s
# The recursion over time runs in all stretches of the file at once. A path is independent of its start after a few
# frames; the margin on each side is 0.3 s.
_STRETCH = 256
_MARGIN = 32


def cheapest_path(pitch_hz: np.ndarray, strength: np.ndarray, unvoiced_strength: np.ndarray) -> np.ndarray:
    """Choose one candidate per frame: the cheapest path through them (Boersma 1993, equations 25-27).

    Args:
        pitch_hz: (frames, candidates), positive; any value where the strength is -inf.
        strength: (frames, candidates); -inf: no candidate.
        unvoiced_strength: (frames,) strength of the choice "unvoiced".

    Returns:
        (frames,) float32 Hz; nan: unvoiced.
    """
    num_frames, num_candidates = pitch_hz.shape
    num_stretches = -(-num_frames // _STRETCH)
    rows = np.arange(num_stretches)[:, None] * _STRETCH + np.arange(-_MARGIN, _STRETCH + _MARGIN)[None, :]
    inside = (rows >= 0) & (rows < num_frames)  # (stretches, steps); beyond the file there is neither gain nor cost
    rows = np.clip(rows, 0, num_frames - 1)
    # candidate 0 is "unvoiced"
    scores = np.concatenate((unvoiced_strength[:, None], strength), axis=1)
    octaves = np.concatenate((np.zeros((num_frames, 1), np.float32), np.log2(pitch_hz)), axis=1)
    num_choices = num_candidates + 1
    toggles = np.zeros((num_choices, num_choices), dtype=np.float32)
    toggles[0, 1:] = toggles[1:, 0] = _VOICED_UNVOICED_COST
    jumps = np.zeros((num_choices, num_choices), dtype=np.float32)
    jumps[1:, 1:] = _OCTAVE_JUMP_COST

    num_steps = rows.shape[1]
    came_from = np.zeros((num_steps, num_stretches, num_choices), dtype=np.int8)
    total = np.where(inside[:, :1], scores[rows[:, 0]], 0.0)
    before = octaves[rows[:, 0]]
    for step in range(1, num_steps):
        now = octaves[rows[:, step]]
        # (stretches, to, from)
        cost = np.abs(now[:, :, None] - before[:, None, :]) * jumps + toggles
        cost[~(inside[:, step] & inside[:, step - 1])] = 0.0
        reached = total[:, None, :] - cost
        choice = reached.argmax(axis=2)
        came_from[step] = choice
        gain = np.where(inside[:, step, None], scores[rows[:, step]], 0.0)
        total = np.take_along_axis(reached, choice[:, :, None], axis=2)[:, :, 0] + gain
        before = now

    chosen = np.zeros((num_steps, num_stretches), dtype=np.int64)
    chosen[-1] = total.argmax(axis=1)
    for step in range(num_steps - 1, 0, -1):
        chosen[step - 1] = np.take_along_axis(came_from[step], chosen[step][:, None], axis=1)[:, 0]
    kept = chosen[_MARGIN : _MARGIN + _STRETCH].T.reshape(-1)[:num_frames]
    picked = pitch_hz[np.arange(num_frames), np.maximum(kept - 1, 0)]
    return np.where(kept > 0, picked, np.nan).astype(np.float32)


HOP_S = 0.010
MIN_PITCH_HZ = 65.0  # low male voices; the window holds three periods of it (Boersma 1993, section 4)
MAX_PITCH_HZ = 500.0
FLOOR_DB = -100.0

_HOP = 160
_WINDOW = 736  # 46 ms, three periods of the lowest pitch
_FFT = 1152  # ≥ window + longest lag, so that the autocorrelation does not wrap; 2^7 × 3^2
_LAG_RATE_HZ = 8_000  # of the autocorrelation, which needs sound up to 4 kHz only: half the bins, half the lags
_LAG_FFT = _FFT * _LAG_RATE_HZ // SAMPLE_RATE_HZ
_BAND_FLAT_HZ = 1_600.0
_BAND_END_HZ = 3_000.0
_MIN_LAG = int(_LAG_RATE_HZ / MAX_PITCH_HZ)
_MAX_LAG = int(np.ceil(_LAG_RATE_HZ / MIN_PITCH_HZ))
_CANDIDATES = 4  # voiced ones per frame; Boersma keeps up to 14, of which the weaker ones never won here
_CHUNK_FRAMES = 512  # 512 × 1152 floats: fits the second-level cache, and bounds memory
_ENERGY_STEP = 16  # samples: 1 ms
_MIN_SPAN_S = 0.020  # shorter spans are widened: below two pitch periods there is nothing to measure
_MAX_PAIRS = 4_000_000  # (word, frame) pairs sorted at once

# Praat's defaults are 0.45, 0.03 of the global peak, and 0.01. loadtests/audio_features.py measured voicing and octave
# cost: with 0.01 a child's pitch in noise is halved. The silence threshold is relative to the 95th percentile of the
# frames' RMS: one click must not silence a file.
_VOICING_THRESHOLD = 0.5
_SILENCE_THRESHOLD = 0.03
_OCTAVE_COST = 0.02


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Measurements over a file, summed so that a span needs no loop. Frame i is centred on `i × HOP_S`."""

    duration_s: float
    energy: np.ndarray  # (n / 16 + 1,) float64, squared samples summed up to each millisecond
    pitch_hz: np.ndarray  # (frames,) float32, nan where unvoiced
    power: np.ndarray  # (frames + 1,) float64, spectral power summed up to each frame
    weighted_power: np.ndarray  # (frames + 1,) float64, the same times frequency in Hz


def measure_frames(samples: np.ndarray) -> FrameFeatures:
    """Measure samples (n,) float32 at 16 kHz, finite. Takes about 20 bytes of memory per millisecond."""
    num_frames = len(samples) // _HOP + 1
    power = np.zeros(num_frames)
    weighted = np.zeros(num_frames)
    lags_hz = np.zeros((num_frames, _CANDIDATES), dtype=np.float32)
    strengths = np.full((num_frames, _CANDIDATES), -np.inf, dtype=np.float32)
    rms = np.zeros(num_frames, dtype=np.float32)
    for start in range(0, num_frames, _CHUNK_FRAMES):
        part = slice(start, min(start + _CHUNK_FRAMES, num_frames))
        frames = _frames(samples, part)
        rms[part] = np.sqrt(np.einsum("ij,ij->i", frames, frames) / _WINDOW)
        spectrum = scipy.fft.rfft(frames * _HANN, n=_FFT, axis=1, workers=1)
        powers = np.square(spectrum.real) + np.square(spectrum.imag)  # (frames, bins)
        power[part] = powers.sum(axis=1)
        weighted[part] = powers @ _BIN_HZ
        lags_hz[part], strengths[part] = _pitch_candidates(powers)
    pitch_hz = cheapest_path(lags_hz, strengths, _unvoiced_strength(rms))
    return FrameFeatures(
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        energy=_energy(samples),
        pitch_hz=pitch_hz,
        power=np.concatenate(([0.0], np.cumsum(power))),
        weighted_power=np.concatenate(([0.0], np.cumsum(weighted))),
    )


def features_of(
    frames: FrameFeatures, starts_s: Sequence[float] | np.ndarray, ends_s: Sequence[float] | np.ndarray
) -> tuple[AcousticFeatures, ...]:
    """Return the features of spans, which may overlap and are clamped to the file.

    Volume is exact at whole milliseconds, and interpolated between. Spans under 20 ms are widened around their middle.
    """
    starts, ends = _widened(np.asarray(starts_s, np.float64), np.asarray(ends_s, np.float64), frames.duration_s)
    volumes_db = _volume_db(frames, starts, ends)
    # a frame belongs to the span that holds its centre
    first = np.clip(np.ceil(starts / HOP_S - 1e-6).astype(np.int64), 0, len(frames.pitch_hz))
    last = np.clip(np.ceil(ends / HOP_S - 1e-6).astype(np.int64), first, len(frames.pitch_hz))
    pitches_hz = _median_pitch_hz(frames.pitch_hz, first, last)
    power = frames.power[last] - frames.power[first]
    weighted = frames.weighted_power[last] - frames.weighted_power[first]
    # a difference of sums carries the rounding error of the loudest sound
    is_loud = (power > 1e-13 * frames.power[-1]) & (volumes_db > FLOOR_DB)
    centroids_hz = np.divide(weighted, power, out=np.full(len(power), np.nan), where=is_loud)
    return tuple(
        AcousticFeatures(volume, None if pitch != pitch else pitch, None if centroid != centroid else centroid)
        for volume, pitch, centroid in zip(volumes_db.tolist(), pitches_hz.tolist(), centroids_hz.tolist(), strict=True)
    )


_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW)).astype(np.float32)
_BIN_HZ = np.arange(_FFT // 2 + 1, dtype=np.float32) * (SAMPLE_RATE_HZ / _FFT)


# The weight of each bin in the autocorrelation falls to zero well below half the lag rate, so that no peak between two
# lags is missed; Boersma interpolates with a long sinc instead.
_TAPER = np.clip((_BAND_END_HZ - _BIN_HZ[: _LAG_FFT // 2 + 1]) / (_BAND_END_HZ - _BAND_FLAT_HZ), 0.0, 1.0)
_BAND = (np.sin(0.5 * np.pi * _TAPER) ** 2).astype(np.float32)


def _window_correlation() -> np.ndarray:
    """Return the window's autocorrelation at the lags, normalised."""
    power = np.abs(scipy.fft.rfft(_HANN, n=_FFT)) ** 2
    correlation = scipy.fft.irfft(power[: _LAG_FFT // 2 + 1], n=_LAG_FFT)[: _MAX_LAG + 2]
    return (correlation / correlation[0]).astype(np.float32)


_WINDOW_CORRELATION = _window_correlation()


def _frames(samples: np.ndarray, part: slice) -> np.ndarray:
    """Return (frames, window) centred on multiples of the hop, each without its mean; zeros beyond the file."""
    begin = part.start * _HOP - _WINDOW // 2
    end = (part.stop - 1) * _HOP + _WINDOW - _WINDOW // 2
    piece = samples[max(begin, 0) : min(end, len(samples))]
    if begin < 0 or end > len(samples):
        piece = np.pad(piece, (max(0, -begin), max(0, end - max(len(samples), max(begin, 0)))))
    view = np.lib.stride_tricks.sliding_window_view(piece, _WINDOW)[::_HOP]
    return view - view.mean(axis=1, keepdims=True)


def _pitch_candidates(powers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the strongest periodicities of each frame: Hz and strength, both (frames, candidates); -inf: none."""
    correlation = scipy.fft.irfft(powers[:, : _LAG_FFT // 2 + 1] * _BAND, n=_LAG_FFT, axis=1, workers=1)
    zero = correlation[:, :1]
    normal = correlation[:, : _MAX_LAG + 2] / np.where(zero > 0, zero, 1.0) / _WINDOW_CORRELATION
    left, middle, right = normal[:, _MIN_LAG - 1 : -2], normal[:, _MIN_LAG:-1], normal[:, _MIN_LAG + 1 :]
    is_peak = (middle > left) & (middle >= right) & (middle > 0.5 * _VOICING_THRESHOLD)
    lags = np.arange(_MIN_LAG, _MAX_LAG + 1)
    bonus = (-_OCTAVE_COST * np.log2(lags * (MIN_PITCH_HZ / _LAG_RATE_HZ))).astype(np.float32)
    scores = np.where(is_peak, middle + bonus, -np.inf)
    best = np.argpartition(scores, -_CANDIDATES, axis=1)[:, -_CANDIDATES:]  # (frames, candidates)
    before, peak, after = (np.take_along_axis(each, best, axis=1) for each in (left, middle, right))
    curvature = 2.0 * peak - before - after
    shift = 0.5 * (after - before) / np.where(curvature > 0, curvature, 1.0)
    height = peak + 0.25 * (after - before) * shift
    height = np.where(height > 1.0, 1.0 / np.maximum(height, 1.0), height)  # Praat's reflection of values above 1
    hz = (_LAG_RATE_HZ / (lags[best] + shift)).astype(np.float32)
    valid = np.isfinite(np.take_along_axis(scores, best, axis=1)) & (hz >= MIN_PITCH_HZ) & (hz <= MAX_PITCH_HZ)
    strength = height + bonus[best]
    return np.where(valid, hz, 1.0).astype(np.float32), np.where(valid, strength, -np.inf).astype(np.float32)


def _unvoiced_strength(rms: np.ndarray) -> np.ndarray:
    """Return (frames,) how strongly each frame is unvoiced: equation 23, on RMS."""
    sounding = rms[rms > 10 ** (FLOOR_DB / 20)]
    reference = float(np.percentile(sounding, 95)) if len(sounding) else 1.0
    silence = 2.0 - (rms / reference) * ((1.0 + _VOICING_THRESHOLD) / _SILENCE_THRESHOLD)
    return (_VOICING_THRESHOLD + np.maximum(0.0, silence)).astype(np.float32)


def _energy(samples: np.ndarray) -> np.ndarray:
    """Return squared samples summed up to each millisecond; the last step may be incomplete."""
    whole = len(samples) // _ENERGY_STEP * _ENERGY_STEP
    sums = np.zeros(whole // _ENERGY_STEP + 2)
    step = _ENERGY_STEP * 65_536
    for start in range(0, whole, step):
        block = samples[start : min(start + step, whole)].reshape(-1, _ENERGY_STEP)
        at = start // _ENERGY_STEP + 1
        sums[at : at + len(block)] = np.einsum("ij,ij->i", block, block, dtype=np.float64)
    rest = samples[whole:].astype(np.float64)
    sums[-1] = rest @ rest
    return np.cumsum(sums, out=sums)


def _widened(starts_s: np.ndarray, ends_s: np.ndarray, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    starts_s, ends_s = np.clip(starts_s, 0.0, duration_s), np.clip(ends_s, 0.0, duration_s)
    short = ends_s - starts_s < _MIN_SPAN_S
    middle = 0.5 * (starts_s + ends_s)
    starts_s = np.where(short, np.clip(middle - _MIN_SPAN_S / 2, 0.0, max(0.0, duration_s - _MIN_SPAN_S)), starts_s)
    ends_s = np.where(short, np.minimum(starts_s + _MIN_SPAN_S, duration_s), ends_s)
    return starts_s, ends_s


def _volume_db(frames: FrameFeatures, starts_s: np.ndarray, ends_s: np.ndarray) -> np.ndarray:
    num_samples = frames.duration_s * SAMPLE_RATE_HZ
    edges = np.minimum(np.arange(len(frames.energy)) * float(_ENERGY_STEP), num_samples)
    begin, end = starts_s * SAMPLE_RATE_HZ, ends_s * SAMPLE_RATE_HZ
    energy = np.interp(end, edges, frames.energy) - np.interp(begin, edges, frames.energy)
    mean_square = np.maximum(energy, 0.0) / np.maximum(end - begin, 1.0)
    return np.maximum(10.0 * np.log10(np.maximum(mean_square, 1e-20)), FLOOR_DB)


def _median_pitch_hz(pitch_hz: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return (words,) the median over the voiced frames in [first, last); nan where there is none."""
    voiced = np.isfinite(pitch_hz)
    values = pitch_hz[voiced]
    num_voiced = np.concatenate(([0], np.cumsum(voiced)))
    begin, count = num_voiced[first], num_voiced[last] - num_voiced[first]
    medians = np.full(len(first), np.nan)
    pairs = np.cumsum(count)
    at = 0
    while at < len(first):
        done = pairs[at - 1] if at else 0
        stop = max(at + 1, int(np.searchsorted(pairs, done + _MAX_PAIRS, side="right")))
        medians[at:stop] = _segment_medians(values, begin[at:stop], count[at:stop])
        at = stop
    return medians


def _segment_medians(values: np.ndarray, begin: np.ndarray, count: np.ndarray) -> np.ndarray:
    offsets = np.cumsum(count) - count  # where each span's values start in the gathered array
    span = np.repeat(np.arange(len(count)), count)
    gathered = values[np.arange(count.sum()) - np.repeat(offsets - begin, count)].astype(np.float64)
    ordered = gathered[np.lexsort((gathered, span))]
    medians = np.full(len(count), np.nan)
    some = count > 0
    low, high = (offsets + (count - 1) // 2)[some], (offsets + count // 2)[some]
    medians[some] = 0.5 * (ordered[low] + ordered[high])
    return medians
