"""`timed_words`: words with times, from tokens and their times.

Dynamic time warping gives every instant of a window to some word, so that a word next to a pause takes the pause for a
part of itself. Two things put that right: words are kept inside the speech that voice activity detection found, and
words that are longer than any word are shortened, as openai-whisper does it (whisper/timing.py, add_word_timestamps).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from faster_whisper.transcribe import merge_punctuations

from serve_app.results import SpeechRegion

TIME_PRECISION_S = 0.02  # of the encoder's frames
SENTENCE_ENDS = ".。!！?？"
_CLOSING = "\"'”’)]}»」』"
_ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "jr.", "sr.", "vs.", "e.g.", "i.e."})
# Scripts from this character on write a syllable or a word with each sign, which takes as long as so many letters.
_FIRST_SYLLABLE_SCRIPT = "\u2e80"
_LETTERS_PER_SYLLABLE = 2.5
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"
_LONGEST_MEDIAN_S = 0.7
# What a word takes at most: spoken slowly, a letter takes 0.15 s, and the shortest words up to 0.6 s.
_SLOWEST_S_PER_LETTER = 0.15
_SHORTEST_LIMIT_S = 0.6
_LONGEST_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Where cross-attention finds the tokens of a window's text.

    Attributes:
        starts_s: (tokens + 1,) from the start of the window; the last is where the last token ends.
        probabilities: (tokens,) of each token, given those before.
    """

    starts_s: Sequence[float]
    probabilities: Sequence[float]


@dataclass(slots=True)
class SpokenWord:
    """A word in a window.

    Attributes:
        text: as it was decoded, with the space before it where the language has spaces.
        start_s: seconds from the start of the window.
        end_s: as `start_s`.
        probability: mean over its tokens.
    """

    text: str
    start_s: float
    end_s: float
    probability: float

    @property
    def duration_s(self) -> float:
        """Return how long it takes."""
        return self.end_s - self.start_s

    @property
    def longest_s(self) -> float:
        """Return how long a word of so many letters takes at most; what is longer hides speech or a pause."""
        return min(_LONGEST_LIMIT_S, max(_SHORTEST_LIMIT_S, _SLOWEST_S_PER_LETTER * self.num_letters))

    @property
    def num_letters(self) -> float:
        """Return how many letters it has; a sign that writes a syllable counts as 2.5."""
        return sum(
            _LETTERS_PER_SYLLABLE if letter >= _FIRST_SYLLABLE_SCRIPT else 1 for letter in self.text if letter.isalnum()
        )

    @property
    def ends_sentence(self) -> bool:
        """Tell whether its punctuation ends a sentence."""
        bare = self.text.strip().rstrip(_CLOSING)
        return bare.endswith(tuple(SENTENCE_ENDS)) and bare.lower() not in _ABBREVIATIONS


def timed_words(
    tokens: Sequence[int],
    times: TokenTimes,
    *,
    words_of: Callable[[Sequence[int]], list[tuple[str, int]]],
    speech: Sequence[SpeechRegion],
    duration_s: float,
) -> list[SpokenWord]:
    """Return the words of one window: in order, without overlap, inside the window.

    A word may still be longer than `SpokenWord.longest_s`: `shortened` comes last, after it was asked what is missing.

    Args:
        tokens: text tokens.
        times: of these tokens.
        words_of: from tokens to words and how many tokens each takes.
        speech: where somebody speaks in the window, in order.
        duration_s: of the window.
    """
    split = words_of(tokens)
    edges = np.cumsum([0, *(count for _, count in split)]).tolist()
    words = [
        SpokenWord(
            text,
            float(times.starts_s[start]),
            float(times.starts_s[stop]),
            float(np.mean(times.probabilities[start:stop])),
        )
        for (text, _), (start, stop) in zip(split, pairwise(edges), strict=True)
    ]
    _shorten_at_sentence_ends(words)
    words = _merged(words)
    for word in words:
        _keep_in_speech(word, speech)
    return _ordered(words, duration_s)


def shortened(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Return words none of which is longer than a word can be.

    The first word of a sentence swallows the pause before it and keeps its end; others swallow the one after them.
    """
    kept = []
    begins = True
    for word in words:
        excess_s = word.duration_s - word.longest_s
        if excess_s > 0:
            start_s = word.start_s + excess_s if begins else word.start_s
            word = SpokenWord(word.text, start_s, start_s + word.longest_s, word.probability)
        kept.append(word)
        begins = word.ends_sentence
    return kept


def _shorten_at_sentence_ends(words: Sequence[SpokenWord]) -> None:
    """Take long pauses away from the words on both sides of a full stop: openai-whisper's rule."""
    durations = [word.duration_s for word in words if word.duration_s > 0]
    if not durations:
        return
    longest_s = 2 * min(_LONGEST_MEDIAN_S, float(np.median(durations)))
    for previous, word in pairwise(words):
        if word.duration_s > longest_s:
            if word.text in SENTENCE_ENDS:
                word.end_s = word.start_s + longest_s
            elif previous.text in SENTENCE_ENDS:
                word.start_s = word.end_s - longest_s


def _merged(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Join punctuation to its word; the mark's own time is not the word's."""
    marked: list[dict[str, Any]] = [{"word": word.text, "tokens": []} for word in words]
    merge_punctuations(marked, _PREPENDED, _APPENDED)
    for word, mark in zip(words, marked, strict=True):
        word.text = mark["word"]
    return [word for word in words if word.text.strip()]


def _keep_in_speech(word: SpokenWord, speech: Sequence[SpeechRegion]) -> None:
    """Cut a word that reaches into silence down to the region that it lies in for the most part."""
    best_s, best = 0.0, None
    for region in speech:
        overlap_s = min(word.end_s, region.end_s) - max(word.start_s, region.start_s)
        if overlap_s > best_s:
            best_s, best = overlap_s, region
    if best is not None:
        word.start_s, word.end_s = max(word.start_s, best.start_s), min(word.end_s, best.end_s)


def _ordered(words: Sequence[SpokenWord], duration_s: float) -> list[SpokenWord]:
    now_s = 0.0
    for word in words:
        word.start_s = min(max(word.start_s, now_s), duration_s)
        word.end_s = min(max(word.end_s, word.start_s), duration_s)
        now_s = word.start_s
    for word, following in pairwise(words):
        word.end_s = min(word.end_s, following.start_s)
    return list(words)
