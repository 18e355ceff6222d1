"""`sound_of_answer`: a remote engine's file, decoded in a process of its own."""

from __future__ import annotations

from collections.abc import Generator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import AudioExtractionError, ProcessingError
from serve_app.media.cage import Limits
from serve_app.media.caged_audio import sound_cage
from serve_app.models.music.encoding import MAX_BYTES, MAX_S, from_audio
from serve_app.sentences import Sentence

# Of three minutes of stereo at 48 kHz, twice, and a file of the largest size.
_LIMITS = Limits(memory_bytes=512 << 20, cpu_s=60.0, wall_s=600.0)
_MAX_VALUES = int(MAX_S * 48_000) * 2


def sound_of_answer(content: bytes) -> tuple[NDArray[np.float32], int]:
    """Return what `encoding.from_audio` returns.

    Raises:
        ProcessingError: as of `from_audio`; also where the file ends its decoder, or takes too much to decode.
        Unavailable: the machine has no process or memory for a decoder.
    """
    if len(content) > MAX_BYTES:
        raise ProcessingError(
            Sentence(
                "The engine's file has {num} MiB; at most {most} MiB are read",
                num=len(content) >> 20,
                most=MAX_BYTES >> 20,
            )
        )
    blocks = sound_cage().blocks(f"{__name__}:answered_sound", content, {}, _LIMITS)
    parts: list[NDArray[np.float32]] = []
    while True:
        try:
            parts.append(next(blocks))
        except StopIteration as stop:
            rate, num_channels = (int(value) for value in stop.value)
            break
        except AudioExtractionError as error:
            raise ProcessingError(
                Sentence("The engine's answer can't be used. {reason}", reason=error.detail)
            ) from error
        if sum(map(len, parts)) > _MAX_VALUES:
            raise ProcessingError(Sentence("The engine's answer can't be decoded"))
    return np.concatenate(parts).reshape(-1, num_channels), rate


def answered_sound(file: BinaryIO) -> Generator[NDArray[np.float32], None, tuple[int, int]]:
    """Run in the cage."""
    audio, rate = from_audio(file.read())
    yield np.ascontiguousarray(audio).reshape(-1)
    return rate, audio.shape[1]
