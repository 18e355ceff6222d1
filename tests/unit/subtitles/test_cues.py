"""Cues: limits that every one keeps, nothing lost, and breaks in the places a reader would choose."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from serve_app.subtitles.cues import MAX_COLUMNS, MAX_CUE_MS, MAX_LINES, MIN_CUE_MS, Cue, cut_into_cues
from serve_app.subtitles.passages import Passage, TimedWord, columns

ENGLISH = "the quick, brown fox jumps over a lazy dog. Then — at last? — it sleeps! Internationalization 42 I"
KOREAN = "오늘은 날씨가 매우 좋아서, 산책을 가고 싶습니다. 정말 기대되네요! 네 그래요"
JAPANESE = " ".join("今日はとても天気がいいので、散歩に行きましょう。楽しみ")
HOSTILE = " ".join(["x" * 100, "-->", "<b>", "&amp;", "!" * 90, "e\u0301" * 50, "今" * 60, "\u202eabc", "1", "WEBVTT"])


def words(*spoken: tuple[str, int, int], speaker: str | None = None) -> Passage:
    timed = tuple(TimedWord(*word) for word in spoken)
    return Passage(" ".join(word[0] for word in spoken), spoken[0][1], spoken[-1][2], timed, speaker)


def evenly(text: str, start_ms: int = 0, word_ms: int = 300, speaker: str | None = None) -> Passage:
    spoken = [(word, start_ms + n * word_ms, start_ms + (n + 1) * word_ms) for n, word in enumerate(text.split())]
    return words(*spoken, speaker=speaker)


def texts(cues: list[Cue]) -> list[str]:
    return [" / ".join(cue.lines) for cue in cues]


def check_limits(cues: list[Cue], label_columns: int = 0) -> None:
    for cue in cues:
        assert MIN_CUE_MS <= cue.end_ms - cue.start_ms <= MAX_CUE_MS
        assert 1 <= len(cue.lines) <= MAX_LINES
        assert columns(cue.lines[0]) <= MAX_COLUMNS - label_columns
        assert all(0 < columns(line) <= MAX_COLUMNS and line == line.strip() for line in cue.lines)
    for earlier, later in pairwise(cues):
        assert earlier.end_ms <= later.start_ms


def random_passages(rng: random.Random, vocabulary: list[str], spaced: bool) -> list[Passage]:
    passages, now_ms = [], 0
    for _ in range(rng.randint(0, 12)):
        spoken = []
        start_ms = now_ms
        for _ in range(rng.randint(1, 60)):
            took_ms = rng.choice([0, 10, 80, 200, 400, 900, 9000])
            spoken.append(TimedWord(rng.choice(vocabulary), now_ms, now_ms + took_ms))
            now_ms += took_ms + rng.choice([0, 0, 0, 100, 300, 2000])
        text = (" " if spaced else "").join(word.text for word in spoken)
        timed = () if rng.random() < 0.2 else tuple(spoken)
        passages.append(Passage(text, start_ms, now_ms, timed, rng.choice([None, "SPEAKER_00", "SPEAKER_01"])))
        now_ms += rng.choice([0, 500, 5000])
    return passages


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    ("vocabulary", "spaced"),
    [(ENGLISH, True), (KOREAN, True), (JAPANESE, False), (f"{ENGLISH} {HOSTILE}", True)],
    ids=["english", "korean", "japanese", "hostile"],
)
def test_limits_hold_and_every_word_appears_once_in_order(seed: int, vocabulary: str, spaced: bool) -> None:
    rng = random.Random(seed)
    passages = random_passages(rng, vocabulary.split(), spaced)
    label_columns = rng.choice([0, 12])
    cues = cut_into_cues(passages, label_columns=label_columns)
    check_limits(cues, label_columns)
    said = "".join("".join(passage.text.split()) for passage in passages)
    assert "".join("".join(line.split()) for cue in cues for line in cue.lines) == said


@pytest.mark.parametrize("seed", range(10))
def test_people_who_talk_at_once_lose_no_word_and_keep_their_own_order(seed: int) -> None:
    rng = random.Random(seed)
    passages = [
        evenly(" ".join(f"{name}{n}" for n in range(40)), rng.randint(0, 5000), rng.randint(50, 400), speaker=name)
        for name in ("a", "b", "c")
    ]
    cues = cut_into_cues(passages)
    check_limits(cues)
    for said in passages:
        shown = " ".join(line for cue in cues if cue.speaker == said.speaker for line in cue.lines)
        assert shown == said.text


def test_short_passage_is_one_line_at_its_words_times() -> None:
    assert cut_into_cues([words(("Good", 520, 800), ("morning.", 800, 1300))]) == [Cue(520, 1300, ("Good morning.",))]


def test_words_that_lie_oddly_stay_in_order() -> None:
    late, early = (
        [(f"late{n:02d}", 9000 + n, 9100 + n) for n in range(20)],
        [(f"early{n:02d}", n, n) for n in range(20)],
    )
    passage = words(*late, *early)
    cues = cut_into_cues([passage])
    assert len(cues) > 2
    check_limits(cues)
    assert " ".join(line for cue in cues for line in cue.lines) == passage.text


def test_cuts_after_sentences() -> None:
    text = "I am calling about the new equipment for it. Do you have a few minutes to talk about that now?"
    assert [cue.lines[-1].split()[-1] for cue in cut_into_cues([evenly(text)])] == ["it.", "now?"]


def test_cuts_after_a_clause_rather_than_between_running_words() -> None:
    text = "when the weather is good on a sunday in may, we walk along the river to the old town and have lunch there"
    first, *_ = cut_into_cues([evenly(text, word_ms=200)])
    assert first.lines[-1].endswith("may,")


def test_no_cue_is_left_with_a_few_words() -> None:
    cues = cut_into_cues([evenly("word " * 19, word_ms=200)])
    assert min(sum(columns(line) for line in cue.lines) for cue in cues) >= 28


def test_cuts_at_a_pause_rather_than_between_running_words() -> None:
    spoken = [
        (f"word{n:02d}", 300 * n + (600 if n >= 8 else 0), 300 * n + 300 + (600 if n >= 8 else 0)) for n in range(16)
    ]
    first, *_ = cut_into_cues([words(*spoken)])
    assert first.lines[-1].endswith("word07")


def test_no_cue_holds_a_long_silence() -> None:
    cues = cut_into_cues([words(("yes", 0, 300), ("but", 3300, 3600), ("no", 3600, 4000))])
    assert [(cue.start_ms, cue.end_ms, cue.lines) for cue in cues] == [(0, 500, ("yes",)), (3300, 4000, ("but no",))]


def test_few_full_cues_rather_than_many_short_ones() -> None:
    text = "Yes. No. Well. I see. Right. So. Then we go."
    assert len(cut_into_cues([evenly(text, word_ms=250)])) == 1


def test_slow_speech_is_cut_by_time() -> None:
    cues = cut_into_cues([evenly("one two three four five six", word_ms=2400)])
    check_limits(cues)
    assert [len(" ".join(cue.lines).split()) for cue in cues] == [2, 2, 2]


def test_word_held_for_long_is_shown_for_seven_seconds() -> None:
    assert cut_into_cues([words(("ooooh", 1000, 60_000))]) == [Cue(1000, 8000, ("ooooh",))]


def test_two_lines_are_balanced() -> None:
    (cue,) = cut_into_cues([evenly("please remember to bring your passport with you tomorrow", word_ms=200)])
    upper, lower = cue.lines
    assert abs(len(upper) - len(lower)) <= 8


def test_line_breaks_after_a_comma() -> None:
    (cue,) = cut_into_cues([evenly("when you have arrived, call me at once, please", word_ms=200)])
    assert cue.lines[0].endswith(",")


def test_speaker_label_takes_room_of_the_first_line() -> None:
    text = "abcd " * 8
    assert len(cut_into_cues([evenly(text)])[0].lines) == 1
    lines = cut_into_cues([evenly(text)], label_columns=12)[0].lines
    assert len(lines) == 2
    assert columns(lines[0]) <= 30


def test_wide_characters_take_two_columns() -> None:
    (one,) = cut_into_cues([evenly("가" * 21)])
    assert len(one.lines) == 1
    (two,) = cut_into_cues([evenly("가" * 22)])
    assert len(two.lines) == 2


def test_early_word_of_the_next_speaker_ends_a_cue() -> None:
    cues = cut_into_cues([evenly("hello there my friend", 0, 500, "a"), evenly("hi", 1200, 400, "b")])
    assert [(cue.speaker, cue.start_ms, cue.end_ms) for cue in cues] == [("a", 0, 1200), ("b", 1200, 1700)]


def test_passages_in_any_order() -> None:
    first, second = evenly("first one.", 0), evenly("second one.", 5000)
    assert cut_into_cues([second, first]) == cut_into_cues([first, second])


def test_nothing() -> None:
    assert cut_into_cues([]) == []
    assert cut_into_cues([Passage(" ", 0, 1000)]) == []
