"""Speech with the times of its words and sounds: one interface over espeak-ng, flite and festival.

apt-get install espeak-ng flite festival festvox-kallpc16k festvox-us-slt-hts
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import soxr

from training.whisper_micro.voices import Voice

SAMPLE_RATE_HZ = 16_000
PACKAGES = "espeak-ng flite festival festvox-kallpc16k festvox-us-slt-hts"
_MARGIN_S = 0.03  # of silence kept around the speech, in which sounds fade


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


def speak(text: str, language: str, voice: Voice) -> Speech:
    """Speak lower-case words without punctuation.

    Raises:
        MissingSynthesizerError: if the voice's program is not installed.
        ValueError: if the program reads the text in other words than are written.
    """
    raw = _backend(voice.family)(text, voice)
    return finish(raw, text, language, voice)


def finish(raw: Raw, text: str, language: str, voice: Voice) -> Speech:
    """Trim to the speech, play at the voice's speed, bring to 16 kHz."""
    if [word.name for word in raw.words] != text.split():
        raise ValueError(f"{voice.family} reads {text!r} as {[word.name for word in raw.words]}")
    start_s = max(0.0, min(raw.phones[0].start_s, raw.words[0].start_s) - _MARGIN_S)
    end_s = max(raw.phones[-1].end_s, raw.words[-1].end_s) + _MARGIN_S
    cut = raw.samples[round(start_s * raw.rate_hz) : round(end_s * raw.rate_hz)]
    samples = soxr.resample(cut, raw.rate_hz * voice.speed, SAMPLE_RATE_HZ).astype(np.float32)

    def played(span: Span) -> Span:
        return replace(span, start_s=(span.start_s - start_s) / voice.speed, end_s=(span.end_s - start_s) / voice.speed)

    return Speech(
        samples,
        tuple(map(played, raw.words)),
        tuple(map(played, raw.phones)),
        "espeak" if voice.family == "espeak" else "cmu",
        language,
        voice,
    )


def _backend(family: str) -> Callable[[str, Voice], Raw]:
    from training.whisper_micro import espeak, flite_festival  # they import this module's types

    return {"espeak": espeak.speak, "flite": flite_festival.speak_flite, "festival": flite_festival.speak_festival}[
        family
    ]
