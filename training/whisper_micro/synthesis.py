"""Any text by any voice: one interface over espeak-ng, flite and festival.

apt-get install espeak-ng flite festival festvox-kallpc16k festvox-us-slt-hts
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import soxr

from training.whisper_micro import espeak, flite_festival
from training.whisper_micro.speech import SAMPLE_RATE_HZ, MissingSynthesizerError, Raw, Span, Speech
from training.whisper_micro.voices import Family, Voice

__all__ = ["MissingSynthesizerError", "Span", "Speech", "finish", "speak"]

_MARGIN_S = 0.03  # of silence kept around the speech, in which sounds fade
_SPEAK: dict[Family, Callable[[str, Voice], Raw]] = {
    "espeak": espeak.speak,
    "flite": flite_festival.speak_flite,
    "festival": flite_festival.speak_festival,
}


def speak(text: str, language: str, voice: Voice) -> Speech:
    """Speak lower-case words without punctuation.

    Raises:
        MissingSynthesizerError: if the voice's program is not installed.
        ValueError: if the program reads the text in other words than are written.
    """
    return finish(_SPEAK[voice.family](text, voice), text, language, voice)


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
