"""`WhisperBackend`: pieces of speech in, transcripts out, from one checkpoint. Imports nothing heavy.

A piece is at most 30 s long (Whisper's window), and its transcript depends on nothing but the piece: pieces can be
batched, spread over replicas and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.results import SpeechRegion, SpeechTask, Transcript

WHISPER_MICRO = "embedded:whisper-micro"  # there to show and test the backends, and to stand in for a real model
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
        speech: where somebody speaks, in seconds from the start of the file; None: nobody looked yet.
        likely_language: with "auto": the file's language, which the piece has unless it is surely in another.
    """

    samples: NDArray[np.float32]
    offset_s: float = 0.0
    language: str = "auto"
    prompt: str | None = None
    task: SpeechTask = SpeechTask.TRANSCRIBE
    speech: tuple[SpeechRegion, ...] | None = None
    likely_language: str | None = None


class WhisperBackend(Protocol):
    """A loaded Whisper. Calls block; one thread at a time.

    Attributes:
        name: which backend it is.
        model_version: "<backend>:<model>:<number format>", what `metadata.model_version` says.
    """

    name: BackendName
    model_version: str

    @property
    def can_detect_languages(self) -> bool:
        """Whether there is more than one language to choose from."""

    def check_language(self, language: str) -> None:
        """Raise LanguageUnsupported, saying which would do, unless the model was made for the language (or `auto`)."""

    def check_task(self, task: SpeechTask) -> None:
        """Raise TaskUnsupported, saying which model would do, unless the model was trained for the task."""

    def detect_languages(
        self, pieces: Sequence[SpeechPiece], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[dict[str, float]]:
        """Return the probability of each language for each piece, the likeliest first; errors as `transcribe`."""

    def transcribe(
        self, pieces: Sequence[SpeechPiece], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[Transcript]:
        """Return one transcript for each piece, in their order; each depends on its own piece alone.

        Every segment has words with times (cross-attention alignment) and confidences. Decoding is deterministic.

        Raises:
            GpuMemoryError: the device has no memory left; the model itself is still usable.
            ProcessingError: anything else that the model raised.
        """


def likely_language(found: Sequence[Mapping[str, float]]) -> tuple[str, float]:
    """Return the language of a file and its probability, from what was detected in several parts of it."""
    codes = {code for part in found for code in part}
    means = {code: sum(part.get(code, 0.0) for part in found) / len(found) for code in sorted(codes)}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def language_windows(pieces: Sequence[SpeechRegion], count: int = 3) -> list[SpeechRegion]:
    """Return the pieces in which a file's language is detected: spread over the file, none of them mostly silence.

    Of each third of the pieces it is the longest.
    """
    if len(pieces) <= count:
        return list(pieces)
    edges = [len(pieces) * number // count for number in range(count + 1)]
    return [max(pieces[first:stop], key=lambda piece: piece.end_s - piece.start_s) for first, stop in pairwise(edges)]


def known_languages(models: Sequence[str]) -> frozenset[str] | None:
    """Return the languages that the first of these models that loads can transcribe, as far as their names tell.

    None: one of them may be multilingual. OpenAI's English-only sizes end in `.en`, as their conversions do.
    """
    found: set[str] = set()
    for spec in models:
        name = spec.rstrip("/").rpartition("/")[2].partition("@")[0].removesuffix(".pt")
        if name == WHISPER_MICRO:
            found |= {"en", "ko"}
        elif name.endswith(".en"):
            found.add("en")
        else:
            return None
    return frozenset(found)
