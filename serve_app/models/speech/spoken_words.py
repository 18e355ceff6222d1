"""Tokens and their times to segments of words.

The treatment of words at pauses is openai-whisper's (whisper/timing.py, add_word_timestamps), on times that count from
the start of the piece: dynamic time warping gives every instant to some word, so that words next to a pause swallow it.
One thing differs: no segment's first word begins before the segment's timestamp, which openai-whisper believes only
where the two are more than 0.5 s apart. On whisper-micro that took the error of first words' starts from 366 to 9 ms
(median of 14 held-out utterances, provisional weights, 2026-11-20).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from faster_whisper.transcribe import merge_punctuations

from serve_app.results import Segment, Word

TIME_PRECISION_S = 0.02  # of timestamp tokens and of the encoder's frames
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"
_SENTENCE_ENDS = ".。!！?？"
_LONGEST_MEDIAN_S = 0.7
_LARGE_GAP_S = 0.5  # between a segment's end and its last word's, above which the timestamp is believed


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text tokens between two timestamps, in seconds from the start of the piece."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Where cross-attention finds the tokens of a piece's text.

    Attributes:
        starts_s: (tokens + 1,) from the start of the piece; the last is where the last token ends.
        probabilities: (tokens,) of each token, given those before.
    """

    starts_s: Sequence[float]
    probabilities: Sequence[float]


@dataclass(slots=True)
class _Timed:
    word: str
    start_s: float
    end_s: float
    probability: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def split_spans(tokens: Sequence[int], *, timestamp_begin: int, end_of_text: int, duration_s: float) -> list[Span]:
    """Cut an answer at its timestamps. Text behind the last timestamp is a span that goes on to the end of the piece.

    faster-whisper's batched pipeline drops such text, and openai-whisper decodes it again from there: a piece is heard
    once, and nothing that was understood is lost.
    """
    spans: list[Span] = []
    start_s = 0.0
    text: list[int] = []
    for token in tokens:
        if token >= timestamp_begin:
            time_s = min((token - timestamp_begin) * TIME_PRECISION_S, duration_s)
            if text:
                spans.append(Span(start_s, max(start_s, time_s), tuple(text)))
                text = []
            start_s = max(start_s, time_s)
        elif token < end_of_text:
            text.append(token)
    if text:
        spans.append(Span(start_s, duration_s, tuple(text)))
    return spans


def timed_segments(
    spans: Sequence[Span],
    times: TokenTimes,
    *,
    words_of: Callable[[Sequence[int]], list[tuple[str, int]]],
    text_of: Callable[[Sequence[int]], str],
    duration_s: float,
    offset_s: float,
    avg_logprob: float,
    no_speech_prob: float,
) -> tuple[Segment, ...]:
    """Return a segment for each span with text: ordered, without overlap, inside the piece, moved by `offset_s`.

    Args:
        spans: from `split_spans`.
        times: of all spans' tokens, one after the other.
        words_of: from tokens to words and how many tokens each takes.
        text_of: from tokens to text.
        duration_s: of the piece.
        offset_s: where the piece begins in the file.
        avg_logprob: of the piece's answer.
        no_speech_prob: of the piece.
    """
    per_span, first = [], 0
    for span in spans:
        per_span.append(_words_of_span(words_of(span.tokens), times, first))
        first += len(span.tokens)
    everything = [word for words in per_span for word in words]
    durations = [word.duration_s for word in everything if word.duration_s > 0]
    median_s = min(_LONGEST_MEDIAN_S, float(np.median(durations))) if durations else 0.0
    if durations:
        _shorten_at_sentence_ends(everything, 2 * median_s)
    segments: list[Segment] = []
    now_s = 0.0  # nothing may begin earlier
    for span, words in zip(spans, per_span, strict=True):
        kept = _merged(words)
        if not kept:
            continue
        _shorten_at_pause(kept, span, median_s, now_s)
        placed = _placed(kept, now_s, duration_s, offset_s)
        text = text_of(span.tokens).strip()
        segments.append(Segment(placed[0].start_s, placed[-1].end_s, text, placed, avg_logprob, no_speech_prob))
        now_s = placed[-1].end_s - offset_s
    return tuple(segments)


def _words_of_span(words: Sequence[tuple[str, int]], times: TokenTimes, first: int) -> list[_Timed]:
    edges = first + np.cumsum([0, *(count for _, count in words)])
    return [
        _Timed(
            word,
            float(times.starts_s[start]),
            float(times.starts_s[stop]),
            float(np.mean(times.probabilities[start:stop])),
        )
        for (word, _), (start, stop) in zip(words, pairwise(edges.tolist()), strict=True)
    ]


def _shorten_at_sentence_ends(words: Sequence[_Timed], longest_s: float) -> None:
    for previous, word in pairwise(words):
        if word.duration_s > longest_s:
            if word.word in _SENTENCE_ENDS:
                word.end_s = word.start_s + longest_s
            elif previous.word in _SENTENCE_ENDS:
                word.start_s = word.end_s - longest_s


def _merged(words: Sequence[_Timed]) -> list[_Timed]:
    """Join punctuation to its word; the mark's own time is not the word's."""
    marked: list[dict[str, Any]] = [{"word": word.word, "tokens": []} for word in words]
    merge_punctuations(marked, _PREPENDED, _APPENDED)
    for word, mark in zip(words, marked, strict=True):
        word.word = mark["word"]
    return [word for word in words if word.word.strip()]


def _shorten_at_pause(words: list[_Timed], span: Span, median_s: float, now_s: float) -> None:
    """Take the pause before a segment away from its first words, and the pause after it from its last one."""
    longest_s = 2 * median_s
    first, last = words[0], words[-1]
    two_are_long = len(words) > 1 and words[1].end_s - first.start_s > 2 * longest_s
    if first.end_s - now_s > 4 * median_s and (first.duration_s > longest_s or two_are_long):
        if len(words) > 1 and words[1].duration_s > longest_s:
            first.end_s = words[1].start_s = max(words[1].end_s / 2, words[1].end_s - longest_s)
        first.start_s = max(0.0, first.end_s - longest_s)
    if first.start_s < span.start_s < first.end_s:
        first.start_s = span.start_s
    if span.end_s > last.start_s and span.end_s + _LARGE_GAP_S < last.end_s:
        last.end_s = max(last.start_s + median_s, span.end_s)


def _placed(words: Sequence[_Timed], now_s: float, duration_s: float, offset_s: float) -> tuple[Word, ...]:
    starts: list[float] = np.maximum.accumulate(np.clip([word.start_s for word in words], now_s, duration_s)).tolist()
    ends = [max(start, min(word.end_s, duration_s)) for word, start in zip(words, starts, strict=True)]
    ends = [min(end, following) for end, following in zip(ends, [*starts[1:], duration_s], strict=True)]
    return tuple(
        Word(word.word.strip(), offset_s + start, offset_s + end, min(1.0, max(0.0, word.probability)))
        for word, start, end in zip(words, starts, ends, strict=True)
    )
