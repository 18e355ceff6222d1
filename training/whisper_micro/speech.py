"""Speech whose words and sounds have known times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.whisper_micro.voices import Voice

SAMPLE_RATE_HZ = 16_000
PACKAGES = "espeak-ng flite festival festvox-kallpc16k festvox-us-slt-hts"


class MissingSynthesizerError(RuntimeError):
    """Raised when a synthesiser's library, program or voice is not installed; the message says how to get it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is missing: apt-get install {PACKAGES}")


@dataclass(frozen=True, slots=True)
class Span:
    """A word or a sound, and when it is spoken."""

    name: str
    start_s: float
    end_s: float

    def moved(self, offset_s: float) -> Span:
        """Return the same, later."""
        return Span(self.name, self.start_s + offset_s, self.end_s + offset_s)


@dataclass(frozen=True, slots=True)
class Speech:
    """One text, spoken: 16 kHz mono float32 without silence around it.

    Attributes:
        words: those of the text, each once and in order.
        phones: sounds in the synthesiser's own alphabet; pauses are left out.
        phone_set: "espeak", or "cmu" for flite and festival.
    """

    samples: np.ndarray
    words: tuple[Span, ...]
    phones: tuple[Span, ...]
    phone_set: str
    language: str
    voice: Voice

    @property
    def text(self) -> str:
        """Return the words."""
        return " ".join(word.name for word in self.words)


@dataclass(frozen=True, slots=True)
class Raw:
    """What a synthesiser returns: samples at its own rate, float32 within ±1."""

    samples: np.ndarray
    rate_hz: int
    words: tuple[Span, ...]
    phones: tuple[Span, ...]
