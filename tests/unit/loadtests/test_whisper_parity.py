"""Figures of the parity between backends."""

from __future__ import annotations

import numpy as np

from loadtests.whisper_parity import Heard, SpeechSet, disagreement, report
from serve_app.results import Segment, Transcript, Word
from training.whisper_micro.synthesis import Span
from training.whisper_micro.utterances import Utterance


def transcript(text: str, *, late_s: float = 0.0, language: str = "en") -> Transcript:
    words = tuple(Word(word, i + late_s, i + 0.5, 1.0) for i, word in enumerate(text.split()))
    return Transcript((Segment(0.0, 9.0, text, words),) if words else (), language, "m", ())


def utterance(text: str, language: str = "en") -> Utterance:
    words = tuple(Span(word, float(i), i + 0.5) for i, word in enumerate(text.split()))
    return Utterance(np.zeros(16_000, np.float32), words, text, language, ("espeak:a",))


def heard(name: str, *transcripts: Transcript) -> Heard:
    return Heard(f"{name}:m:float32", list(transcripts), 1.5, 0.4, 100.0, 150.0, 175.0)


def test_texts_differ_by_words_and_by_writing() -> None:
    first = [transcript("one two three four"), transcript("Five.")]
    second = [transcript("one two three"), transcript("five")]
    assert disagreement(first, second) == (1 / 5, 2)
    assert disagreement(first, first) == (0.0, 0)


def test_nothing_heard_is_no_division_by_zero() -> None:
    assert disagreement([transcript("")], [transcript("")]) == (0.0, 0)


def test_report() -> None:
    sets = [SpeechSet("E", "en", is_goal=True), SpeechSet("K", "ko", is_goal=True), SpeechSet("F", "en", "free")]
    said = [[utterance("a b c d")], [utterance("가 나", "ko")], [utterance("x y")]]
    right = [transcript("a b c d", late_s=0.02), transcript("가 나", language="ko"), transcript("x y")]
    wrong = [transcript("a b c", late_s=0.04), transcript("가 나", language="en"), transcript("x z")]
    lines = report(sets, said, [heard("p", *right), heard("q", *wrong)])
    assert "| E (1) | p:m:float32 | 4 | 0.00 | 100.0 | 20 | 20 | 20 |" in lines
    assert "| E (1) | q:m:float32 | 4 | 25.00 | 100.0 | 40 | 40 | 40 |" in lines
    assert "| K (1) | q:m:float32 | 2 | 0.00 | 0.0 | 0 | 0 | 0 |" in lines
    assert "| the goal's sets | 16.67 (1 of 2) |" in lines  # 1 of 6 words; the free set is not in it
    assert "| F | 50.00 (1 of 1) |" in lines
    assert lines[-1] == "| q:m:float32 | 1.5 | 133 | 100 | 150 | 175 |"


def test_every_word_wrong_has_no_times() -> None:
    lines = report([SpeechSet("E", "en")], [[utterance("a")]], [heard("p", transcript("b"))])
    assert "| E (1) | p:m:float32 | 1 | 100.00 | 100.0 | - | - | - |" in lines
