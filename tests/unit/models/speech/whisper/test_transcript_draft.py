"""How a piece's words come together: first answer, gaps, second answers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.spoken_words import SpokenWord
from serve_app.models.speech.whisper.transcript_draft import (
    AGAIN,
    HURRIED,
    OUTSIDE,
    RETRIED,
    Draft,
    Window,
    WindowWords,
)
from serve_app.results import SpeechRegion


def draft_of(
    duration_s: float = 10.0,
    speech: tuple[tuple[float, float], ...] | None = None,
    *,
    offset_s: float = 0.0,
    language: str = "en",
) -> Draft:
    samples = np.zeros(round(duration_s * 16_000), np.float32)
    spans = ((offset_s, offset_s + duration_s),) if speech is None else speech
    regions = tuple(SpeechRegion(*span) for span in spans)
    return Draft(SpeechPiece(samples, offset_s, language, speech=regions), samples)


def found(
    text: str,
    start_s: float = 0.0,
    *,
    word_s: float = 0.4,
    language: str = "en",
    is_sure: bool = True,
    notes: tuple[str, ...] = (),
    avg_logprob: float = -0.1,
) -> WindowWords:
    """Return an answer whose words follow each other from `start_s` of its window on."""
    words = [
        SpokenWord(f" {word}", start_s + word_s * index, start_s + word_s * (index + 1), 0.9)
        for index, word in enumerate(text.split())
    ]
    return WindowWords(words, language, avg_logprob, 0.01, is_sure, notes)


def with_words(draft: Draft, *answers: WindowWords, notes: tuple[str, ...] = ()) -> Draft:
    """Give the draft the words of all answers as its first one."""
    words = [word for answer in answers for word in answer.words]
    draft.add(Window.whole(draft), WindowWords(words, "en", -0.1, 0.01, True, notes))
    return draft


def text_of(draft: Draft) -> str:
    return " ".join(segment.text for segment in draft.segments())


def times_of(draft: Draft) -> list[tuple[str, float, float]]:
    return [(word.word, word.start_s, word.end_s) for segment in draft.segments() for word in segment.words]


def bounds(window: Window) -> tuple[float, float]:
    return window.start_s, window.start_s + len(window.samples) / 16_000


def test_before_the_first_answer_there_is_nothing_to_fill() -> None:
    draft = draft_of()
    assert draft.gaps() == []
    assert draft.segments() == ()
    assert draft.language is None


def test_the_first_answer_is_taken_as_it_is() -> None:
    draft = with_words(draft_of(2.0), found("one two three."), notes=(RETRIED,))
    [segment] = draft.segments()
    assert (segment.text, segment.avg_logprob, segment.no_speech_prob) == ("one two three.", -0.1, 0.01)
    assert [word.word for word in segment.words] == ["one", "two", "three."]
    assert (segment.start_s, segment.end_s) == (0.0, pytest.approx(1.2))
    assert draft.language == "en"
    assert draft.notes == [RETRIED]
    assert draft.gaps() == []


def test_where_no_speech_is_told_or_found_words_may_lie_anywhere_and_none_are_missing() -> None:
    samples = np.zeros(7 * 16_000, np.float32)
    draft = Draft(SpeechPiece(samples), samples)
    assert draft.speech == (SpeechRegion(0.0, 7.0),)
    draft.add(Window.whole(draft), found(" one two", 0.0))
    assert draft.gaps() == []
    assert len(draft.segments()[0].words) == 2


def test_told_speech_is_moved_into_the_piece_and_clipped_to_it() -> None:
    draft = draft_of(10.0, ((90.0, 101.0), (103.0, 104.0), (109.0, 120.0), (130.0, 140.0)), offset_s=100.0)
    assert draft.speech == (SpeechRegion(0.0, 1.0), SpeechRegion(3.0, 4.0), SpeechRegion(9.0, 10.0))


def test_a_gap_in_the_middle() -> None:
    draft = with_words(draft_of(), found("one two.", 0.0), found("six seven.", 9.0))
    [window] = draft.gaps()
    assert bounds(window) == pytest.approx((0.8, 9.0))
    assert window.speech == (SpeechRegion(0.0, pytest.approx(8.2)),)
    assert window.draft.known_language == "en"
    draft.add(window, found("three four five.", 1.0, avg_logprob=-0.3))
    assert text_of(draft) == "one two. three four five. six seven."
    assert draft.notes == [AGAIN]
    assert times_of(draft)[2][1] == pytest.approx(1.8)
    assert [segment.avg_logprob for segment in draft.segments()] == [-0.1, -0.3, -0.1]


def test_a_gap_at_the_end() -> None:
    draft = with_words(draft_of(), found("one two.", 0.0))
    [window] = draft.gaps()
    assert bounds(window) == pytest.approx((0.8, 10.0))
    draft.add(window, found("three four.", 5.0))
    assert text_of(draft) == "one two. three four."


def test_a_gap_at_the_start() -> None:
    draft = with_words(draft_of(), found("three " + "four " * 11, 5.0))
    [window] = draft.gaps()
    assert bounds(window) == pytest.approx((0.0, 5.0))
    draft.add(window, found("one two.", 0.0))
    assert text_of(draft).startswith("one two. three four")


def test_no_word_at_all_is_a_gap_of_the_whole_speech() -> None:
    draft = with_words(draft_of(10.0, ((2.0, 5.0),)))
    [window] = draft.gaps()
    assert bounds(window) == pytest.approx((1.8, 5.2))
    assert window.speech == (SpeechRegion(pytest.approx(0.2), pytest.approx(3.2)),)
    assert window.speech_s == pytest.approx(3.0)
    draft.add(window, found("one two.", 0.3))
    assert text_of(draft) == "one two."


@pytest.mark.parametrize("speech", [None, ((0.2, 9.8),)])
def test_a_gap_as_long_as_the_piece_would_get_the_same_answer(speech: tuple[tuple[float, float], ...] | None) -> None:
    assert with_words(draft_of(10.0, speech)).gaps() == []


def test_a_long_word_that_hid_a_sentence_gives_way_to_it() -> None:
    first = WindowWords(
        [SpokenWord(" one", 0.0, 0.4, 0.9), SpokenWord(" two", 0.4, 6.0, 0.9), SpokenWord(" nine", 6.0, 6.4, 0.9)],
        "en",
        -0.1,
        0.01,
        True,
    )
    draft = draft_of(6.4)
    draft.add(Window.whole(draft), first)
    [window] = draft.gaps()
    assert window.gap is not None
    assert (window.gap.first, window.gap.stop) == (1, 2)
    draft.add(window, found("two and all the others"))
    assert text_of(draft) == "one two and all the others nine"
    # if no more words are found than stood there, it stays, as long as a word can be
    draft = draft_of(6.4)
    draft.add(Window.whole(draft), first)
    draft.add(draft.gaps()[0], found("too"))
    assert text_of(draft) == "one two nine"
    assert times_of(draft)[1] == ("two", pytest.approx(0.4), pytest.approx(1.0))
    assert draft.notes == []


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(found("three four five", 1.0, is_sure=False, notes=(RETRIED,)), id="doubtful"),
        pytest.param(found(""), id="empty"),
        pytest.param(found("two", 0.0), id="a word that is there already"),
        pytest.param(found("six", 7.0), id="the word behind it"),
        pytest.param(found("seven letters each surely", 2.0, word_s=0.01), id="faster than anybody speaks"),
    ],
)
def test_the_first_answer_stays_where_the_second_is_no_better(second: WindowWords) -> None:
    draft = with_words(draft_of(), found("one two", 0.0), found("six seven", 9.0))
    before = draft.segments()
    draft.add(draft.gaps()[0], second)
    assert draft.segments() == before
    assert draft.notes == []  # of what was not taken, nothing is told


def test_what_was_tried_is_not_tried_again() -> None:
    draft = with_words(draft_of(), found("one two.", 0.0), found("six seven.", 9.0))
    draft.add(draft.gaps()[0], found(""))
    assert draft.gaps() == []


def test_what_the_second_answer_leaves_is_tried_again_if_it_is_much_less() -> None:
    draft = with_words(draft_of(20.0), found("one two.", 0.0))
    draft.add(draft.gaps()[0], found("three four.", 3.0))  # to 4.6 s of the piece
    first, last = sorted(map(bounds, draft.gaps()))
    assert first == pytest.approx((0.8, 3.8))
    assert last == pytest.approx((4.6, 20.0))


def test_words_repeated_at_the_edges_of_a_gap_are_there_once() -> None:
    draft = with_words(draft_of(), found("pass the cups", 0.0), found("and go home", 8.8))
    draft.add(draft.gaps()[0], found("The cups, please, wash them and go", 0.2))
    assert text_of(draft) == "pass the cups please, wash them and go home"


def test_several_gaps_are_filled_each_in_its_place() -> None:
    draft = with_words(draft_of(20.0), found("b", 4.0), found("d", 10.0), found("f", 16.0))
    windows = draft.gaps()
    assert [window.start_s for window in windows] == sorted((window.start_s for window in windows), reverse=True)
    for window, text in zip(windows, ["g1 g2", "e1 e2", "c1 c2", "a1 a2"], strict=True):
        draft.add(window, found(text, 1.0))
    assert text_of(draft) == "a1 a2 b c1 c2 d e1 e2 f g1 g2"
    assert draft.notes == [AGAIN] * 4  # the transcript tells it once


def test_words_stay_in_order_without_overlap_inside_the_piece() -> None:
    """Also where edges lie between samples, and second answers fill their windows to the last one."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        starts_s = np.sort(rng.uniform(0, 29.5, 6))
        first = [SpokenWord(f" w{at:.3f}", at, at + rng.uniform(0, 0.05), 0.9) for at in starts_s]
        first = [word for word, after in zip(first, [*starts_s[1:], 30.0], strict=True) if word.end_s <= after]
        draft = draft_of(30.0)
        draft.add(Window.whole(draft), WindowWords(first, "en", -0.1, 0.0, True))
        for _ in range(2):
            for window in draft.gaps():
                length_s = len(window.samples) / 16_000
                edges = np.linspace(0, length_s, 1 + int(rng.integers(1, 12))).tolist()
                words = [SpokenWord(f" g{a:.3f}", a, b, 0.9) for a, b in pairwise(edges)]
                draft.add(window, WindowWords(words, "en", -0.1, 0.0, True))
        times = times_of(draft)
        assert len(times) > len(first)
        assert all(0.0 <= start_s <= end_s <= 30.0 for _, start_s, end_s in times)
        assert all(before[2] <= after[1] for before, after in pairwise(times))


def test_times_are_moved_by_the_offset() -> None:
    here, there = (with_words(draft_of(3.0, offset_s=at), found("one two.")) for at in (0.0, 100.0))
    for (_, start_s, end_s), (_, moved_start_s, moved_end_s) in zip(times_of(here), times_of(there), strict=True):
        assert (moved_start_s, moved_end_s) == (pytest.approx(start_s + 100), pytest.approx(end_s + 100))
    assert there.segments()[0].start_s == pytest.approx(100.0)


def test_a_sentence_where_nobody_speaks_is_left_out_and_told() -> None:
    draft = with_words(draft_of(10.0, ((0.0, 1.5),)), found("one two three.", 0.0), found("Thank you.", 6.0))
    assert text_of(draft) == "one two three."
    assert draft.notes == [OUTSIDE]
    near = with_words(draft_of(10.0, ((0.0, 1.5),)), found("one two three. Four", 0.1))
    assert text_of(near) == "one two three. Four"  # 0.3 s beside the speech
    nobody = with_words(draft_of(10.0, ()), found("Thank you.", 6.0))
    assert (nobody.segments(), nobody.notes, nobody.gaps()) == ((), [OUTSIDE], [])


def test_a_sentence_faster_than_anybody_speaks_is_left_out_and_told() -> None:
    draft = with_words(
        draft_of(4.0), found("one two three.", 0.0), found("Thanks for watching everybody.", 1.2, word_s=0.05)
    )
    assert text_of(draft) == "one two three."
    assert draft.notes == [HURRIED]
    few = with_words(draft_of(2.0), found("Yes please.", 0.0, word_s=0.01))
    assert text_of(few) == "Yes please."  # two words tell nothing
    korean = with_words(draft_of(2.0), found("시청해 주셔서 감사합니다.", 0.0, word_s=0.15))
    assert korean.notes == [HURRIED]  # eleven syllables in 0.45 s


def test_what_is_told_of_a_second_answer_is_told_where_it_was_taken() -> None:
    draft = with_words(draft_of(), found("one two.", 0.0))
    draft.add(draft.gaps()[0], found("three four.", 5.0, notes=(RETRIED,)))
    assert draft.notes == [AGAIN, RETRIED]


def test_a_gap_has_the_language_of_the_piece() -> None:
    draft = draft_of(language="auto")
    assert draft.known_language is None
    draft.add(Window.whole(draft), found("하나", language="ko"))
    [window] = draft.gaps()
    assert window.draft.known_language == "ko"


def test_words_are_no_longer_than_words_can_be() -> None:
    draft = draft_of(4.0, ((0.0, 0.5), (3.0, 4.0)))
    words = [SpokenWord(" one", 0.0, 2.0, 0.9), SpokenWord(" two.", 2.0, 3.4, 0.9), SpokenWord(" three", 3.4, 4.0, 1.4)]
    draft.add(Window.whole(draft), WindowWords(words, "en", -0.1, 0.0, True))
    assert times_of(draft) == [
        ("one", pytest.approx(1.4), pytest.approx(2.0)),  # swallowed the pause before it
        ("two.", pytest.approx(2.0), pytest.approx(2.6)),  # swallowed the one after it
        ("three", pytest.approx(3.4), pytest.approx(4.0)),
    ]
    assert draft.segments()[-1].words[-1].confidence == 1.0
