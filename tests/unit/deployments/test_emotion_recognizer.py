"""The wrapper: what it hands to the model."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serve_app.deployments.emotion_recognizer import EmotionRecognizer
from serve_app.errors import GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.media.samples import DecodedAudio
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech import emotion as models
from serve_app.models.speech.options import EmotionOptions
from serve_app.results import Emotions, LabelScores, SpeechRegion

AUDIO = DecodedAudio(np.zeros(16_000, dtype=np.float32), 1.0)
REGIONS = [SpeechRegion(0.0, 0.5), SpeechRegion(0.5, 0.6)]
ANSWERS = [LabelScores("calm", {"calm": 0.9, "angry": 0.1}), None]


class RecordingRecognizer:
    """Stands for the model: remembers what it was given."""

    model_version = "transformers:moods:float32"

    def __init__(self, model_id, **options):
        self.model_id, self.options, self.calls = model_id, options, []

    def recognize(self, samples, regions, *, should_stop):
        if should_stop():
            raise ProcessingError("stopped")
        self.calls.append((samples, regions))
        return ANSWERS


@pytest.fixture
def deployment(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SpeechEmotionRecognizer", RecordingRecognizer)
    return EmotionRecognizer.func_or_class(
        EmotionOptions(model_id="org/moods", device="cpu", num_threads=3),
        ModelEnvironment(models_dir=tmp_path, hf_token="secret"),
    )


def test_options_reach_the_model(deployment, tmp_path):
    model = deployment._model.get()
    assert model.model_id == "org/moods"
    assert model.options == {"device": "cpu", "num_threads": 3, "cache_dir": tmp_path, "hf_token": "secret"}
    assert EmotionRecognizer.name == "EmotionRecognizer"


def test_the_whole_file_is_handed_on_without_copying(deployment):
    assert asyncio.run(deployment.recognize(AUDIO, REGIONS)) == Emotions(tuple(ANSWERS), "transformers:moods:float32")
    [(samples, regions)] = deployment._model.get().calls
    assert samples is AUDIO.samples
    assert regions is REGIONS


@pytest.mark.parametrize("error", [ModelLoadingError("no file"), GpuMemoryError("no room")])
def test_every_call_is_answered_with_the_reason_and_then_serve_learns_it(monkeypatch, tmp_path, error):
    def fail(model_id, **options):
        raise error

    monkeypatch.setattr(models, "SpeechEmotionRecognizer", fail)
    replica = EmotionRecognizer.func_or_class(
        EmotionOptions(model_id="org/moods"), ModelEnvironment(models_dir=tmp_path)
    )
    for _ in range(2):
        with pytest.raises(ModelLoadingError, match=error.detail):
            asyncio.run(replica.recognize(AUDIO, REGIONS))
    replica.check_health()
    monkeypatch.setattr(replica._model, "_started_at", replica._model._started_at - 31)
    with pytest.raises(RuntimeError, match=error.detail):
        replica.check_health()
