"""Held-out speech for tests, parity checks and load tests: sentences and voices that training never met; true times.

from training.whisper_micro.utterances import held_out_utterances

for utterance in held_out_utterances(20, "en", seed=1):
    utterance.samples, utterance.text, utterance.words
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.whisper_micro import grammar
from training.whisper_micro.grammar import Language, Split
from training.whisper_micro.speech import Span, Speech
from training.whisper_micro.synthesis import speak
from training.whisper_micro.voices import Family, VoiceSplit, draw_voice
from training.whisper_micro.windows import Layout, lay

Kind = Literal["grammar", "free", "mixed", "windows"]
Voices = Literal["unseen", "unseen-flite", "dev", "train", "train-flite", "train-festival"]

_VOICES: dict[str, tuple[VoiceSplit, Family]] = {
    "unseen": ("unseen", "espeak"),
    "unseen-flite": ("unseen", "flite"),
    "dev": ("dev", "espeak"),
    "train": ("train", "espeak"),
    "train-flite": ("train", "flite"),
    "train-festival": ("train", "festival"),
}
_SINGLE = Layout(lead_s=(0.1, 0.5), trail_s=(0.1, 0.6))
_SEVERAL = Layout(lead_s=(0.0, 0.8), gap_s=(0.25, 1.2), trail_s=(0.1, 0.6))
_SHARE_FREE_IN_WINDOWS = 0.25
_MOST_IN_WINDOW = 8


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech whose words and times are known.

    Attributes:
        samples: 16 kHz mono float32, at most 30 s.
        words: with `name`, `start_s` and `end_s` in the samples.
        text: the words.
        language: two-letter code.
        voices: who speaks, `FAMILY:NAME`, one for each sentence.
    """

    samples: np.ndarray
    words: tuple[Span, ...]
    text: str
    language: str
    voices: tuple[str, ...]


def held_out_utterances(
    num: int,
    language: Language,
    seed: int,
    voices: Voices = "unseen",
    kind: Kind = "grammar",
    split: Split = "test",
) -> Iterator[Utterance]:
    """Yield utterances; the same arguments yield the same ones.

    Args:
        num: how many.
        language: "en" or "ko".
        seed: of texts, voices and pauses.
        voices: "unseen" are espeak-ng's held-out variants with pitches and rates of their own, "unseen-flite" is the
            one voice of flite that training never heard (English only). The others are for comparison.
        kind: "grammar" and "free" are one sentence or word string each, "mixed" either; "windows" are 2 to 8 of them,
            each by another voice, with pauses, up to 30 s.
        split: of the sentences; "test" is looked at in reports only.

    Raises:
        MissingSynthesizerError: where the synthesiser is not installed.
        ValueError: for voices that do not speak the language.
    """
    rng = np.random.default_rng((seed, *f"{language} {voices} {kind} {split}".encode()))
    for _ in range(num):
        if kind == "windows":
            spoken = (_speak(rng, language, voices, "windows", split) for _ in itertools.count())
            window = lay(rng, itertools.islice(spoken, int(rng.integers(2, _MOST_IN_WINDOW + 1))), _SEVERAL)
        else:
            window = lay(rng, [_speak(rng, language, voices, kind, split)], _SINGLE)
        yield Utterance(
            window.samples,
            window.words,
            window.text,
            language,
            tuple(f"{speech.voice.family}:{speech.voice.name}" for speech in window.utterances),
        )


def _speak(rng: np.random.Generator, language: Language, voices: Voices, kind: Kind, split: Split) -> Speech:
    share_free = {"grammar": 0.0, "free": 1.0, "mixed": 0.5, "windows": _SHARE_FREE_IN_WINDOWS}[kind]
    text = grammar.draw(rng, language, "free" if rng.random() < share_free else "grammar", split)
    return speak(text, language, draw_voice(rng, language, *_VOICES[voices]))
