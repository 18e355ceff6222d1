"""Segments: one sentence each, as far as punctuation and pauses tell."""

from __future__ import annotations

from itertools import pairwise

import pytest

from serve_app.models.speech.joining import repeated_words
from serve_app.models.speech.whisper.spoken_words import MAX_SEGMENT_S, SpokenWord, split_sentences


def spoken(text: str, *, pauses: dict[int, float] | None = None, word_s: float = 0.4) -> list[SpokenWord]:
    """Return words one after the other, with a pause before some of them."""
    words, now_s = [], 0.0
    for index, word in enumerate(text.split()):
        now_s += (pauses or {}).get(index, 0.0)
        words.append(SpokenWord(" " + word, now_s, now_s + word_s, 0.9))
        now_s += word_s
    return words


def texts(runs: list[list[SpokenWord]]) -> list[str]:
    return ["".join(word.text for word in run).strip() for run in runs]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. Three! Four? five", ["One two.", "Three!", "Four?", "five"]),
        ("Ask Dr. Kim, e.g. today. Then go", ["Ask Dr. Kim, e.g. today.", "Then go"]),
        ('He said "go." She went (home.) Now', ['He said "go."', "She went (home.)", "Now"]),
        ("컵을 주세요. 감사합니다", ["컵을 주세요.", "감사합니다"]),
        ("太鼓です。 はい", ["太鼓です。", "はい"]),
        ("no mark at all", ["no mark at all"]),
        ("", []),
    ],
)
def test_a_sentence_is_a_run(text: str, expected: list[str]) -> None:
    assert texts(split_sentences(spoken(text))) == expected


@pytest.mark.parametrize(("pause_s", "num_runs"), [(0.9, 1), (1.01, 2)])
def test_a_long_pause_ends_a_run(pause_s: float, num_runs: int) -> None:
    assert len(split_sentences(spoken("one two three", pauses={1: pause_s}))) == num_runs


def test_a_long_sentence_is_cut_at_its_comma() -> None:
    words = spoken(" ".join(["a"] * 18 + ["comma,"] + ["b"] * 18))
    assert texts(split_sentences(words)) == [" ".join(["a"] * 18 + ["comma,"]), " ".join(["b"] * 18)]


def test_a_long_sentence_is_cut_at_its_pause() -> None:
    words = spoken(" ".join(["a"] * 20 + ["b"] * 16), pauses={20: 0.6})
    assert texts(split_sentences(words)) == [" ".join(["a"] * 20), " ".join(["b"] * 16)]


@pytest.mark.parametrize("word_s", [0.02, 0.4, 1.0, 20.0])
def test_no_run_of_several_words_is_too_long_and_none_is_lost(word_s: float) -> None:
    words = spoken(" ".join(["word"] * 220), word_s=word_s)
    runs = split_sentences(words)
    assert [word for run in runs for word in run] == words
    for run in runs:
        assert len(run) == 1 or run[-1].end_s - run[0].start_s <= MAX_SEGMENT_S
    for before, after in pairwise(runs):
        assert before[-1].end_s <= after[0].start_s


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        (["the", "cups"], ["the", "cups", "are"], 2),
        (["on", "the", "cups."], ["Cups", "are"], 1),
        (["the", "cups"], ["are", "the", "cups"], 0),  # repeated, but not at the edge
        (["a"], ["b"], 0),
        ([], ["a"], 0),
        (["a"], [], 0),
        (["."], [","], 0),  # marks are no words
        (list("abcdef"), list("abcdef"), 0),  # longer than is looked at
        (list("abcde"), list("abcde"), 5),
        (["안녕하세요"], ["안녕하세요.", "네"], 1),
    ],
)
def test_words_repeated_at_an_edge_are_counted(before: list[str], after: list[str], count: int) -> None:
    assert repeated_words(before, after) == count
