"""`master`: a rendered piece at its planned length, faded, and as loud as all others. numpy and scipy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d, uniform_filter1d

from serve_app.models.music.levels import SILENT_LUFS, as_columns, loudness_lufs, peaks

TARGET_LUFS = -14.0
CEILING_DBFS = -1.0

_CEILING = 10.0 ** ((CEILING_DBFS - 0.1) / 20.0)  # the smoothed gain moves the peaks between samples a little
_LOOK_AHEAD_S = 0.005
_MAX_GAIN = 10.0 ** (40.0 / 20.0)  # more would make noise of near silence
_CLOSE_LU = 0.1
_ROUNDS = 5
_SILENCE = 1e-3  # of the loudest frame: -60 dB
_FRAME_S = 0.01
_FADE_IN_S = 0.005
_FADE_OUT_S = 0.05
_CUT_FADE_S = 2.0  # of music that goes on
_PADDED_S = 1.0  # engines fall short of what they are asked for by up to a second


def master(audio: NDArray[np.float32], rate: int, duration_s: float) -> NDArray[np.float32]:
    """Return (n, 2) float32: -14 LUFS, no peak above -1 dBFS.

    Silence at both ends is removed. A longer piece is cut and faded over two seconds; one that is up to a second
    shorter is followed by silence; a still shorter one keeps its length. Silence, and sound that is not numbers, come
    back without gain, for the gate to refuse.

    Args:
        audio: (n,) or (n, channels).
        rate: samples a second; it is kept.
        duration_s: of the plan.
    """
    stereo = _stereo(audio)
    length = round(duration_s * rate)
    if len(stereo) < length - _PADDED_S * rate:
        length = len(stereo)
    if not np.isfinite(stereo).all():
        return stereo[:length]
    piece = np.zeros((length, 2), dtype=np.float32)
    sound = _trimmed(stereo, rate)
    if len(sound) and length:
        kept = piece[: len(sound)]
        np.subtract(sound[:length], sound[:length].mean(axis=0, dtype=np.float64), out=kept, casting="same_kind")
        _fade(kept, rate, _CUT_FADE_S if len(sound) > length else _FADE_OUT_S)
    return _loud(piece, rate)


def _stereo(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    columns = as_columns(audio)
    if columns.shape[1] == 2:
        return columns
    return np.repeat(columns.mean(axis=1, keepdims=True, dtype=np.float32), 2, axis=1)


def _trimmed(audio: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return the sound between the first and the last frame that is not silent; empty where there is none."""
    frame = max(1, round(_FRAME_S * rate))
    starts = np.arange(0, len(audio), frame)
    levels = np.maximum.reduceat(np.abs(audio).max(axis=1), starts) if len(audio) else np.zeros(0)
    if not levels.any():
        return audio[:0]
    heard = np.flatnonzero(levels > levels.max() * _SILENCE)
    return audio[heard[0] * frame : (heard[-1] + 1) * frame]


def _fade(sound: NDArray[np.float32], rate: int, fade_out_s: float) -> None:
    rise = min(round(_FADE_IN_S * rate), len(sound) // 4)
    fall = min(round(fade_out_s * rate), len(sound) // 4)
    sound[:rise] *= np.linspace(0.0, 1.0, rise, endpoint=False, dtype=np.float32)[:, None]
    sound[len(sound) - fall :] *= 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, fall, dtype=np.float32))[:, None]


def _loud(piece: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return the piece with one gain and the limiter; the gain is raised until the limited piece is loud enough."""
    heights = peaks(piece)
    gain, limited = min(_MAX_GAIN, _CEILING / max(1e-9, float(heights.max(initial=0.0)))), piece
    for _ in range(_ROUNDS):
        limited = piece * (gain * _limits(heights * gain, rate))[:, None]
        measured = loudness_lufs(limited, rate)
        if measured <= SILENT_LUFS or abs(measured - TARGET_LUFS) < _CLOSE_LU or gain >= _MAX_GAIN:
            break
        gain = min(_MAX_GAIN, gain * 10.0 ** ((TARGET_LUFS - measured) / 20.0))
    return limited


def _limits(heights: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return the limiter's gain: it falls before each peak above the ceiling, and rises after it, within 5 ms.

    The mean of minima over windows of the same reach is nowhere above what a peak allows.
    """
    allowed = np.minimum(1.0, _CEILING / np.maximum(heights, 1e-9)).astype(np.float32)
    reach = max(1, round(_LOOK_AHEAD_S * rate / 2))
    window = 2 * reach + 1
    lowest = minimum_filter1d(allowed, 2 * window - 1)
    return uniform_filter1d(uniform_filter1d(lowest, window), window)
