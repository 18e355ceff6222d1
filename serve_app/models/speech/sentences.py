"""`split_sentences`: words as segments of one sentence each, as far as punctuation and pauses tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever joins transcripts needs this module, but not faster-whisper
    from serve_app.models.speech.whisper.spoken_words import SpokenWord

# A pause that ends a segment whatever the punctuation says: longer than those inside a sentence (0.2 to 0.4 s).
MAX_PAUSE_S = 1.0
# A sentence that is longer is cut at a comma or a pause: Whisper's own segments are seldom longer.
MAX_SEGMENT_S = 12.0
_CLAUSE_ENDS = ",;:、，；：…"
_CLAUSE_BONUS_S = 0.3


def split_sentences(words: Sequence[SpokenWord]) -> list[list[SpokenWord]]:
    """Return the words in runs: a run ends with a sentence, before a long pause, or where it becomes too long."""
    runs: list[list[SpokenWord]] = []
    for previous, word in zip([None, *words], words, strict=False):
        if previous is None or previous.ends_sentence or word.start_s - previous.end_s >= MAX_PAUSE_S:
            runs.append([])
        runs[-1].append(word)
    return [part for run in runs for part in _at_most(run)]


def _at_most(run: list[SpokenWord]) -> list[list[SpokenWord]]:
    """Cut a run that is too long where the best of these come together: a pause, a comma, nearness to the middle."""
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


def repeated_words(before: Sequence[str], after: Sequence[str], most: int = 5) -> int:
    """Return how many words at the start of `after` repeat the end of `before`, at most `most`.

    Words are compared in lower case without punctuation.
    """
    left, right = ([_plain(word) for word in words] for words in (before[-most:], after[:most]))
    for count in range(min(len(left), len(right)), 0, -1):
        if left[-count:] == right[:count] and any(right[:count]):
            return count
    return 0


def _plain(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalnum())
