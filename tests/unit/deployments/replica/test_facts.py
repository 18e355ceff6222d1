"""What replicas tell of models that are loaded once: the real deployments, over stand-ins for slow models."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.deployments.pocketsphinx import SpeechRecognizer
from serve_app.deployments.replica.facts import replica_facts, replica_id
from serve_app.deployments.whisper import Batching, FasterWhisper
from serve_app.errors import ModelLoadingError
from serve_app.models.diarization import pipeline
from serve_app.models.speech.whisper import loading as whisper_loading
from serve_app.models.speech.whisper.options import WhisperOptions


def test_what_is_told() -> None:
    told = replica_facts(
        spec="base", model_version="whisper-base", engine="faster-whisper", device="cpu", loaded_at=3.0, notes=("n",)
    )
    assert (told.replica, told.node, told.pid) == ("", os.uname().nodename, os.getpid())
    assert (told.spec, told.model_version, told.engine, told.device) == (
        "base",
        "whisper-base",
        "faster-whisper",
        "cpu",
    )
    assert (told.warm, told.loaded_at, told.notes, told.failure) == (True, 3.0, ("n",), None)
    assert replica_id() == ""


def test_what_is_told_without_a_model() -> None:
    told = replica_facts(
        spec="base", model_version=None, engine="faster-whisper", device="cpu", loaded_at=3.0, failure="it is gone"
    )
    assert (told.engine, told.warm, told.loaded_at, told.failure) == (None, False, None, "it is gone")


@pytest.mark.parametrize("works", [True, False])
def test_whisper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    def load(name: str, models: Any, options: WhisperOptions) -> Any:
        if not works:
            raise ModelLoadingError("no source gives it")
        backend = SimpleNamespace(model_version="faster-whisper:whisper-base:int8")
        return SimpleNamespace(backend=backend, spec="base", notes=("large could not be loaded",))

    monkeypatch.setattr(whisper_loading, "load_whisper", load)
    began = time.time()
    replica = FasterWhisper.func_or_class(["large", "base"], WhisperOptions(cache_dir=tmp_path), Batching())
    told = asyncio.run(replica.describe())
    if works:
        assert (told.spec, told.model_version) == ("base", "faster-whisper:whisper-base:int8")
        assert (told.engine, told.notes, told.failure) == ("faster-whisper", ("large could not be loaded",), None)
        assert told.loaded_at is not None
        assert began <= told.loaded_at <= time.time()
    else:
        assert (told.spec, told.model_version, told.failure) == ("large", None, "no source gives it")


def test_pocketsphinx() -> None:
    told = asyncio.run(SpeechRecognizer.func_or_class().describe())
    assert told.spec == "embedded:pocketsphinx-en-us"
    assert told.model_version is not None
    assert "pocketsphinx" in told.model_version


def test_diarizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from serve_app.deployments.diarizer import Diarizer, DiarizerSource

    monkeypatch.setattr(
        pipeline, "SpeakerDiarizer", lambda **options: SimpleNamespace(model_version="pyannote-audio-4 (x)")
    )
    source = DiarizerSource("a", ("b",), tmp_path, model_id="org/pipeline")
    told = asyncio.run(Diarizer.func_or_class("cpu", 1, source).describe())
    assert (told.spec, told.model_version, told.engine) == ("org/pipeline", "pyannote-audio-4 (x)", "pyannote.audio")
