"""Words × speakers."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from serve_app.analysis.attribution import (
    MAX_GAP_S,
    SpokenSegment,
    assign_speakers,
    attribute,
    fit_words,
    split_by_speaker,
)
from serve_app.results import Segment, SpeakerTurn, Timing, Word

NAN = math.nan


def turn(start_s: float, end_s: float, speaker: str) -> SpeakerTurn:
    return SpeakerTurn(start_s, end_s, speaker)


def segment(text: str, *words: tuple[str, float, float], start_s: float = 0.0, end_s: float = 10.0) -> Segment:
    return Segment(start_s, end_s, text, tuple(Word(*word) for word in words))


def speakers_of(words: list[tuple[float, float]], turns: list[SpeakerTurn], **options: float) -> list[str | None]:
    return list(assign_speakers([start for start, _ in words], [end for _, end in words], turns, **options))


class TestAssignSpeakers:
    def test_the_one_who_speaks_most_during_the_word_gets_it(self):
        turns = [turn(0, 1.2, "a"), turn(1.2, 3, "b")]
        assert speakers_of([(0.1, 0.5), (1.0, 1.3), (1.1, 1.4), (2, 2.5)], turns) == ["a", "a", "b", "b"]

    def test_overlapping_turns_count_for_each_of_their_speakers(self):
        turns = [turn(0, 5, "a"), turn(1, 1.2, "b"), turn(1.3, 1.4, "b")]
        assert speakers_of([(1.0, 1.4)], turns) == ["a"]

    def test_turns_of_one_speaker_that_overlap_are_counted_once(self):
        # counted twice, a would speak 0.4 s of the word and win over b's 0.3 s
        turns = [turn(0, 0.2, "a"), turn(0, 0.2, "a"), turn(0.1, 0.4, "b")]
        assert speakers_of([(0.0, 0.4)], turns) == ["b"]

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_draw_goes_to_who_began_earlier_whatever_the_order_of_turns(self, order):
        turns = [turn(0, 2, "late"), turn(4, 9, "early"), turn(5, 9, "late")][::order]
        assert speakers_of([(6, 7)], turns) == ["early"]

    def test_a_word_in_a_pause_goes_to_the_nearest_turn(self):
        turns = [turn(0, 1, "a"), turn(2, 3, "b")]
        assert speakers_of([(1.1, 1.2), (1.8, 1.9)], turns) == ["a", "b"]

    def test_far_from_every_turn_the_nearest_word_with_a_speaker_decides(self):
        turns = [turn(0, 1, "a"), turn(20, 21, "b")]
        words = [(0.5, 1.0), (5, 5.2), (9, 9.1), (17, 17.2), (20, 20.5)]
        assert speakers_of(words, turns) == ["a", "a", "a", "b", "b"]

    def test_with_no_word_in_any_turn_the_nearest_turn_decides_whatever_its_distance(self):
        assert speakers_of([(60, 61), (200, 201)], [turn(0, 1, "a"), turn(199, 199.1, "b")]) == ["a", "b"]

    def test_the_limit_of_the_nearest_turn_is_the_one_given(self):
        turns, words = [turn(0, 1, "a"), turn(3, 4, "b")], [(0.2, 0.4), (2.2, 2.3)]
        assert speakers_of(words, turns, max_gap_s=1.0) == ["a", "b"]
        assert speakers_of([(0.2, 1.9), (2.2, 2.3)], turns, max_gap_s=0.1) == ["a", "a"]
        assert MAX_GAP_S < 1.0

    def test_a_word_of_no_length_belongs_to_the_turn_around_it(self):
        assert speakers_of([(0.5, 0.5), (2.5, 2.5)], [turn(0, 1, "a"), turn(2, 3, "b")]) == ["a", "b"]

    def test_without_turns_nobody_spoke(self):
        assert speakers_of([(0, 1)], []) == [None]
        assert speakers_of([(0, 1)], [turn(1, 1, "a")]) == [None]

    def test_without_words_there_is_nothing_to_say(self):
        assert speakers_of([], [turn(0, 1, "a")]) == []

    def test_it_agrees_with_looking_at_every_turn(self):
        rng = np.random.default_rng(7)
        starts = rng.uniform(0, 60, 300)
        ends = starts + rng.uniform(0.05, 0.8, 300)
        begun = np.sort(rng.uniform(0, 60, 80))
        turns = [turn(s, s + rng.exponential(1.5), f"S{rng.integers(4)}") for s in begun]
        got = assign_speakers(starts, ends, turns)
        grid = np.arange(0, 65, 0.001)
        active = {name: np.zeros(len(grid), bool) for name in sorted({t.speaker_id for t in turns})}
        for t in turns:
            active[t.speaker_id] |= (grid >= t.start_s) & (grid < t.end_s)
        num_compared = 0
        for index in range(300):
            inside = (grid >= starts[index]) & (grid < ends[index])
            spoken = sorted(((int(on[inside].sum()), name) for name, on in active.items()), reverse=True)
            if spoken[0][0] - spoken[1][0] > 4:  # the grid can't tell closer ones apart
                num_compared += 1
                assert got[index] == spoken[0][1]
        assert num_compared > 100

    def test_four_hours_take_less_than_two_seconds(self):
        rng = np.random.default_rng(1)
        starts = np.sort(rng.uniform(0, 14_400, 40_000))
        begun = np.sort(rng.uniform(0, 14_400, 20_000))
        turns = [turn(float(s), float(s) + 1.0, f"S{k % 10}") for k, s in enumerate(begun)]
        before = time.process_time()
        assert len(assign_speakers(starts, starts + 0.3, turns)) == 40_000
        assert time.process_time() - before < 2.0  # 0.03 s; a loop over words × turns takes minutes


class TestSplitBySpeaker:
    def test_a_segment_is_cut_exactly_where_the_speaker_changes(self):
        whole = segment(
            "Hello there. Hi!", ("Hello", 1, 1.5), ("there", 1.5, 2), ("Hi", 2.2, 2.6), start_s=0.9, end_s=2.7
        )
        first, second = split_by_speaker([whole], ["a", "a", "b"])
        assert first == SpokenSegment(Segment(0.9, 2, "Hello there.", whole.words[:2]), "a")
        assert second == SpokenSegment(Segment(2.2, 2.7, "Hi!", whole.words[2:]), "b")

    def test_a_single_word_of_another_speaker_stays_that_speakers(self):
        whole = segment("so we yes go", ("so", 0, 1), ("we", 1, 2), ("yes", 2, 2.2), ("go", 2.2, 3))
        parts = split_by_speaker([whole], ["a", "a", "b", "a"])
        assert [(part.segment.text, part.speaker_id) for part in parts] == [("so we", "a"), ("yes", "b"), ("go", "a")]

    def test_text_without_spaces_stays_so(self):
        whole = segment("你好。是", ("你", 0, 1), ("好", 1, 2), ("是", 2, 3))
        assert [part.segment.text for part in split_by_speaker([whole], ["a", "a", "b"])] == ["你好。", "是"]

    def test_a_text_that_has_other_words_than_the_list_is_rebuilt_from_the_list(self):
        whole = segment("twenty-one", ("21", 0, 1), ("yes", 1, 2))
        assert [part.segment.text for part in split_by_speaker([whole], ["a", "b"])] == ["21", "yes"]

    def test_one_speaker_leaves_segments_as_they_are_and_words_are_counted_across_segments(self):
        two = [segment("a b", ("a", 0, 1), ("b", 1, 2)), segment("c", ("c", 3, 4))]
        assert split_by_speaker(two, ["x", "x", "y"]) == (SpokenSegment(two[0], "x"), SpokenSegment(two[1], "y"))


class TestFitWords:
    def test_untimed_words_share_the_room_between_their_neighbours_by_letters(self):
        fitted = fit_words(
            segment("a bb cccc d", ("a", 0, 1), ("bb", NAN, NAN), ("cccc", NAN, NAN), ("d", 4, 5), end_s=5)
        )
        assert [(w.start_s, w.end_s, w.timing) for w in fitted.words] == [
            (0, 1, Timing.ALIGNED),
            (1, 2, Timing.INTERPOLATED),
            (2, 4, Timing.INTERPOLATED),
            (4, 5, Timing.ALIGNED),
        ]

    def test_untimed_words_at_the_edges_reach_to_the_segments_bounds(self):
        fitted = fit_words(segment("a b c", ("a", NAN, NAN), ("b", 3, 4), ("c", NAN, 4.5), start_s=2, end_s=6))
        assert [(w.start_s, w.end_s) for w in fitted.words] == [(2, 3), (3, 4), (4, 6)]

    def test_a_segment_with_only_text_gets_interpolated_words(self):
        fitted = fit_words(segment("ab cd", start_s=1, end_s=3))
        assert [(w.word, w.start_s, w.end_s, w.timing.value) for w in fitted.words] == [
            ("ab", 1, 2, "interpolated"),
            ("cd", 2, 3, "interpolated"),
        ]

    def test_words_outside_out_of_order_and_overlapping_are_moved_inside_and_in_order(self):
        fitted = fit_words(
            segment("a b c d", ("a", -1, 3), ("b", 2, 9), ("c", 1.5, 1.0), ("d", 11, 12), start_s=0.5, end_s=8)
        )
        times = [(w.start_s, w.end_s) for w in fitted.words]
        assert times == [(0.5, 2), (2, 2), (2, 2), (8, 8)]

    def test_whatever_comes_in_comes_out_ordered_and_inside(self):
        rng = np.random.default_rng(3)
        for _ in range(200):
            times = rng.uniform(-2, 12, (rng.integers(1, 8), 2))
            times[rng.random(times.shape) < 0.3] = NAN
            fitted = fit_words(segment("x", *(("x", s, e) for s, e in times)))
            edges = [edge for word in fitted.words for edge in (word.start_s, word.end_s)]
            assert edges == sorted(edges)
            assert fitted.start_s <= edges[0]
            assert edges[-1] <= fitted.end_s

    def test_a_segment_that_ends_before_it_starts_has_no_length(self):
        fitted = fit_words(segment("a", ("a", 1, 2), start_s=5, end_s=4))
        assert (fitted.start_s, fitted.end_s, fitted.words[0].start_s, fitted.words[0].end_s) == (5, 5, 5, 5)


def test_attribute_times_assigns_and_splits():
    segments = [segment("one two three", ("one", 0, 1), ("two", NAN, NAN), ("three", 2, 3), end_s=3), segment("  ")]
    parts = attribute(segments, [turn(0, 1.1, "a"), turn(1.1, 3, "b")])
    assert [(part.segment.text, part.speaker_id) for part in parts] == [("one", "a"), ("two three", "b")]


def sentence(*words: tuple[str, float, float]) -> Segment:
    spoken = tuple(Word(text, start_s, end_s) for text, start_s, end_s in words)
    return Segment(spoken[0].start_s, spoken[-1].end_s, " ".join(word.word for word in spoken), spoken)


def said(*segments: Segment, turns: tuple[SpeakerTurn, ...]) -> list[tuple[str, str | None]]:
    return [(part.segment.text, part.speaker_id) for part in attribute(segments, turns)]


LONG_TURN, INTERJECTION = SpeakerTurn(0.0, 4.0, "A"), SpeakerTurn(1.9, 3.0, "B")


def test_words_that_both_may_have_said_stay_with_their_sentence() -> None:
    own = sentence(("we", 0.0, 0.5), ("went", 0.5, 1.5), ("to", 2.0, 2.3), ("town", 2.3, 2.9), ("then", 3.2, 3.9))
    assert said(own, turns=(LONG_TURN, INTERJECTION)) == [("we went to town then", "A")]


def test_in_an_overlap_the_sentence_of_the_later_speaker_is_theirs() -> None:
    # A began earlier, and covers "I see" as well; "now" is B's alone
    turns = (SpeakerTurn(0.0, 3.0, "A"), SpeakerTurn(2.0, 5.0, "B"))
    own = sentence(("I", 2.1, 2.4), ("see", 2.4, 2.9), ("now", 3.2, 4.9))
    assert said(own, turns=turns) == [("I see now", "B")]


def test_a_word_at_the_edge_of_a_turn_stays_with_its_sentence() -> None:
    # the first word lies nearer to the turn before it, by times that nobody knows so well
    turns = (SpeakerTurn(0.0, 1.0, "A"), SpeakerTurn(1.5, 4.0, "B"))
    own = sentence(("I", 1.1, 1.2), ("understand", 1.6, 2.4), ("that", 2.4, 3.0))
    assert said(own, turns=turns) == [("I understand that", "B")]


def test_a_word_that_is_surely_anothers_stays_theirs() -> None:
    turns = (SpeakerTurn(0.0, 1.0, "A"), SpeakerTurn(1.0, 4.0, "B"))
    own = sentence(("yes", 0.2, 0.8), ("that", 1.2, 1.6), ("works", 1.6, 2.4))
    assert said(own, turns=turns) == [("yes", "A"), ("that works", "B")]


def test_a_sentence_of_another_is_not_given_to_one_who_is_far_away() -> None:
    turns = (SpeakerTurn(0.0, 1.0, "A"), SpeakerTurn(8.0, 9.0, "B"))
    own = sentence(("well", 1.2, 1.6), ("hello", 8.0, 8.9))
    assert said(own, turns=turns) == [("well", "A"), ("hello", "B")]
