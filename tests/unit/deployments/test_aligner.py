"""The wrapper: what it hands to the model, and that a cancelled call ends."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from serve_app.deployments.aligner import Aligner
from serve_app.errors import ModelLoadingError
from serve_app.media.samples import DecodedAudio
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.alignment import aligner as models
from serve_app.models.speech.options import AlignerOptions
from serve_app.results import Segment, SpeechRegion, Transcript

AUDIO = DecodedAudio(np.arange(10 * 16_000, dtype=np.float32), 10.0)
TRANSCRIPT = Transcript((Segment(2.0, 3.0, "abc"),), "en", "ears-1")


class RecordingAligner:
    """Stands for the model: remembers what it was given."""

    languages = ("en", "ko")

    def __init__(self, specs, **options):
        self.specs, self.options, self.calls = specs, options, []
        self.entered, self.stopped = threading.Event(), threading.Event()
        self.tick = threading.Event()
        self.waits_for_stop = False

    def align(self, samples, transcript, offset_s, *, should_stop):
        self.calls.append((samples, transcript, offset_s))
        self.entered.set()
        while self.waits_for_stop and not should_stop():
            self.tick.wait(0.001)
        self.stopped.set()
        return transcript


@pytest.fixture
def deployment(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "ForcedAligner", RecordingAligner)
    return Aligner.func_or_class(
        AlignerOptions(models={"en": "a", "ko": "b"}, device="cpu", num_threads=3),
        ModelEnvironment(models_dir=tmp_path, hf_token="secret"),
    )


def test_options_reach_the_model_and_the_token_is_not_shown(deployment, tmp_path):
    model = deployment._model.get()
    assert model.specs == {"en": "a", "ko": "b"}
    assert model.options == {"device": "cpu", "num_threads": 3, "cache_dir": tmp_path, "hf_token": "secret"}
    assert "secret" not in repr(ModelEnvironment(models_dir=tmp_path, hf_token="secret", mirror="s3://secret"))
    assert asyncio.run(deployment.languages()) == ["en", "ko"]
    assert Aligner.name == "Aligner"


def test_a_piece_is_handed_on_without_copying(deployment):
    found = asyncio.run(deployment.align(AUDIO, TRANSCRIPT, SpeechRegion(1.5, 4.0)))
    assert found is TRANSCRIPT
    [(samples, transcript, offset_s)] = deployment._model.get().calls
    assert (samples[0], len(samples)) == (24_000, 40_000)
    assert np.shares_memory(samples, AUDIO.samples)
    assert (transcript, offset_s) == (TRANSCRIPT, 1.5)


def test_a_cancelled_call_stops_its_work(deployment):
    model = deployment._model.get()
    model.waits_for_stop = True

    async def cancel() -> None:
        call = asyncio.create_task(deployment.align(AUDIO, TRANSCRIPT, SpeechRegion(0.0, 1.0)))
        assert await asyncio.to_thread(model.entered.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(model.stopped.wait, 10)

    asyncio.run(cancel())


def test_a_device_that_is_not_there_is_every_calls_answer_and_then_serves(monkeypatch, tmp_path):
    def fail(specs, **options):
        raise ModelLoadingError("no such device")

    monkeypatch.setattr(models, "ForcedAligner", fail)
    replica = Aligner.func_or_class(AlignerOptions(models={"en": "a"}), ModelEnvironment(models_dir=tmp_path))
    for call in (replica.align(AUDIO, TRANSCRIPT, SpeechRegion(0.0, 1.0)), replica.languages()):
        with pytest.raises(ModelLoadingError, match="no such device"):
            asyncio.run(call)
    replica.check_health()
    monkeypatch.setattr(replica._model, "_started_at", replica._model._started_at - 31)
    with pytest.raises(RuntimeError, match="no such device"):
        replica.check_health()
