"""Cues of subtitles: the words that are shown together, for how long, and where their lines break. Pure.

A cue has at most two lines of 42 columns and lasts at most 7 s (Netflix, Timed Text Style Guide: General Requirements,
and English for the 42). A character of Chinese, Japanese or Korean takes two columns. The ends of a passage's cues are
chosen together: after a sentence rather than a clause, at a pause rather than between running words, and few full cues
rather than many short ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve_app.subtitles.passages import Passage, Token, columns, joined, tokens_of

MAX_COLUMNS = 42
MAX_LINES = 2
MIN_CUE_MS = 500
MAX_CUE_MS = 7000

_FULL_COLUMNS = 28  # a shorter cue looks cut off
_PAUSE_MS = 250  # a shorter gap is articulation, no pause of the speaker's (Goldman-Eisler 1968)
_LONG_PAUSE_MS = 1500  # the words before and after it do not belong on one screen
_SENTENCE_END = re.compile(r"[.?!…。？！｡؟।]['\"”’»)\]）」』]*$")
_CLAUSE_END = re.compile(r"[,;:、，；：،–—]['\"”’»)\]）」』]*$")

# Costs of a cue. A cut in a good place is worth one more cue, a cut between running words never is.
_CUE_COST = 1.0
_CLAUSE_COST, _PAUSE_COST, _RUNNING_COST = 0.35, 0.5, 1.2
_SHORT_COST = 0.8  # of an empty cue; in proportion of the missing columns
_SILENCE_COST = 2.5  # of a long pause inside
_COLUMNS_PER_COST = 12  # a line break's cost of 1 equals this difference between the lines


@dataclass(frozen=True, slots=True)
class Cue:
    """One or two lines that are shown at a time."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: str | None = None


def cut_into_cues(passages: Sequence[Passage], *, label_columns: int = 0) -> list[Cue]:
    """Return cues in order of time that don't overlap; together they hold every word once, in order.

    Each lasts 0.5 to 7 s. Where people talk at once, a cue ends early or begins late for the sake of the other.
    `label_columns` are left free on a cue's first line, for a speaker's name.
    """
    first_columns = max(MAX_COLUMNS - label_columns, MAX_COLUMNS // 2)
    cues: list[Cue] = []
    for passage in passages:
        tokens = tokens_of(passage, first_columns)
        start_ms = 0
        for first, end in _cuts(tokens, first_columns):
            chosen = tokens[first:end]
            # never before the cue that comes first in the text
            start_ms = max(start_ms, chosen[0].start_ms)
            cues.append(Cue(start_ms, chosen[-1].end_ms, _lines(chosen, first_columns), passage.speaker))
    return _one_after_another(sorted(cues, key=lambda cue: cue.start_ms))


def _cuts(tokens: Sequence[Token], first_columns: int) -> list[tuple[int, int]]:
    """Return the cheapest division of tokens into cues, as half-open ranges: a shortest path over all cuts."""
    num = len(tokens)
    breaks = [_break_cost(token, tokens[i + 1] if i + 1 < num else None) for i, token in enumerate(tokens)]
    cheapest = [0.0] + [float("inf")] * num
    before = [0] * (num + 1)
    for first in range(num):
        num_columns, num_silences, line, line_columns = 0, 0, 1, 0
        for index in range(first, num):
            token = tokens[index]
            num_columns += token.columns
            needed = token.columns + (token.spaced and line_columns > 0)
            if line_columns + needed > (first_columns if line == 1 else MAX_COLUMNS):
                line, line_columns, needed = line + 1, 0, token.columns
            line_columns += needed
            if index > first:
                num_silences += token.start_ms - tokens[index - 1].end_ms >= _LONG_PAUSE_MS
                if line > MAX_LINES or token.end_ms - tokens[first].start_ms > MAX_CUE_MS:
                    break
            shortness = max(0.0, 1 - num_columns / _FULL_COLUMNS)
            cost = _CUE_COST + _SILENCE_COST * num_silences + _SHORT_COST * shortness + breaks[index]
            if cheapest[first] + cost < cheapest[index + 1]:
                cheapest[index + 1], before[index + 1] = cheapest[first] + cost, first
    ranges, end = [], num
    while end:
        ranges.append((before[end], end))
        end = before[end]
    return ranges[::-1]


def _break_cost(last: Token, following: Token | None) -> float:
    if following is None or _SENTENCE_END.search(last.text):
        return 0.0
    pause_ms = following.start_ms - last.end_ms
    if pause_ms >= _LONG_PAUSE_MS:
        return 0.0
    if _CLAUSE_END.search(last.text):
        return _CLAUSE_COST
    return _PAUSE_COST if pause_ms >= _PAUSE_MS else _RUNNING_COST


def _lines(tokens: Sequence[Token], first_columns: int) -> tuple[str, ...]:
    """Return a cue's lines: one where that fits, else two, broken in a good place near the middle."""
    whole = joined(tokens)
    if columns(whole) <= first_columns:
        return (whole,)
    ways = []
    for index in range(1, len(tokens)):
        upper, lower = joined(tokens[:index]), joined(tokens[index:])
        if columns(upper) <= first_columns and columns(lower) <= MAX_COLUMNS:
            cost = _COLUMNS_PER_COST * _break_cost(tokens[index - 1], tokens[index])
            ways.append((cost + abs(columns(upper) - columns(lower)), (upper, lower)))
    return min(ways)[1]  # there is one: `_cuts` makes cues that two lines hold


def _one_after_another(cues: Sequence[Cue]) -> list[Cue]:
    """Return cues, ordered by start, that last long enough, not too long, and don't overlap."""
    shown: list[Cue] = []
    for number, cue in enumerate(cues):
        start_ms = max(cue.start_ms, shown[-1].end_ms if shown else 0)
        end_ms = min(max(cue.end_ms, start_ms + MIN_CUE_MS), start_ms + MAX_CUE_MS)
        if number + 1 < len(cues):
            end_ms = min(end_ms, max(cues[number + 1].start_ms, start_ms + MIN_CUE_MS))
        shown.append(replace(cue, start_ms=start_ms, end_ms=end_ms))
    return shown
