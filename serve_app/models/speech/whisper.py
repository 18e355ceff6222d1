"""What every Whisper backend is: pieces of speech in, transcripts out, from one checkpoint. Imports nothing heavy.

A piece is at most 30 s long (Whisper's window), so that one call of the model hears all of it and nothing depends on
what was heard before: pieces can be batched, spread over replicas and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.results import SpeechTask, Transcript

SAMPLE_RATE_HZ = 16_000
MAX_PIECE_S = 30.0  # Radford et al. 2022, section 2.1


class BackendName(StrEnum):
    """Names that a request's `backend` may have, in the contract's order; the embedded recogniser comes last."""

    FASTER_WHISPER = "faster-whisper"
    TRANSFORMERS = "transformers"
    OPENAI_WHISPER = "openai-whisper"
    POCKETSPHINX = "pocketsphinx"


@dataclass(frozen=True, slots=True)
class SpeechPiece:
    """One piece of a recording, as a recogniser takes it.

    Attributes:
        samples: (n,) float32 mono at 16 kHz, at most 30 s.
        offset_s: where it begins in the file; added to all times.
        language: two-letter code, or "auto".
        prompt: text that the piece continues, or whose spelling it shares.
        task: whether its words are wanted, or their translation into English.
    """

    samples: NDArray[np.float32]
    offset_s: float = 0.0
    language: str = "auto"
    prompt: str | None = None
    task: SpeechTask = SpeechTask.TRANSCRIBE


class WhisperBackend(Protocol):
    """A loaded Whisper. Calls block; one thread at a time.

    Attributes:
        name: which backend it is.
        model_version: "<backend>:<model>:<number format>", what `metadata.model_version` says.
    """

    name: BackendName
    model_version: str

    def check_language(self, language: str) -> None:
        """Raise LanguageUnsupported, saying which would do, unless the model was made for the language (or `auto`)."""
        ...

    def check_task(self, task: SpeechTask) -> None:
        """Raise TaskUnsupported, saying which model would do, unless the model was trained for the task."""
        ...

    def transcribe(
        self, pieces: Sequence[SpeechPiece], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[Transcript]:
        """Return one transcript for each piece, in their order; each depends on its own piece alone.

        Every segment has words with times (cross-attention alignment) and confidences. Decoding is deterministic.

        Raises:
            GpuMemoryError: the device has no memory left; the model itself is still usable.
            ProcessingError: anything else that the model raised.
        """
        ...
