"""Scores of a result against the truth: words, their speakers, their times.

The truth is a list of words with start, end and speaker; the result is an analysis's object, whose `word_segments` are
read. Words are compared in lower case without punctuation ("Don't" is "dont"), and aligned by the fewest substitutions,
deletions and insertions. The words' times choose between equally good alignments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

_PER_SECOND = 1e-5  # cost of a second of distance, against 1 for a wrong word: it only breaks ties
_FURTHEST_S = 5.0
_ROUNDING = 1e-9
_SPACES = re.compile(r"[\s—–-]+")  # hyphens too: "forty-two" is two words


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word in the form for comparing."""

    word: str
    start_s: float
    speaker: str | None


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one result; NaN where there are no words to compute one from.

    Attributes:
        num_words: in the truth.
        word_error_rate: substitutions, deletions and insertions over `num_words`; may exceed 1.
        word_speaker_error_rate: share of the recognized words (right or substituted) that have another speaker than in
            the truth, with speakers paired one to one as favourably as possible.
        median_word_start_error_s, p90_word_start_error_s: distances of the starts of the rightly recognized words.
    """

    num_words: int
    num_substitutions: int
    num_deletions: int
    num_insertions: int
    word_error_rate: float
    word_speaker_error_rate: float
    median_word_start_error_s: float
    p90_word_start_error_s: float


def score_result(result: Mapping[str, Any], truth: Mapping[str, Any]) -> Scores:
    """Compare a result with a truth.

    Args:
        result: with `word_segments`: word, start_time, speaker_id.
        truth: with `words`: word, start, speaker.
    """
    spoken = timed_words((word["word"], word["start"], word["speaker"]) for word in truth["words"])
    recognized = timed_words((word["word"], word["start_time"], word["speaker_id"]) for word in result["word_segments"])
    pairs = align(spoken, recognized)
    both = [(spoken[i], recognized[j]) for i, j in pairs if i is not None and j is not None]
    right = [(a, b) for a, b in both if a.word == b.word]
    num_deletions = sum(j is None for _, j in pairs)
    num_insertions = sum(i is None for i, _ in pairs)
    num_errors = len(both) - len(right) + num_deletions + num_insertions
    errors_s = np.abs([a.start_s - b.start_s for a, b in right])
    return Scores(
        num_words=len(spoken),
        num_substitutions=len(both) - len(right),
        num_deletions=num_deletions,
        num_insertions=num_insertions,
        word_error_rate=num_errors / len(spoken) if spoken else np.nan,
        word_speaker_error_rate=_speaker_errors(both) / len(both) if both else np.nan,
        median_word_start_error_s=float(np.median(errors_s)) if right else np.nan,
        p90_word_start_error_s=float(np.quantile(errors_s, 0.9)) if right else np.nan,
    )


def count_word_errors(spoken: str, recognized: str) -> tuple[int, int]:
    """Return the number of word errors between two texts, and of words in the first."""
    reference, hypothesis = (
        timed_words((word, 0.0, None) for word in _SPACES.split(text)) for text in (spoken, recognized)
    )
    pairs = align(reference, hypothesis)
    num_right = sum(i is not None and j is not None and reference[i].word == hypothesis[j].word for i, j in pairs)
    return len(pairs) - num_right, len(reference)


def count_letter_errors(spoken: str, recognized: str) -> tuple[int, int]:
    """Return the number of letter errors between two texts, and of letters in the first.

    Spaces and punctuation are left out: for languages in which nobody agrees on where words end.
    """
    return count_word_errors(*(" ".join(_SPACES.sub("", text)) for text in (spoken, recognized)))


def timed_words(words: Iterable[tuple[str, float, str | None]]) -> list[TimedWord]:
    """Return words (text, start, speaker) for comparing, without those that are all punctuation."""
    plain = ((re.sub(r"[^\w]|_", "", word.lower()), float(start), speaker) for word, start, speaker in words)
    return [TimedWord(word, start, speaker) for word, start, speaker in plain if word]


def align(spoken: Sequence[TimedWord], recognized: Sequence[TimedWord]) -> list[tuple[int | None, int | None]]:
    """Return pairs of indices into both, in order; None stands for a word with no partner."""
    words = np.array([word.word for word in recognized], dtype=object)
    starts = np.array([word.start_s for word in recognized])
    columns = np.arange(len(recognized) + 1, dtype=np.float64)
    costs = np.empty((len(spoken) + 1, len(recognized) + 1))
    pairing = np.empty((len(spoken), len(recognized)))
    costs[0] = columns
    for row, word in enumerate(spoken):
        distance_s = np.minimum(np.abs(starts - word.start_s), _FURTHEST_S)
        pairing[row] = (words != word.word) + _PER_SECOND * distance_s
        best = costs[row] + 1.0  # deletion
        best[1:] = np.minimum(best[1:], costs[row, :-1] + pairing[row])
        costs[row + 1] = np.minimum.accumulate(best - columns) + columns  # insertions, all at once
    pairs: list[tuple[int | None, int | None]] = []
    row, column = len(spoken), len(recognized)
    while row or column:
        cost = costs[row, column]
        if row and column and abs(costs[row - 1, column - 1] + pairing[row - 1, column - 1] - cost) < _ROUNDING:
            row, column = row - 1, column - 1
            pairs.append((row, column))
        elif row and abs(costs[row - 1, column] + 1.0 - cost) < _ROUNDING:
            row -= 1
            pairs.append((row, None))
        else:
            column -= 1
            pairs.append((None, column))
    return pairs[::-1]


def _speaker_errors(pairs: Sequence[tuple[TimedWord, TimedWord]]) -> int:
    """Return the number of pairs with different speakers, after the best pairing of speakers one to one."""
    spoken = {name: row for row, name in enumerate(dict.fromkeys(word.speaker for word, _ in pairs))}
    recognized = {name: column for column, name in enumerate(dict.fromkeys(word.speaker for _, word in pairs))}
    together = np.zeros((len(spoken), len(recognized)), dtype=np.int64)
    for word, found in pairs:
        together[spoken[word.speaker], recognized[found.speaker]] += found.speaker is not None
    return len(pairs) - int(together[linear_sum_assignment(together, maximize=True)].sum())
