"""`DecodedAudio`, and the buffers that decoded samples are collected in. Loads no decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serve_app.errors import AudioExtractionError
from serve_app.results import SAMPLE_RATE_HZ, SpeechRegion
from serve_app.sentences import Sentence

MAX_DURATION_S = 4 * 3600.0
BLOCK_VALUES = 1 << 20  # samples × channels held before they are mixed: 11 s of 48 kHz stereo, 4 MiB
_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """The sound of a file.

    Attributes:
        samples: (n,) float32 at 16 kHz, mono, finite, within ±1. Sample 0 is the start of the file, even if the sound
            begins later.
        duration_s: n / 16000.
        notes: missing parts and repairs, one sentence each.
    """

    samples: np.ndarray
    duration_s: float
    notes: tuple[str, ...] = ()

    def cut(self, region: SpeechRegion) -> np.ndarray:
        """Return a region's samples, without a copy."""
        return self.samples[round(region.start_s * SAMPLE_RATE_HZ) : round(region.end_s * SAMPLE_RATE_HZ)]


class SampleBuffer:
    """Float32 samples that grow in place: at most 1.25 times their final size is ever in memory.

    Args:
        limit: number of samples beyond which `append` raises AudioExtractionError.
        sample_rate_hz: for the error's text.
    """

    def __init__(self, limit: int, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self._limit = limit
        self._sample_rate_hz = sample_rate_hz
        self._data = np.empty(0, dtype=np.float32)
        self.num_samples = 0

    def expect(self, num_samples: int) -> None:
        """Allocate what so many more samples need; untouched pages take no memory."""
        self._reserve(self.num_samples + num_samples)

    def append(self, samples: np.ndarray) -> None:
        end = self.num_samples + len(samples)
        if end > self._limit:
            raise _too_long(self._limit, self._sample_rate_hz)
        if end > len(self._data):
            self._reserve(max(end, int(end * _GROWTH)))
        self._data[self.num_samples : end] = samples
        self.num_samples = end

    def append_silence(self, num_samples: int) -> None:
        self.append(np.broadcast_to(np.float32(0.0), num_samples))

    def _reserve(self, num_samples: int) -> None:
        num_samples = min(num_samples, self._limit)
        if num_samples > len(self._data):
            # realloc of a large block moves pages, it does not copy them
            self._data.resize(num_samples, refcheck=False)

    def take(self) -> np.ndarray:
        """Return all samples; the buffer must not be used afterwards."""
        self._data.resize(self.num_samples, refcheck=False)
        return self._data


class SampleQueue:
    """Float32 samples that are taken while others are added; its arguments are those of `SampleBuffer`."""

    def __init__(self, limit: int, sample_rate_hz: int) -> None:
        self._limit = limit
        self._sample_rate_hz = sample_rate_hz
        self._blocks: list[np.ndarray] = []
        self.num_samples = 0

    def append(self, samples: np.ndarray) -> None:
        """Add samples; they are kept, not copied."""
        self.num_samples += len(samples)
        if self.num_samples > self._limit:
            raise _too_long(self._limit, self._sample_rate_hz)
        if len(samples):
            self._blocks.append(samples)

    def append_silence(self, num_samples: int) -> None:
        """Add zeros; they take no memory until they are used."""
        for start in range(0, num_samples, BLOCK_VALUES):
            self.append(np.broadcast_to(np.float32(0.0), min(BLOCK_VALUES, num_samples - start)))

    def take(self) -> list[np.ndarray]:
        """Return what was added since the last call."""
        taken, self._blocks = self._blocks, []
        return taken


def _too_long(limit: int, sample_rate_hz: int) -> AudioExtractionError:
    return AudioExtractionError(
        Sentence("The audio is longer than the limit of {minutes:.0f} minutes", minutes=limit / sample_rate_hz / 60)
    )
