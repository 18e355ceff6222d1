"""`Recording`: drums as the network needs them: mono, 44.1 kHz, in blocks, with the gain to the network's level.

The gain brings a recording's loud strokes to one level, whatever its own gain and however much of it is silence.
Training scales its songs by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from serve_app.media.downmix import equal_weights
from serve_app.models.drums.bands import HOP, SAMPLE_RATE_HZ

FRAME = 441  # 10 ms at 44.1 kHz
TARGET_DB = -14.0  # of the loud frames; a drum's peaks then lie near full scale
_LOUD_FRACTION = 0.95
# Frames further below the loudest are pauses: their length must not change the gain.
_RANGE_DB = 40.0
_MAX_GAIN_DB = 60.0
_SILENCE_DB = -90.0  # about the noise of 16-bit dither
_STEP_DB = 0.5
# Samples of float files may have any scale (also integers that were never divided by 32768).
_LOWEST_DB, _HIGHEST_DB = -200.0, 120.0


class LevelMeter:
    """Finds the gain of a signal that comes in blocks of any length."""

    def __init__(self) -> None:
        self._counts = np.zeros(round((_HIGHEST_DB - _LOWEST_DB) / _STEP_DB), dtype=np.int64)
        self._rest = np.empty(0, dtype=np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Add the next block, (n,) float32 mono at 44.1 kHz."""
        if len(self._rest):
            samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % FRAME
        self._rest = samples[whole:].copy()
        self._counts += _histogram(samples[:whole].reshape(-1, FRAME))

    @property
    def is_silent(self) -> bool:
        """Whether no frame is louder than -90 dBFS, without a constant offset."""
        return _loudest_db(self._total()) < _SILENCE_DB

    def gain_db(self) -> float:
        """Return the gain for the signal so far; 0 for silence, at most +60."""
        counts = self._total()
        loudest_db = _loudest_db(counts)
        if loudest_db < _SILENCE_DB:
            return 0.0
        first = max(0, int((loudest_db - _RANGE_DB - _LOWEST_DB) / _STEP_DB))
        total = np.cumsum(counts[first:])
        level_db = _center_db(first + int(np.searchsorted(total, _LOUD_FRACTION * total[-1])))
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
    """Count the levels of frames (n, samples), each less its mean."""
    power = np.nan_to_num(frames.var(axis=1), nan=0.0)
    levels_db = 10.0 * np.log10(np.maximum(power, 1e-30))
    bins = ((np.clip(levels_db, _LOWEST_DB, _HIGHEST_DB - _STEP_DB / 2) - _LOWEST_DB) / _STEP_DB).astype(int)
    return np.bincount(bins, minlength=round((_HIGHEST_DB - _LOWEST_DB) / _STEP_DB))


def _loudest_db(counts: np.ndarray) -> float:
    used = np.flatnonzero(counts)
    return _center_db(int(used[-1])) if len(used) else _LOWEST_DB


def _center_db(index: int) -> float:
    return _LOWEST_DB + (index + 0.5) * _STEP_DB


MAX_DURATION_S = 24 * 3600.0
# Up to here the samples stay in memory (42 MB); a longer file is read twice.
_KEPT_S = 240.0


class Sound(Protocol):
    """What `media.decode.AudioStream` and `media.caged_audio.CagedAudioStream` have in common."""

    duration_s: float
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that was read once.

    Attributes:
        duration_s: its length.
        gain: factor that brings it to the network's level.
        is_silent: whether no frame is louder than -90 dBFS.
        notes: what was missing or repaired, one sentence each.
        blocks: (n,) float32 each, mono at 44.1 kHz, finite, without the recording's constant offset (a loud click at
            either end), gain not applied; a long file is read again. A silent recording has none.
    """

    duration_s: float
    gain: float
    is_silent: bool
    notes: tuple[str, ...]
    blocks: Iterable[np.ndarray]

    @property
    def num_frames(self) -> int:
        """Number of frames of `log_bands`."""
        return -(-round(self.duration_s * SAMPLE_RATE_HZ) // HOP)


def read_recording(
    source: str | Path | BinaryIO,
    *,
    max_duration_s: float = MAX_DURATION_S,
    on_block: Callable[[float], None] = lambda read_s: None,
) -> Recording:
    """Read a file to its end, and measure its level.

    All channels have the same weight, also the low-frequency one: with drums it may be any microphone.

    Args:
        source: path, fsspec URL, or seekable binary file, which must stay open while `blocks` are read.
        max_duration_s: longer recordings are refused.
        on_block: called every few seconds of sound with the seconds read so far; may raise to stop.

    Raises:
        AudioExtractionError: the file is empty, not media, broken, without sound, or too long.
        OSError: reading failed.
    """
    from serve_app.media.decode import AudioStream  # here: a replica decodes in other processes, and loads no decoder

    stream = AudioStream(
        str(source) if isinstance(source, Path) else source,
        sample_rate_hz=SAMPLE_RATE_HZ,
        max_duration_s=max_duration_s,
        weigh=equal_weights,
    )
    return measured(stream, on_block)


def measured(stream: Sound, on_block: Callable[[float], None] = lambda read_s: None) -> Recording:
    """Read sound, mono at 44.1 kHz, to its end, and measure its level; arguments and errors as of `read_recording`."""
    meter = LevelMeter()
    kept: list[np.ndarray] | None = []
    num_samples, total = 0, 0.0
    for block in stream:
        meter.add(block)
        num_samples += len(block)
        total += float(block.sum(dtype=np.float64))
        if kept is not None:
            kept.append(block)
            if num_samples > _KEPT_S * SAMPLE_RATE_HZ:
                kept = None
        on_block(num_samples / SAMPLE_RATE_HZ)
    centered = _Centered(stream if kept is None else kept, total / max(num_samples, 1), num_samples)
    gain, is_silent = to_factor(meter.gain_db()), meter.is_silent
    return Recording(stream.duration_s, gain, is_silent, stream.notes, () if is_silent else centered)


@dataclass(frozen=True, slots=True)
class _Centered:
    """Blocks less their offset; as many samples as were measured, even if the file has grown since."""

    blocks: Iterable[np.ndarray]
    offset: float
    num_samples: int

    def __iter__(self) -> Iterator[np.ndarray]:
        left = self.num_samples
        for block in self.blocks:
            if left <= 0:
                return
            yield block[:left] - np.float32(self.offset)
            left -= len(block)
