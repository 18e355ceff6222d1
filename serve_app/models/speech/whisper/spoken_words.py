"""`timed_words`: words with times, from tokens and their times.

Dynamic time warping assigns every instant of a window to a word, so that a word next to a pause includes the pause. Two
steps correct that: words are kept inside detected speech, and words that are too long are shortened, as in
openai-whisper (whisper/timing.py, add_word_timestamps).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from faster_whisper.transcribe import merge_punctuations

from serve_app.results import SpeechRegion

TIME_PRECISION_S = 0.02  # of the encoder's frames
SENTENCE_ENDS = ".。!！?？"
_CLOSING = "\"'”’)]}»」』"
_ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "jr.", "sr.", "vs.", "e.g.", "i.e."})
# Scripts from this character on write a syllable or a word with each sign.
_FIRST_SYLLABLE_SCRIPT = "\u2e80"
_LETTERS_PER_SYLLABLE = 2.5
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"
_LONGEST_MEDIAN_S = 0.7
# The longest a word takes: slow speech takes 0.15 s for a letter, and up to 0.6 s for the shortest words.
_SLOWEST_S_PER_LETTER = 0.15
_SHORTEST_LIMIT_S = 0.6
_LONGEST_LIMIT_S = 2.0
MAX_PAUSE_S = 1.0  # ends a sentence without punctuation: pauses inside a sentence take 0.2 to 0.4 s
MAX_SEGMENT_S = 12.0  # a longer sentence is cut at a comma or a pause: Whisper's own segments are seldom longer
_CLAUSE_ENDS = ",;:、，；：…"
_CLAUSE_BONUS_S = 0.3


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Times of a window's text tokens, from cross-attention."""

    starts_s: Sequence[float]  # (tokens + 1,) from the start of the window; the last is the end of the last token
    probabilities: Sequence[float]  # (tokens,) of each token, given those before


@dataclass(slots=True)
class SpokenWord:
    """A word in a window."""

    text: str  # with the space before it, where the language has spaces
    start_s: float  # from the start of the window
    end_s: float
    probability: float  # mean over its tokens
    avg_logprob: float = 0.0  # of the answer that has the word
    no_speech_prob: float = 0.0

    @property
    def duration_s(self) -> float:
        """Length of the word."""
        return self.end_s - self.start_s

    @property
    def longest_s(self) -> float:
        """Longest possible duration of its letters; a longer word hides speech or a pause."""
        return min(_LONGEST_LIMIT_S, max(_SHORTEST_LIMIT_S, _SLOWEST_S_PER_LETTER * self.num_letters))

    @property
    def num_letters(self) -> float:
        """Number of its letters; a sign for a syllable counts as 2.5."""
        return sum(
            _LETTERS_PER_SYLLABLE if letter >= _FIRST_SYLLABLE_SCRIPT else 1 for letter in self.text if letter.isalnum()
        )

    @property
    def ends_sentence(self) -> bool:
        """Whether its punctuation ends a sentence."""
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

    A word may still be longer than `SpokenWord.longest_s`: `shortened` comes last, after the search for gaps.

    Args:
        words_of: returns the words of tokens, each with its number of tokens.
        speech: detected in the window, in order.
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
    # join punctuation to its word; the mark's own time is not the word's
    marked: list[dict[str, Any]] = [{"word": word.text, "tokens": []} for word in words]
    merge_punctuations(marked, _PREPENDED, _APPENDED)
    for word, mark in zip(words, marked, strict=True):
        word.text = mark["word"]
    words = [word for word in words if word.text.strip()]
    now_s = 0.0
    for word in words:
        _keep_in_speech(word, speech)
        word.start_s = min(max(word.start_s, now_s), duration_s)
        word.end_s = min(max(word.end_s, word.start_s), duration_s)
        now_s = word.start_s
    for word, following in pairwise(words):
        word.end_s = min(word.end_s, following.start_s)
    return words


def shortened(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Return the words, each cut to `longest_s`.

    The first word of a sentence includes the pause before it and keeps its end; others include the pause after them.
    """
    kept = []
    begins = True
    for word in words:
        excess_s = word.duration_s - word.longest_s
        if excess_s > 0:
            start_s = word.start_s + excess_s if begins else word.start_s
            word = replace(word, start_s=start_s, end_s=start_s + word.longest_s)
        kept.append(word)
        begins = word.ends_sentence
    return kept


def _shorten_at_sentence_ends(words: Sequence[SpokenWord]) -> None:
    """Cut long words on both sides of a full stop: openai-whisper's rule."""
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


def _keep_in_speech(word: SpokenWord, speech: Sequence[SpeechRegion]) -> None:
    """Cut a word to the region that holds most of it."""
    best_s, best = 0.0, None
    for region in speech:
        overlap_s = min(word.end_s, region.end_s) - max(word.start_s, region.start_s)
        if overlap_s > best_s:
            best_s, best = overlap_s, region
    if best is not None:
        word.start_s, word.end_s = max(word.start_s, best.start_s), min(word.end_s, best.end_s)


def split_sentences(words: Sequence[SpokenWord]) -> list[list[SpokenWord]]:
    """Return the words in runs; a run ends with a sentence, before a long pause, or where it becomes too long."""
    runs: list[list[SpokenWord]] = []
    for previous, word in zip([None, *words], words, strict=False):
        if previous is None or previous.ends_sentence or word.start_s - previous.end_s >= MAX_PAUSE_S:
            runs.append([])
        runs[-1].append(word)
    return [part for run in runs for part in _at_most(run)]


def _at_most(run: list[SpokenWord]) -> list[list[SpokenWord]]:
    """Cut a run that is too long at the best sum of pause, comma and nearness to the middle."""
    length_s = run[-1].end_s - run[0].start_s
    if length_s <= MAX_SEGMENT_S or len(run) < 2:
        return [run]
    middle_s = run[0].start_s + length_s / 2

    def score(index: int) -> float:
        before, after = run[index - 1], run[index]
        pause_s = after.start_s - before.end_s
        is_clause = before.text.rstrip().endswith(tuple(_CLAUSE_ENDS))
        return pause_s + _CLAUSE_BONUS_S * is_clause - abs(after.start_s - middle_s) / length_s

    cut = max(range(1, len(run)), key=score)
    return [*_at_most(run[:cut]), *_at_most(run[cut:])]
