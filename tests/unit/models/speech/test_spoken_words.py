"""From tokens and their times to segments and words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from serve_app.models.speech.spoken_words import Span, TokenTimes, split_spans, timed_segments
from serve_app.results import Segment, Timing

END, BEGIN = 100, 200  # ids: text below 100, timestamps from 200 on
# one token a word, but 7, which continues the word before it, and marks
WORDS = {1: " one", 2: " two", 3: " three", 4: ".", 5: " (", 6: ")", 7: "ty", 8: " ", 9: " four", 10: "one"}


def at(time_s: float) -> int:
    return BEGIN + round(time_s / 0.02)


def words_of(tokens: Sequence[int]) -> list[tuple[str, int]]:
    words: list[tuple[str, int]] = []
    for token in tokens:
        if token == 7 and words:
            words[-1] = (words[-1][0] + WORDS[7], words[-1][1] + 1)
        else:
            words.append((WORDS[token], 1))
    return words


def split(tokens: Sequence[int], duration_s: float = 30.0) -> list[Span]:
    return split_spans(tokens, timestamp_begin=BEGIN, end_of_text=END, duration_s=duration_s)


def segments_of(
    spans: Sequence[Span],
    starts_s: Sequence[float],
    probabilities: Sequence[float] | None = None,
    *,
    duration_s: float = 10.0,
    offset_s: float = 0.0,
) -> tuple[Segment, ...]:
    return timed_segments(
        spans,
        TokenTimes(starts_s, probabilities or [0.5] * (len(starts_s) - 1)),
        words_of=words_of,
        text_of=lambda tokens: "".join(WORDS[token] for token in tokens),
        duration_s=duration_s,
        offset_s=offset_s,
        avg_logprob=-0.25,
        no_speech_prob=0.01,
    )


@pytest.mark.parametrize(
    ("tokens", "spans"),
    [
        ([at(0), 1, 2, at(1)], [Span(0.0, 1.0, (1, 2))]),
        ([at(0.5), 1, at(1), at(1.5), 2, at(2)], [Span(0.5, 1.0, (1,)), Span(1.5, 2.0, (2,))]),
        ([at(0), 1, at(1), at(1.5), 2], [Span(0.0, 1.0, (1,)), Span(1.5, 30.0, (2,))]),  # cut off: nothing is lost
        ([at(0), 1, at(1), at(1)], [Span(0.0, 1.0, (1,))]),  # an empty one begun
        ([1, 2], [Span(0.0, 30.0, (1, 2))]),
        ([at(0)], []),
        ([], []),
        ([at(2), 1, at(1)], [Span(2.0, 2.0, (1,))]),  # never backwards
        ([at(0), 150, 1, 150, at(1)], [Span(0.0, 1.0, (1,))]),  # control tokens are no text
    ],
)
def test_spans_are_what_stands_between_timestamps(tokens: list[int], spans: list[Span]) -> None:
    assert split(tokens) == spans


def test_spans_end_with_the_piece() -> None:
    assert split([at(0), 1, at(9), at(9.5), 2, at(12)], duration_s=4.0) == [Span(0.0, 4.0, (1,)), Span(4.0, 4.0, (2,))]


def test_words_get_their_tokens_times_and_mean_probability() -> None:
    [segment] = segments_of(
        [Span(0.0, 1.2, (1, 2, 7, 3))], [0.0, 0.4, 0.6, 0.8, 1.2], [0.9, 0.5, 0.7, 0.8], offset_s=60.0
    )
    assert segment.text == "one twoty three"
    assert (segment.start_s, segment.end_s) == (60.0, pytest.approx(61.2))
    assert (segment.avg_logprob, segment.no_speech_prob) == (-0.25, 0.01)
    assert [(word.word, word.start_s, word.end_s, word.confidence) for word in segment.words] == [
        ("one", 60.0, pytest.approx(60.4), 0.9),
        ("twoty", pytest.approx(60.4), pytest.approx(60.8), pytest.approx(0.6)),
        ("three", pytest.approx(60.8), pytest.approx(61.2), 0.8),
    ]
    assert {word.timing for word in segment.words} == {Timing.ALIGNED}


def test_marks_belong_to_their_words_without_their_times() -> None:
    [segment] = segments_of([Span(0.0, 2.0, (5, 10, 6, 2, 4))], [0.0, 0.2, 0.5, 0.6, 1.0, 2.0])
    assert [word.word for word in segment.words] == ["(one)", "two."]
    assert [(word.start_s, word.end_s) for word in segment.words] == [
        (pytest.approx(0.2), pytest.approx(0.5)),
        (pytest.approx(0.6), pytest.approx(1.0)),
    ]


def test_a_first_word_that_swallowed_the_pause_before_it_is_shortened() -> None:
    """The path begins at 0, whenever the speaker does."""
    [segment] = segments_of([Span(0.0, 4.2, (1, 2, 3))], [0.0, 3.4, 3.8, 4.2])
    assert segment.words[0].start_s == pytest.approx(2.6)  # twice the median of 0.4 s
    assert segment.words[0].end_s == pytest.approx(3.4)
    assert segment.start_s == segment.words[0].start_s


@pytest.mark.parametrize(("timestamp_s", "start_s"), [(3.1, 3.1), (0.2, 0.2), (3.3, 3.3), (3.5, 2.6)])
def test_a_first_word_does_not_begin_before_its_timestamp(timestamp_s: float, start_s: float) -> None:
    """Unless the word was over by then."""
    later = [Span(timestamp_s, 4.2, (1, 2, 3))]
    starts_s = [0.0, 0.4, 0.8, 1.2] if timestamp_s < 1 else [0.0, 3.4, 3.8, 4.2]
    [segment] = segments_of(later, starts_s)
    assert segment.start_s == segment.words[0].start_s == pytest.approx(start_s)


def test_a_last_word_that_swallowed_the_pause_after_it_ends_with_its_segment() -> None:
    [segment] = segments_of([Span(0.0, 1.4, (1, 2, 3))], [0.0, 0.4, 0.8, 5.0])
    assert segment.words[-1].end_s == pytest.approx(1.4)
    assert segment.end_s == pytest.approx(1.4)


def test_segments_and_words_stay_in_order_inside_the_piece() -> None:
    spans = [Span(0.0, 1.0, (1, 2)), Span(1.0, 2.0, (3, 9)), Span(2.0, 9.0, (1,))]
    segments = segments_of(spans, [0.0, 0.5, 0.9, 0.7, 4.0, 12.0], duration_s=3.0, offset_s=5.0)
    words = [word for segment in segments for word in segment.words]
    assert len(words) == 5
    for word in words:
        assert 5.0 <= word.start_s <= word.end_s <= 8.0
    for earlier, later in pairwise(words):
        assert earlier.end_s <= later.start_s
    for segment in segments:
        assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)


def test_a_span_of_nothing_but_blanks_is_left_out() -> None:
    segments = segments_of([Span(0.0, 1.0, (8,)), Span(1.0, 2.0, (1,))], [0.0, 1.0, 2.0])
    assert [segment.text for segment in segments] == ["one"]


def test_words_never_cross_segments() -> None:
    segments = segments_of([Span(0.0, 1.0, (1,)), Span(1.0, 2.0, (7, 2))], [0.0, 1.0, 1.5, 2.0])
    assert [[word.word for word in segment.words] for segment in segments] == [["one"], ["ty", "two"]]
