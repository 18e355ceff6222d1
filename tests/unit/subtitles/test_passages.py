"""Tokens of a passage: what stands on a line, and when it is said."""

from __future__ import annotations

import pytest

from serve_app.subtitles.passages import Passage, TimedWord, columns, joined, tokens_of


def passage(text: str, *words: str) -> Passage:
    """Return a passage whose words last 100 ms each."""
    timed = tuple(TimedWord(word, 100 * number, 100 * number + 100) for number, word in enumerate(words))
    return Passage(text, 0, 100 * max(1, len(words)), timed)


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("안녕", 4), ("今日は", 6), ("ａ", 2), ("cafe\u0301", 4), ("a\u200bb", 2), ("👍", 2)],
)
def test_columns(text: str, width: int) -> None:
    assert columns(text) == width


@pytest.mark.parametrize(
    ("text", "words", "tokens"),
    [
        ("Good morning.", ["Good", "morning"], ["Good", "morning."]),
        ("Good morning.", [" Good", " morning."], ["Good", "morning."]),
        ('He said "no".', ["He", "said", "no"], ["He", "said", '"no".']),
        ("¿Qué? (Nada)", ["Qué", "Nada"], ["¿Qué?", "(Nada)"]),
        ("Bonjour ! Ça va ?", ["Bonjour", "Ça", "va"], ["Bonjour !", "Ça", "va ?"]),
        ("well-known", ["well", "known"], ["well-", "known"]),
        ("今日は「晴れ」。", ["今日", "は", "晴れ"], ["今日", "は", "「晴れ」。"]),
        ("a  b\n c", ["a", "b", "c"], ["a", "b", "c"]),
        ("그래요, 네", ["그래요,", "네"], ["그래요,", "네"]),
        ("a a a", ["a", "a", "a"], ["a", "a", "a"]),
    ],
)
def test_words_carry_the_marks_around_them(text: str, words: list[str], tokens: list[str]) -> None:
    found = tokens_of(passage(text, *words), 42)
    assert [token.text for token in found] == tokens
    assert joined(found) == " ".join(text.split())
    assert [(token.start_ms, token.end_ms) for token in found] == [(100 * n, 100 * n + 100) for n in range(len(words))]


@pytest.mark.parametrize(
    ("text", "words", "read"),
    [
        ("something else", ["Good", "morning"], "Good morning"),
        ("Good fine morning", ["Good", "morning"], "Good morning"),
        ("Good morning all", ["Good", "morning"], "Good morning"),
        ("", ["今日", "は"], "今日は"),
        ("", ["나는", "간다"], "나는 간다"),
        ("", ["今日", "ok", "は"], "今日 ok は"),
    ],
)
def test_words_count_where_the_text_has_others(text: str, words: list[str], read: str) -> None:
    assert joined(tokens_of(passage(text, *words), 42)) == read


def test_text_without_words_has_its_time_shared_out() -> None:
    found = tokens_of(Passage("aa bbbb", 1000, 1600), 42)
    assert [(token.text, token.start_ms, token.end_ms) for token in found] == [("aa", 1000, 1200), ("bbbb", 1200, 1600)]


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_nothing_said(text: str) -> None:
    assert tokens_of(Passage(text, 0, 1000), 42) == []
    assert tokens_of(passage(text, " ", ""), 42) == []


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100,
        "今日はとても天気がいいので、散歩に行きましょう。" * 3,
        "!" * 100,
        "e\u0301" * 60,
        "「" * 60,
        "あ。" * 60,
    ],
)
def test_word_wider_than_a_line_is_broken_without_loss(text: str) -> None:
    found = tokens_of(passage(text, text), 42)
    assert len(found) > 1
    assert "".join(token.text for token in found) == text
    assert not any(token.spaced for token in found)
    assert max(token.columns for token in found) <= 42
    times = [time for token in found for time in (token.start_ms, token.end_ms)]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0, 100)


def test_broken_word_keeps_marks_and_accents_with_their_characters() -> None:
    found = [token.text for token in tokens_of(Passage("あ" * 21 + "い。「う」", 0, 100), 42)]
    assert found[-2:] == ["い。", "「う」"]
    accented = tokens_of(Passage("e\u0301" * 60, 0, 100), 42)
    assert {token.text for token in accented} == {"e\u0301"}


def test_reversed_times_are_mended() -> None:
    (token,) = tokens_of(Passage("a", 0, 0, (TimedWord("a", 500, 400),)), 42)
    assert (token.start_ms, token.end_ms) == (500, 500)
