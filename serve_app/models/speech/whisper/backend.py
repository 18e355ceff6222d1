"""`SpeechPiece`: what callers of a Whisper backend need without its libraries.

A piece is at most 30 s long (Whisper's window), and its transcript depends on the piece alone: pieces can be batched,
spread over replicas and repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from serve_app.results import SpeechRegion, SpeechTask

WHISPER_MICRO = "embedded:whisper-micro"  # for demonstrations and tests, and in place of a real model


@dataclass(frozen=True, slots=True)
class SpeechPiece:
    """One piece of a recording."""

    samples: NDArray[np.float32]  # (n,) mono at 16 kHz, at most 30 s
    offset_s: float = 0.0  # where it begins in the file; added to all times
    language: str = "auto"  # or a two-letter code
    prompt: str | None = None  # text that the piece continues, or whose spelling it shares
    task: SpeechTask = SpeechTask.TRANSCRIBE
    speech: tuple[SpeechRegion, ...] | None = None  # in seconds from the start of the file; None: not detected yet
    likely_language: str | None = None  # the file's: used with "auto" unless the piece is surely in another


def likely_language(found: Sequence[Mapping[str, float]]) -> tuple[str, float]:
    """Return the language of a file and its probability, from the probabilities in several parts of it."""
    codes = {code for part in found for code in part}
    means = {code: sum(part.get(code, 0.0) for part in found) / len(found) for code in sorted(codes)}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def language_windows(pieces: Sequence[SpeechRegion], count: int = 3) -> list[SpeechRegion]:
    """Return the pieces in which a file's language is detected: the longest of each third of the pieces."""
    if len(pieces) <= count:
        return list(pieces)
    edges = [len(pieces) * number // count for number in range(count + 1)]
    return [max(pieces[first:stop], key=lambda piece: piece.end_s - piece.start_s) for first, stop in pairwise(edges)]


def known_languages(models: Sequence[str]) -> frozenset[str] | None:
    """Return the languages of these models by their names; None where one may be multilingual.

    Names of OpenAI's English-only sizes, and of their conversions, end in `.en`.
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
