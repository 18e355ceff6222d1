"""The shipped folder does what its card says, on held-out speech that lies beside the tests."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from serve_app.scoring import count_word_errors
from training.whisper_micro.evaluate import Model, start_errors
from training.whisper_micro.grammar import split_of, vocabulary
from training.whisper_micro.speech import SAMPLE_RATE_HZ, Span
from training.whisper_micro.utterances import Utterance

pytestmark = pytest.mark.slow  # trains, or makes speech to test with

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "serve_app/models/speech/whisper_micro"
FIXTURES = ROOT / "tests/data/whisper_micro"
MOST_BYTES = 20_000_000


def read_flac(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(frames, axis=1)[0].astype(np.float32) / 32_768


@pytest.fixture(scope="module")
def utterances():
    described = json.loads((FIXTURES / "utterances.json").read_text())["utterances"]
    return [
        Utterance(
            read_flac(FIXTURES / each["file"]),
            tuple(Span(*word) for word in each["words"]),
            each["text"],
            each["language"],
            (each["voice"],),
        )
        for each in described
    ]


@pytest.fixture(scope="module")
def model():
    return Model(FOLDER)


@pytest.fixture(scope="module")
def heard(model, utterances):
    return [model.hear(utterance.samples) for utterance in utterances]


class TestFixtures:
    def test_are_sentences_that_were_not_trained_on(self, utterances):
        assert [utterance.language for utterance in utterances] == ["en"] * 12 + ["ko"] * 6
        for utterance in utterances:
            assert split_of(utterance.text) == "test"
            assert set(utterance.text.split()) <= set(vocabulary(utterance.language))

    def test_words_lie_within_the_sound(self, utterances):
        for utterance in utterances:
            assert " ".join(word.name for word in utterance.words) == utterance.text
            assert utterance.words[-1].end_s < utterance.samples.size / SAMPLE_RATE_HZ
            assert np.abs(utterance.samples).max() > 0.1


class TestShippedFolder:
    def test_is_as_small_as_promised(self):
        assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES

    @pytest.mark.parametrize(("language", "most"), [("en", 0.06), ("ko", 0.12)])
    def test_hears_the_words(self, utterances, heard, language, most):
        counts = [
            count_word_errors(utterance.text, text)
            for utterance, (text, _, _) in zip(utterances, heard, strict=True)
            if utterance.language == language
        ]
        errors, words = np.sum(counts, axis=0)
        assert errors / words <= most

    def test_knows_the_language(self, utterances, heard):
        assert [language for _, language, _ in heard] == [utterance.language for utterance in utterances]

    def test_knows_when_words_begin(self, utterances, heard):
        errors_s = [
            error_s
            for utterance, (_, _, words) in zip(utterances, heard, strict=True)
            for error_s in start_errors(utterance, [(word.word.strip(), word.start) for word in words])
        ]
        assert len(errors_s) > 70
        assert np.median(errors_s) < 0.1

    def test_hears_nothing_where_nobody_speaks(self, model):
        rng = np.random.default_rng(0)
        assert model.hear(np.zeros(3 * SAMPLE_RATE_HZ, np.float32))[0] == ""
        assert model.hear((0.05 * rng.standard_normal(3 * SAMPLE_RATE_HZ)).astype(np.float32))[0] == ""
