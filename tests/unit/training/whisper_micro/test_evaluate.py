import numpy as np
import pytest

from training.whisper_micro import evaluate
from training.whisper_micro.evaluate import SETS, HeldOutSet, start_errors
from training.whisper_micro.speech import Span
from training.whisper_micro.utterances import Utterance

SPOKEN = Utterance(
    np.zeros(16_000, np.float32),
    (Span("good", 0.1, 0.3), Span("morning", 0.3, 0.7), Span("anna", 0.7, 0.9)),
    "good morning anna",
    "en",
    ("espeak:en+m1",),
)


class Heard:
    """Hears the same each time; its words begin 50 ms late."""

    def __init__(self, text, language="en"):
        self.text, self.language = text, language

    def hear(self, samples):
        starts = {"good": 0.15, "morning": 0.35, "anna": 0.75}
        words = [type("Word", (), {"word": f" {word}", "start": starts.get(word, 0.0)}) for word in self.text.split()]
        return self.text, self.language, words


@pytest.fixture
def one_set(monkeypatch):
    monkeypatch.setattr(evaluate, "held_out_utterances", lambda num, *_: iter([SPOKEN] * num))
    return HeldOutSet("set", "en", "unseen", "grammar")


def test_errors_language_and_times(one_set):
    figures = evaluate.evaluate(Heard("good evening anna"), one_set, 4, 0, "test")
    assert (figures.num_utterances, figures.num_words) == (4, 12)
    assert figures.word_error_rate == pytest.approx(1 / 3)
    assert figures.language_accuracy == 1.0
    assert figures.median_start_error_s == pytest.approx(0.05)


def test_nothing_heard(one_set):
    figures = evaluate.evaluate(Heard("", "ko"), one_set, 2, 0, "test")
    assert figures.word_error_rate == 1.0
    assert figures.language_accuracy == 0.0
    assert np.isnan(figures.median_start_error_s)


def test_start_errors_are_those_of_words_heard_rightly():
    heard = [("good", 0.1), ("mornings", 0.3), ("anna", 0.95)]
    assert start_errors(SPOKEN, heard) == pytest.approx([0.0, 0.25])


def test_noise_is_at_the_level_that_the_set_says(monkeypatch):
    tone = np.sin(np.arange(32_000) * 0.3).astype(np.float32)
    spoken = Utterance(tone, SPOKEN.words, SPOKEN.text, "en", ())
    monkeypatch.setattr(evaluate, "held_out_utterances", lambda num, *_: iter([spoken] * num))
    (noisy,) = evaluate.utterances(HeldOutSet("set", "en", "unseen", "grammar", snr_db=10.0), 1, 0, "test")
    noise = noisy.samples - tone
    assert 10 * np.log10(np.mean(tone**2) / np.mean(noise**2)) == pytest.approx(10.0, abs=0.2)


def test_every_promised_set_is_there():
    kinds = {(each.language, each.kind, each.snr_db is not None) for each in SETS if each.voices == "unseen"}
    expected = {("grammar", False), ("free", False), ("windows", False), ("grammar", True)}
    assert kinds == {(language, *rest) for language in ("en", "ko") for rest in expected}
    assert len({each.name for each in SETS}) == len(SETS)
