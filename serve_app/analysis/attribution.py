"""Attribution of words to speakers: a word gets times inside its segment, and the speaker who speaks most during it.

A segment is split wherever the speaker changes, so that it has one speaker, and a single word that another throws in
("yes") keeps its speaker. Only a word that several speakers cover alike, or that lies mostly where nobody speaks, goes
to the speaker of the rest of its sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serve_app.results import Segment, SpeakerTurn, Timing, Word

# Diarization trims soft word ends and bridges breaths, recognisers stretch words into them: half a second to either
# side is still the same utterance; further away it may be anybody's.
MAX_GAP_S = 0.5
_TIE_S = 1e-6  # times come from frame grids of 10 and 17 ms; closer overlaps are equal but for float rounding
_SURE_SHARE = 0.5  # a word of which its speaker covers less is uncertain, as times at a turn's edge are
_RIVAL_SHARE = 0.8  # another speaker who covers this share of the first one's part may have spoken the word


@dataclass(frozen=True, slots=True)
class SpokenSegment:
    """A segment of one speaker; `speaker_id` is None only where diarization found nobody at all."""

    segment: Segment
    speaker_id: str | None


def attribute(segments: Iterable[Segment], turns: Sequence[SpeakerTurn]) -> tuple[SpokenSegment, ...]:
    """Time every word, give it its speaker, and split the segments where the speaker changes."""
    fitted = [fit_words(segment) for segment in segments if segment.text.strip() or segment.words]
    words = [word for segment in fitted for word in segment.words]
    sentences = np.repeat(np.arange(len(fitted)), [len(segment.words) for segment in fitted])
    speakers = assign_speakers(
        [word.start_s for word in words], [word.end_s for word in words], turns, sentences=sentences
    )
    return split_by_speaker(fitted, speakers)


def assign_speakers(
    words_start_s: ArrayLike,  # (words,)
    words_end_s: ArrayLike,  # (words,)
    turns: Sequence[SpeakerTurn],
    *,
    max_gap_s: float = MAX_GAP_S,
    sentences: NDArray[np.intp] | None = None,  # (words,)
) -> NDArray[np.object_]:
    """Return who speaks most during each word, (words,) of speaker ids.

    Of speakers who speak equally long during it, the one who began earlier. Where nobody speaks, the speaker of the
    nearest turn within `max_gap_s`; failing that, the speaker of the word nearest in time that has one, or of the
    nearest turn if no word has. So None stands only where there are no turns.

    Vectorised per speaker: the time a speaker has spoken up to t is piecewise linear in t, so a word's overlap is the
    difference of two interpolations, whatever the number of turns. O(speakers × words × log turns).

    With `sentences`, the number of each word's sentence, an uncertain word goes to the speaker of most of its
    sentence's certain words, if that one speaks during it or within `max_gap_s`.
    """
    starts = np.asarray(words_start_s, dtype=np.float64)
    ends = np.asarray(words_end_s, dtype=np.float64)
    chosen = np.full(starts.shape, -1, dtype=np.intp)  # index into `spans`
    spans: dict[str, list[tuple[float, float]]] = {}
    for turn in turns:
        if turn.end_s > turn.start_s:
            spans.setdefault(turn.speaker_id, []).append((turn.start_s, turn.end_s))
    most = np.zeros(starts.shape)  # longest overlap so far
    began = np.full(starts.shape, np.inf)  # when the speaker of that overlap began
    nearest = np.full(starts.shape, -1, dtype=np.intp)
    gap = np.full(starts.shape, np.inf)  # to the nearest turn so far
    second = np.zeros(starts.shape)  # longest overlap but one
    overlaps, gaps = [], []  # of each speaker
    for index, own in enumerate(spans.values()):
        turn_starts, turn_ends = _merged(own)
        overlap = _spoken_until(ends, turn_starts, turn_ends) - _spoken_until(starts, turn_starts, turn_ends)
        before = np.searchsorted(turn_starts, ends, side="right") - 1  # the last turn begun by the word's end
        has_before = before >= 0
        since = np.where(has_before, turn_starts[np.maximum(before, 0)], np.inf)
        second = np.maximum(np.minimum(overlap, most), second)
        tied = (overlap > _TIE_S) & (np.abs(overlap - most) <= _TIE_S) & (since < began)
        better = (overlap > most + _TIE_S) | tied
        chosen[better], most[better], began[better] = index, overlap[better], since[better]

        gap_before = np.where(has_before, np.maximum(starts - turn_ends[np.maximum(before, 0)], 0.0), np.inf)
        after = np.minimum(before + 1, len(turn_starts) - 1)
        gap_after = np.where(before + 1 < len(turn_starts), turn_starts[after] - ends, np.inf)
        closer = np.minimum(gap_before, gap_after)
        overlaps.append(overlap)
        gaps.append(closer)
        nearer = closer < gap
        nearest[nearer], gap[nearer] = index, closer[nearer]
    silent = chosen < 0
    chosen = np.where(silent & (gap <= max_gap_s), nearest, chosen)
    chosen = _fill_from_neighbours(chosen, starts, ends)
    chosen = np.where(chosen < 0, nearest, chosen)
    if sentences is not None and len(spans) > 1:
        is_sure = (most >= _SURE_SHARE * (ends - starts)) & (second < _RIVAL_SHARE * most)
        may_be = (np.array(overlaps) > _TIE_S) | (np.array(gaps) <= max_gap_s)  # (speakers, words)
        chosen = _by_sentence(chosen, sentences, is_sure, may_be, ends - starts)
    lookup = np.array([*spans, None], dtype=object)  # index -1 is nobody
    return lookup[chosen]


def split_by_speaker(
    segments: Iterable[Segment], speakers: Sequence[str | None] | NDArray[np.object_]
) -> tuple[SpokenSegment, ...]:
    """Split segments exactly where the speaker changes from one word to the next.

    Args:
        segments: each with its words; a segment without words has nobody to be attributed to and is left out.
        speakers: one for each word of all segments, in order.
    """
    parts: list[SpokenSegment] = []
    first = 0
    for segment in segments:
        own = speakers[first : first + len(segment.words)]
        first += len(segment.words)
        runs = [[index for index, _ in run] for _, run in groupby(enumerate(own), key=lambda pair: pair[1])]
        if len(runs) == 1:
            parts.append(SpokenSegment(segment, own[0]))
            continue
        texts = texts_of_parts(segment, [run[0] for run in runs])
        for text, run in zip(texts, runs, strict=True):
            words = segment.words[run[0] : run[-1] + 1]
            start_s = segment.start_s if run[0] == 0 else words[0].start_s
            end_s = segment.end_s if run[-1] == len(segment.words) - 1 else words[-1].end_s
            parts.append(SpokenSegment(Segment(start_s, end_s, text, words), own[run[0]]))
    return tuple(parts)


def fit_words(segment: Segment) -> Segment:
    """Return the segment with every word timed, inside it, in order and without overlap.

    A word whose start or end is NaN (an aligner found none) shares the time between its timed neighbours with the other
    untimed words beside it, in proportion to their letters, and is marked `Timing.INTERPOLATED`; so are the words of a
    segment that has only a text. Times outside the segment are moved to its bounds; a word that would begin before its
    predecessor begins with it, and each word ends where the next begins at the latest.
    """
    start_s, end_s = segment.start_s, max(segment.start_s, segment.end_s)
    words = segment.words or tuple(Word(token, math.nan, math.nan) for token in segment.text.split())
    given = np.array([(word.start_s, word.end_s) for word in words], dtype=np.float64).reshape(-1, 2)
    timed: NDArray[np.bool_] = np.isfinite(given[:, 0] + given[:, 1])
    times = np.clip(given, start_s, end_s)
    times[timed, 0] = np.maximum.accumulate(times[timed, 0])
    times[timed, 1] = np.maximum(times[timed, 1], times[timed, 0])
    known = np.flatnonzero(timed)
    times[known[:-1], 1] = np.minimum(times[known[:-1], 1], times[known[1:], 0])
    for is_timed, run in groupby(range(len(words)), key=lambda index: bool(timed[index])):
        if is_timed:
            continue
        untimed = list(run)
        left_s = times[untimed[0] - 1, 1] if untimed[0] else start_s
        right_s = times[untimed[-1] + 1, 0] if untimed[-1] + 1 < len(words) else end_s
        letters = np.cumsum([0] + [max(1, len(words[index].word)) for index in untimed])
        edges = left_s + (right_s - left_s) * letters / letters[-1]
        times[untimed, 0], times[untimed, 1] = edges[:-1], edges[1:]
    fitted = tuple(
        replace(
            word,
            start_s=float(times[index, 0]),
            end_s=float(times[index, 1]),
            timing=word.timing if timed[index] else Timing.INTERPOLATED,
        )
        for index, word in enumerate(words)
    )
    return Segment(start_s, end_s, segment.text, fitted)


def _by_sentence(
    chosen: NDArray[np.intp],
    sentences: NDArray[np.intp],
    is_sure: NDArray[np.bool_],
    may_be: NDArray[np.bool_],  # (speakers, words)
    durations_s: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Give uncertain words to the speaker of most of their sentence, if that one may have spoken them."""
    if not len(chosen):
        return chosen
    spoken_s = np.zeros((int(sentences[-1]) + 1, len(may_be)))  # (sentences, speakers), of sure words
    np.add.at(spoken_s, (sentences[is_sure], chosen[is_sure]), durations_s[is_sure] + _TIE_S)
    main = spoken_s.argmax(axis=1)[sentences]
    is_known = spoken_s.max(axis=1)[sentences] > 0
    moves = ~is_sure & is_known & may_be[main, np.arange(len(chosen))]
    return np.where(moves, main, chosen)


def _merged(turns: list[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return one speaker's turns as disjoint starts and ends, in order: a speaker doesn't overlap with himself."""
    spans = np.array(sorted(turns))
    furthest = np.maximum.accumulate(spans[:, 1])
    begins = np.concatenate(([True], spans[1:, 0] > furthest[:-1]))
    first = np.flatnonzero(begins)
    return spans[first, 0], np.maximum.reduceat(spans[:, 1], first)


def _spoken_until(
    times_s: NDArray[np.float64], turn_starts: NDArray[np.float64], turn_ends: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return for how long one speaker has spoken up to each time."""
    corners_s = np.column_stack((turn_starts, turn_ends)).ravel()
    spoken_s = np.cumsum(turn_ends - turn_starts)
    return np.interp(times_s, corners_s, np.column_stack((spoken_s - (turn_ends - turn_starts), spoken_s)).ravel())


def _fill_from_neighbours(
    chosen: NDArray[np.intp], starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Give each word without a speaker that of the nearest word, in time, that has one."""
    has = np.flatnonzero(chosen >= 0)
    if not len(has) or len(has) == len(chosen):
        return chosen
    position = np.searchsorted(has, np.arange(len(chosen)))
    after, before = has[np.minimum(position, len(has) - 1)], has[np.maximum(position - 1, 0)]
    use_after = (starts[after] - ends < starts - ends[before]) & (after > np.arange(len(chosen)))
    filled = np.where(use_after | (before > np.arange(len(chosen))), chosen[after], chosen[before])
    return np.where(chosen >= 0, chosen, filled)


def texts_of_parts(segment: Segment, firsts: Sequence[int]) -> list[str]:
    """Return the text of each part of a segment, given the index of each part's first word.

    Cut out of the segment's own text, which keeps its punctuation and (Chinese, Japanese) its lack of spaces.
    """
    offsets, position = [], 0
    for word in segment.words:
        found = segment.text.find(word.word, position)
        if found < 0:
            bounds = [*firsts, len(segment.words)]
            return [" ".join(word.word for word in segment.words[start:stop]) for start, stop in pairwise(bounds)]
        offsets.append(found)
        position = found + len(word.word)
    cuts = [0, *(offsets[first] for first in firsts[1:]), len(segment.text)]
    return [segment.text[start:stop].strip() for start, stop in pairwise(cuts)]
