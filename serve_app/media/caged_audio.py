"""`decode_caged`, `CagedAudioStream`: a stranger's file as `media.decode` reads it, in a process of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from serve_app.errors import AudioExtractionError
from serve_app.media.cage import Cage, Limits, again_if_killed
from serve_app.media.cage_messages import NO_SENTENCE
from serve_app.media.downmix import channel_weights
from serve_app.media.samples import DecodedAudio, SampleBuffer
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.sentences import Sentence, from_json

# Blocks leave the process as they are made: it holds one of them, tables of a long file and its largest packet.
MEMORY_BYTES = 512 << 20
# To open a file, and for each second of its sound: the slowest codecs in use decode fifty times as fast as they play.
_CPU_S, _CPU_S_PER_S = 60.0, 0.1
# A busy machine gives a process a tenth of its time.
_WALL_S, _WALL_S_PER_S = 600.0, 1.0
_EXPECTED_S = 60.0


@cache
def sound_cage() -> Cage:
    """Return this process's cage for sound."""
    return Cage(AudioExtractionError, Sentence("file"), ["serve_app.media.decode"])


def decode_caged(
    source: str | bytes,
    *,
    max_duration_s: float,
    audio_track: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> DecodedAudio:
    """Return what `media.decode.decode_audio` returns.

    Args:
        source: local path, fsspec URL or a file's bytes.
        max_duration_s: longer files are refused.
        audio_track: number of the track, from 0; None: as `media.audio_tracks` chooses.
        should_stop: asked several times a second; decoding ends once it returns true.

    Raises:
        AudioExtractionError: the file is at fault, also where it ends its decoder or takes too much to decode.
        OSError: reading the source failed.
        Unavailable: the machine has no process or memory for a decoder.
        asyncio.CancelledError: `should_stop` returned true.
    """

    def attempt() -> DecodedAudio:
        buffer = SampleBuffer(int(max_duration_s * SAMPLE_RATE_HZ))
        buffer.expect(int(_EXPECTED_S * SAMPLE_RATE_HZ))
        stream = CagedAudioStream(
            source,
            sample_rate_hz=SAMPLE_RATE_HZ,
            max_duration_s=max_duration_s,
            audio_track=audio_track,
            should_stop=should_stop,
        )
        for block in stream:
            buffer.append(np.clip(block, -1.0, 1.0, out=block))
        return DecodedAudio(buffer.take(), buffer.num_samples / SAMPLE_RATE_HZ, stream.notes)

    return again_if_killed(attempt)


def length_caged(source: str, should_stop: Callable[[], bool] = lambda: False) -> float | None:
    """Return the seconds of sound that a file's header tells, without decoding it; errors as of `decode_caged`."""
    limits = Limits(memory_bytes=MEMORY_BYTES, cpu_s=_CPU_S, wall_s=_WALL_S)
    _, length_s = sound_cage().call("serve_app.media.decode:length_of", source, {}, limits, should_stop)
    return length_s if isinstance(length_s, float) and 0.0 < length_s < math.inf else None


@dataclass(frozen=True, slots=True)
class NoSound:
    """Why a file has no sound. `is_broken`: it can't be opened, so that it may be a damaged recording."""

    reason: str
    is_broken: bool


def why_no_sound(source: str | bytes) -> NoSound | None:
    """Return why a file has no sound to begin with; None where it has. A file that ends its decoder is broken.

    Raises:
        OSError: reading the source failed.
        Unavailable: the machine has no process or memory for a decoder.
    """
    limits = Limits(memory_bytes=MEMORY_BYTES, cpu_s=_CPU_S, wall_s=_WALL_S)
    try:
        _, why = sound_cage().call("serve_app.media.decode:why_no_sound", source, {}, limits)
        return None if why is None else NoSound(from_json(why["reason"]), bool(why["is_broken"]))
    except AudioExtractionError as error:
        return NoSound(error.detail, True)
    except NO_SENTENCE:
        raise _decoder_fails() from None


class CagedAudioStream:
    """What `media.decode.AudioStream` gives, decoded in a process of its own, which a slow reader holds up.

    Args:
        source: local path, fsspec URL or a file's bytes.
        sample_rate_hz: of the blocks.
        max_duration_s: longer files are refused.
        weigh: a function of a module; returns the channels' weights in the mix by their names.
        audio_track: as of `decode_caged`.
        should_stop: asked several times a second; decoding ends once it returns true.

    Attributes:
        duration_s: of the blocks so far.
        notes: as in `DecodedAudio`; complete at the end of the file.
    """

    def __init__(
        self,
        source: str | bytes,
        *,
        sample_rate_hz: int,
        max_duration_s: float,
        weigh: Callable[[Sequence[str]], np.ndarray] = channel_weights,
        audio_track: int | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source = source
        self._arguments = {
            "sample_rate_hz": sample_rate_hz,
            "max_duration_s": max_duration_s,
            "weigh": weigh,
            "audio_track": audio_track,
        }
        self._limits = Limits(
            memory_bytes=MEMORY_BYTES,
            cpu_s=_CPU_S,
            wall_s=_WALL_S,
            cpu_s_per_value=_CPU_S_PER_S / sample_rate_hz,
            wall_s_per_value=_WALL_S_PER_S / sample_rate_hz,
        )
        self._max_samples = int(max_duration_s * sample_rate_hz)
        self._sample_rate_hz = sample_rate_hz
        self._should_stop = should_stop
        self.duration_s = 0.0
        self.notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (n,) float32, mono, finite, not limited to ±1; errors as of `decode_caged`."""
        blocks = sound_cage().blocks(
            "serve_app.media.decode:sound_of", self._source, self._arguments, self._limits, self._should_stop
        )
        num_samples = 0
        while True:
            try:
                block = next(blocks)
            except StopIteration as stop:
                self.duration_s = num_samples / self._sample_rate_hz
                self.notes = _notes(stop.value)
                return
            num_samples += len(block)
            if block.ndim != 1 or block.dtype != np.float32 or num_samples > self._max_samples:
                raise _decoder_fails()
            yield block


def _notes(value: Any) -> tuple[str, ...]:
    try:
        return tuple(from_json(note) for note in value["notes"])
    except NO_SENTENCE:
        raise _decoder_fails() from None


def _decoder_fails() -> AudioExtractionError:
    return AudioExtractionError(Sentence("The {noun} can't be decoded: its decoder fails", noun=Sentence("file")))
