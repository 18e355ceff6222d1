"""Which speech has no words."""

from __future__ import annotations

import time

import pytest

from serve_app.models.speech.coverage import Gap, find_gaps, speech_without_words
from serve_app.models.speech.whisper.spoken_words import SpokenWord
from serve_app.results import SpeechRegion


def speech(*spans: tuple[float, float]) -> list[SpeechRegion]:
    return [SpeechRegion(start_s, end_s) for start_s, end_s in spans]


def words(*spans: tuple[float, float]) -> list[SpokenWord]:
    return [SpokenWord(" word", start_s, end_s, 0.9) for start_s, end_s in spans]


def gap(start_s: float, end_s: float, first: int, stop: int | None = None) -> Gap:
    return Gap(pytest.approx(start_s), pytest.approx(end_s), first, first if stop is None else stop)


def test_words_all_over_the_speech_leave_no_gap() -> None:
    assert find_gaps(words((0.1, 0.5), (0.6, 1.0), (1.5, 2.0)), speech((0.0, 2.1))) == []
    assert find_gaps([], []) == []
    assert find_gaps(words((0.0, 0.5)), []) == []


@pytest.mark.parametrize(
    ("spoken", "regions", "expected"),
    [
        pytest.param([(0, 0.5), (5, 5.5)], [(0, 5.5)], [gap(0.5, 5.0, 1)], id="in the middle"),
        pytest.param([(5, 5.5)], [(0, 5.5)], [gap(0.0, 5.0, 0)], id="at the start"),
        pytest.param([(0, 0.5)], [(0, 9)], [gap(0.5, 9.2, 1)], id="at the end"),
        pytest.param([], [(2, 9)], [gap(1.8, 9.2, 0)], id="no word at all"),
        pytest.param([(3, 3.5)], [(0, 6)], [gap(0, 3, 0), gap(3.5, 6.2, 1)], id="two"),
        # margins around the speech, but none into a word
        pytest.param([(0, 0.5), (9, 9.5)], [(0, 0.6), (3, 6), (8.9, 9.5)], [gap(2.8, 6.2, 1)], id="between pauses"),
        # breaths between two words add up
        pytest.param([(0, 0.5), (9, 9.5)], [(0, 0.5), (2, 2.6), (4, 4.6)], [gap(1.8, 4.8, 1)], id="parts"),
    ],
)
def test_gaps(spoken: list[tuple[float, float]], regions: list[tuple[float, float]], expected: list[Gap]) -> None:
    assert find_gaps(words(*spoken), speech(*regions)) == expected


@pytest.mark.parametrize(("pause_s", "num_gaps"), [(1.25, 0), (1.35, 1)])
def test_less_than_a_second_beside_the_reach_of_words_is_no_gap(pause_s: float, num_gaps: int) -> None:
    spoken = words((0.0, 0.5), (0.5 + pause_s, 1.0 + pause_s))
    assert len(find_gaps(spoken, speech((0.0, 1.0 + pause_s)))) == num_gaps
    # silence of any length is none
    assert find_gaps(spoken, speech((0.0, 0.5), (0.5 + pause_s, 1.0 + pause_s))) == []


def test_a_word_longer_than_a_word_can_be_is_in_doubt() -> None:
    spoken = words((0.0, 0.5), (0.5, 6.0), (6.0, 6.5))
    assert find_gaps(spoken, speech((0.0, 6.5))) == [gap(0.5, 6.0, 1, 2)]
    # a second more than it takes at most may be drawl
    assert find_gaps(words((0.0, 0.5), (0.5, 2.0), (2.0, 2.5)), speech((0.0, 2.5))) == []


def test_a_long_word_that_hides_nothing_but_a_pause_is_not_in_doubt() -> None:
    assert find_gaps(words((0.0, 0.5), (0.5, 6.0)), speech((0.0, 1.0))) == []


def test_several_words_in_doubt_are_one_gap() -> None:
    spoken = words((0.0, 0.5), (0.5, 4.0), (4.0, 8.0), (8.0, 8.5))
    assert find_gaps(spoken, speech((0.0, 8.5))) == [gap(0.5, 8.0, 1, 3)]


def test_speech_without_words_is_told_part_by_part() -> None:
    regions = speech((0.0, 4.0), (5.0, 9.0))
    left = speech_without_words(regions, [(1.0, 1.5), (8.0, 9.0)])
    edges = [edge for part in left for edge in (part.start_s, part.end_s)]
    assert edges == pytest.approx([1.65, 4.0, 5.0, 7.85])
    assert speech_without_words(regions, []) == regions
    assert speech_without_words([], [(1.0, 1.5)]) == []
    assert speech_without_words(regions, [(0.0, 9.0)]) == []


@pytest.mark.parametrize(
    "spans",
    [
        [(5.0, 6.0), (1.0, 5.0)],  # pieces come in any order
        [(1.0, 6.0), (2.0, 2.5)],  # aligned anew, one inside the other
        [(1.0, 4.0), (3.0, 6.0), (3.0, 3.0)],
    ],
)
def test_words_may_overlap_and_come_in_any_order(spans: list[tuple[float, float]]) -> None:
    [before, after] = speech_without_words(speech((-1.0, 9.0)), spans)
    assert (before.start_s, before.end_s) == pytest.approx((-1.0, 0.85))
    assert (after.start_s, after.end_s) == pytest.approx((6.15, 9.0))


def test_a_day_is_looked_through_at_once() -> None:
    regions = [SpeechRegion(2.0 * number, 2.0 * number + 1.5) for number in range(43_200)]
    spans = [(0.4 * number, 0.4 * number + 0.3) for number in range(108_000)]  # until half of it
    begin = time.process_time()
    left = speech_without_words(regions, spans)
    assert time.process_time() - begin < 5.0
    assert len(left) == 21_600
