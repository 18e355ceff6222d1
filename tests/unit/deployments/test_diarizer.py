"""The wrapper: what it hands to the model, that a cancelled call ends, and a model that can't be had."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.deployments.diarizer import Diarizer
from serve_app.errors import ModelLoadingError
from serve_app.media.samples import DecodedAudio
from serve_app.models.diarization import networks, pipeline
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.options import DiarizerOptions
from serve_app.results import Diarization

AUDIO = DecodedAudio(np.zeros(16_000, dtype=np.float32), 1.0)
FOUND = Diarization((), "pyannote-audio-4 (x)")


class RecordingDiarizer:
    """Stands for the model: remembers what it was given."""

    model_version = "pyannote-audio-4 (x)"

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.calls: list[tuple[Any, dict[str, Any]]] = []
        self.entered, self.stopped = threading.Event(), threading.Event()
        self.tick = threading.Event()
        self.waits_for_stop = False
        self.shares: tuple[float, ...] = ()

    def diarize(self, samples: Any, *, on_progress: Callable[[str, float], None], **counts: Any) -> Diarization:
        self.calls.append((samples, counts))
        self.entered.set()
        for share in self.shares:
            on_progress("embeddings", share)
        try:
            while self.waits_for_stop:
                on_progress("embeddings", 0.5)
                self.tick.wait(0.001)
        finally:
            self.stopped.set()
        return FOUND


async def items(answer: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in answer]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    monkeypatch.setattr(pipeline, "SpeakerDiarizer", RecordingDiarizer)
    monkeypatch.setattr(networks, "load_networks", lambda *specs, **options: (specs, options))
    environment = ModelEnvironment(models_dir=tmp_path, hf_token="secret", mirror="s3://mirror")
    return lambda **options: Diarizer.func_or_class(DiarizerOptions(**options), environment)


def test_options_reach_the_model(make: Callable[..., Any], tmp_path: Path) -> None:
    replica = make(segmentation="a", embeddings=("b", "c"), device="cuda:1", num_threads=3)
    options = replica._model.get().options
    assert options["networks"] == (
        ("a", ("b", "c")),
        {"cache_dir": tmp_path, "hf_token": "secret", "mirror": "s3://mirror"},
    )
    assert (options["device"], options["num_threads"], options["model_id"]) == ("cuda:1", 3, None)
    found = asyncio.run(replica.describe())
    assert (found.spec, found.model_version, found.engine) == ("a + b + c", "pyannote-audio-4 (x)", "pyannote.audio")
    assert (found.device, found.warm, found.failure) == ("cuda:1", True, None)


def test_a_pipeline_of_the_hub_takes_the_place_of_the_networks(make: Callable[..., Any]) -> None:
    pipeline_id = f"org/pipeline@{'0' * 40}"
    replica = make(model_id=pipeline_id, allow_code=True)
    options = replica._model.get().options
    assert (options["networks"], options["model_id"], options["hf_token"]) == (None, pipeline_id, "secret")
    assert options["allow_code"]
    assert asyncio.run(replica.describe()).spec == pipeline_id


@pytest.mark.parametrize("device", [None, "auto"])
def test_auto_is_the_cpu_where_no_gpu_was_given(make: Callable[..., Any], device: str | None) -> None:
    assert make(device=device)._model.get().options["device"] == "cpu"


def test_a_file_is_handed_on_with_what_is_known_of_its_speakers(make: Callable[..., Any]) -> None:
    replica = make()
    assert asyncio.run(replica.diarize(AUDIO, 2, min_speakers=1, max_speakers=3)) is FOUND
    [(samples, counts)] = replica._model.get().calls
    assert samples is AUDIO.samples
    assert counts == {"num_speakers": 2, "min_speakers": 1, "max_speakers": 3}


def test_its_share_is_told_before_the_result(make: Callable[..., Any]) -> None:
    replica = make()
    replica._model.get().shares = (0.25, 0.5)
    first, *_, last = asyncio.run(items(replica.diarize_with_progress(AUDIO)))
    assert (first, last) == (0.25, FOUND)


@pytest.mark.parametrize("by_shares", [False, True])
def test_a_cancelled_call_stops_its_work(make: Callable[..., Any], by_shares: bool) -> None:
    replica = make()
    ask = attrgetter("diarize_with_progress" if by_shares else "diarize")
    model = replica._model.get()
    model.waits_for_stop = True

    async def cancel() -> None:
        call = asyncio.create_task(items(ask(replica)(AUDIO)) if by_shares else ask(replica)(AUDIO))
        assert await asyncio.to_thread(model.entered.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(model.stopped.wait, 10)

    asyncio.run(cancel())


@pytest.mark.parametrize("missing", ["networks", "device"])
def test_every_call_is_answered_with_the_reason_and_then_serve_learns_it(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def fail(*specs: Any, **options: Any) -> None:
        raise ModelLoadingError(f"no {missing}")

    module, name = (networks, "load_networks") if missing == "networks" else (pipeline, "SpeakerDiarizer")
    monkeypatch.setattr(module, name, fail)
    replica = make()
    for _ in range(2):
        with pytest.raises(ModelLoadingError, match=f"no {missing}"):
            asyncio.run(replica.diarize(AUDIO))
    found = asyncio.run(replica.describe())
    assert (found.model_version, found.warm, found.failure) == (None, False, f"no {missing}")
    replica.check_health()
    monkeypatch.setattr(replica._model, "_started_at", replica._model._started_at - 31)
    with pytest.raises(RuntimeError, match=f"no {missing}"):
        replica.check_health()
