"""Speech that needs no synthesiser: noise where a word is, with the sounds and times that it would have."""

import numpy as np

from training.whisper_micro.speech import SAMPLE_RATE_HZ, Span, Speech
from training.whisper_micro.voices import Voice

WORD_S = 0.3


def made_speech(text: str, language: str = "en", family: str = "espeak", level: float = 0.1) -> Speech:
    """Return each word as 0.3 s of noise with two sounds, "a" and "b"."""
    words = text.split()
    rng = np.random.default_rng(len(text))
    samples = level * rng.standard_normal(round(WORD_S * len(words) * SAMPLE_RATE_HZ))
    spans = [Span(word, index * WORD_S, (index + 1) * WORD_S) for index, word in enumerate(words)]
    sounds = [
        sound
        for span in spans
        for sound in (
            Span("a", span.start_s, span.start_s + WORD_S / 2),
            Span("b", span.start_s + WORD_S / 2, span.end_s),
        )
    ]
    phone_set = "espeak" if family == "espeak" else "cmu"
    return Speech(samples.astype(np.float32), tuple(spans), tuple(sounds), phone_set, language, Voice("espeak", "made"))
