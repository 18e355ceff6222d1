"""A recording of drums as the network wants it: mono, 44.1 kHz, in blocks, and the gain that brings it to level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from serve_app.media.decode import AudioStream
from serve_app.models.drums.audio_level import LevelMeter, to_factor
from serve_app.models.drums.bands import HOP, SAMPLE_RATE_HZ

MAX_DURATION_S = 24 * 3600.0
# Up to here the samples stay in memory (42 MB); a longer file is read twice.
_KEPT_S = 240.0


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that was read once.

    Attributes:
        duration_s: its length.
        gain: factor that brings it to the network's level.
        is_silent: whether nothing in it is louder than -90 dBFS.
        notes: what was missing or repaired, one sentence each.
        blocks: (n,) float32 each, mono at 44.1 kHz, finite, without the recording's constant offset (which would be
            a loud click at either end), gain not applied; reads the file again where it is long. A silent recording
            has none.
    """

    duration_s: float
    gain: float
    is_silent: bool
    notes: tuple[str, ...]
    blocks: Iterable[np.ndarray]

    @property
    def num_frames(self) -> int:
        """How many frames of `log_bands` it has."""
        return -(-round(self.duration_s * SAMPLE_RATE_HZ) // HOP)


def read_recording(
    source: str | Path | BinaryIO,
    *,
    max_duration_s: float = MAX_DURATION_S,
    on_block: Callable[[float], None] = lambda read_s: None,
) -> Recording:
    """Read a file of any kind to its end, and measure its level.

    All channels count alike in the mix, also what a layout calls low frequency: in a recording of drums it may be any
    microphone.

    Args:
        source: path, fsspec URL, or seekable binary file, which must stay open while `blocks` are read.
        max_duration_s: longer recordings are refused.
        on_block: called every some seconds of sound with what was read so far; may raise to give up.

    Raises:
        AudioExtractionError: the file is empty, not media, broken, without sound, or too long.
        OSError: reading failed.
    """
    stream = AudioStream(
        str(source) if isinstance(source, Path) else source,
        sample_rate_hz=SAMPLE_RATE_HZ,
        max_duration_s=max_duration_s,
        weigh=_alike,
    )
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
    return Recording(
        stream.duration_s,
        to_factor(meter.gain_db()),
        meter.is_silent,
        stream.notes,
        () if meter.is_silent else centered,
    )


@dataclass(frozen=True, slots=True)
class _Centered:
    """Blocks less their offset; as many samples as were measured, even if the file grew since."""

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


def _alike(names: Sequence[str]) -> np.ndarray:
    return np.full(len(names), 1.0 / len(names), dtype=np.float32)
