"""The Whisper deployments over a stand-in for the model, and pocketsphinx beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serve_app.deployments.audio_analyzer import AudioAnalyzer
from serve_app.deployments.pocketsphinx import SpeechRecognizer
from serve_app.deployments.whisper import FasterWhisper, OpenAIWhisper
from serve_app.errors import LanguageUnsupported, ModelLoadingError, ProcessingError, StorageError, TaskUnsupported
from serve_app.media.samples import DecodedAudio
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech import pocketsphinx_recognizer
from serve_app.models.speech.options import AnalyzerOptions
from serve_app.models.speech.whisper import loading
from serve_app.models.speech.whisper.backend import WHISPER_MICRO, SpeechPiece
from serve_app.models.speech.whisper.options import BackendOptions, WhisperArgs, WhisperOptions
from serve_app.results import SpeechRegion, SpeechTask

AUDIO = DecodedAudio(np.arange(10 * 16_000, dtype=np.float32), 10.0)
PIECES = [SpeechRegion(0.0, 1.0), SpeechRegion(1.0, 2.0), SpeechRegion(2.5, 3.0)]


@dataclass
class Backend:
    """Transcribes a piece to the number of its samples; a batch with a piece that begins at 1 s fails."""

    model_version: str = "faster-whisper:whisper-base:int8"
    can_detect_languages: bool = True
    batches: list[list[SpeechPiece]] = field(default_factory=list)

    def check_task(self, task: SpeechTask) -> None:
        if task is SpeechTask.TRANSLATE:
            raise TaskUnsupported("it can't translate")

    def check_language(self, language: str) -> None:
        if language == "xx":
            raise LanguageUnsupported("not xx")

    def transcribe(self, pieces: list[SpeechPiece], *, should_stop: Callable[[], bool]) -> list[str]:
        self.batches.append(pieces)
        if any(piece.offset_s == 1.0 for piece in pieces):
            raise ProcessingError("bad numbers")
        return [str(len(piece.samples)) for piece in pieces]

    def detect_languages(self, pieces: list[SpeechPiece], *, should_stop: Callable[[], bool]) -> list[dict[str, float]]:
        return [{"en": 1.0} for _ in pieces]


class Loader:
    """Stands for `load_whisper`; remembers what it was called with."""

    def __init__(self, spec: str = "base", error: Exception | None = None) -> None:
        self.backend, self.spec, self.error = Backend(), spec, error
        self.given: tuple[Any, ...] = ()

    def __call__(self, name: str, models: Any, options: WhisperOptions) -> Any:
        self.given = (name, models, options)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(backend=self.backend, spec=self.spec, notes=("large could not be loaded",))


def replica_of(loader: Loader, monkeypatch: pytest.MonkeyPatch, deployment: Any = FasterWhisper, **options: Any) -> Any:
    monkeypatch.setattr(loading, "load_whisper", loader)
    given = WhisperArgs(**{"models": ("large", "base"), **options})
    return deployment.func_or_class(given, ModelEnvironment(models_dir=Path("/m"), hf_token="t", mirror="s3://m"))


def test_a_replica_loads_what_its_own_backend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader()
    replica_of(loader, monkeypatch, OpenAIWhisper, device="mps", openai_whisper=BackendOptions(beam_size=3))
    name, models, options = loader.given
    assert (name, models) == ("openai-whisper", ("large", "base"))
    assert (options.beam_size, options.device, options.cache_dir) == (3, "mps", Path("/m"))
    assert (options.hf_token, options.model_mirror) == ("t", "s3://m")


def test_a_replica_describes_what_it_serves(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    found = asyncio.run(replica_of(Loader(), monkeypatch).describe())
    assert (found.spec, found.model_version) == ("base", "faster-whisper:whisper-base:int8")
    assert (found.engine, found.device, found.failure) == ("faster-whisper", "cpu", None)
    assert found.notes == ("large could not be loaded",)


@pytest.mark.parametrize(("spec", "is_stand_in"), [("base", False), (WHISPER_MICRO, True)])
def test_a_caller_learns_what_is_loaded(monkeypatch: pytest.MonkeyPatch, spec: str, is_stand_in: bool) -> None:
    replica = replica_of(Loader(spec), monkeypatch)
    info = asyncio.run(replica.prepare("en"))
    assert (info.model_version, info.is_stand_in) == ("faster-whisper:whisper-base:int8", is_stand_in)
    assert info.can_detect_languages
    assert info.uptime_s >= 0
    assert ("whisper-micro knows a few hundred words" in info.notes[-1]) is is_stand_in
    with pytest.raises(TaskUnsupported):
        asyncio.run(replica.prepare("en", SpeechTask.TRANSLATE))
    with pytest.raises(LanguageUnsupported):
        asyncio.run(replica.prepare("xx"))


def test_pieces_share_a_call_and_a_bad_one_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader()
    replica = replica_of(loader, monkeypatch, faster_whisper=BackendOptions(batch_size=3, batch_wait_s=60.0))

    async def run() -> list[Any]:
        calls = [
            replica.transcribe(AUDIO, piece, "en", "Anna", speech=[piece], likely_language="de") for piece in PIECES
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(run())
    assert [answers[0], answers[2]] == ["16000", "8000"]
    assert isinstance(answers[1], ProcessingError)
    assert [len(batch) for batch in loader.backend.batches] == [3, 1, 1, 1]
    piece = loader.backend.batches[0][2]
    assert (piece.samples[0], piece.offset_s, piece.language, piece.prompt) == (40_000, 2.5, "en", "Anna")
    assert (piece.speech, piece.likely_language) == ((PIECES[2],), "de")


def test_languages_are_detected_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = replica_of(Loader(), monkeypatch)
    assert asyncio.run(replica.detect_languages(AUDIO, PIECES[:2])) == [{"en": 1.0}] * 2


def test_without_a_model_every_call_is_answered_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = replica_of(Loader(error=ModelLoadingError("no source gives it")), monkeypatch)
    for call in (
        replica.prepare("en"),
        replica.transcribe(AUDIO, PIECES[0], "en"),
        replica.detect_languages(AUDIO, PIECES),
    ):
        with pytest.raises(ModelLoadingError, match="no source gives it"):
            asyncio.run(call)
    found = asyncio.run(replica.describe())
    assert (found.spec, found.model_version, found.failure) == ("large", None, "no source gives it")
    monkeypatch.setattr(replica._model, "_started_at", replica._model._started_at - 31)
    with pytest.raises(RuntimeError, match="no source gives it"):
        replica.check_health()


class TestPocketsphinx:
    def test_it_describes_what_it_serves_and_refuses_what_it_can_not(self) -> None:
        replica = SpeechRecognizer.func_or_class()
        found = asyncio.run(replica.describe())
        assert (found.spec, found.engine) == ("embedded:pocketsphinx-en-us", "pocketsphinx")
        assert found.model_version is not None
        assert asyncio.run(replica.prepare("en")).model_version == found.model_version
        for call in (replica.prepare("ko"), replica.check_language("ko")):
            with pytest.raises(LanguageUnsupported):
                asyncio.run(call)
        with pytest.raises(TaskUnsupported):
            asyncio.run(replica.transcribe(AUDIO, PIECES[0], "en", task=SpeechTask.TRANSLATE))
        replica.check_health()

    def test_without_its_model_it_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise ModelLoadingError("the package has no model")

        monkeypatch.setattr(pocketsphinx_recognizer, "PocketsphinxRecognizer", fail)
        with pytest.raises(ModelLoadingError, match="the package has no model"):
            asyncio.run(SpeechRecognizer.func_or_class().transcribe(AUDIO, PIECES[0], "en"))


def test_a_stored_file_that_is_gone_is_a_fault_of_the_storage(tmp_path: Path) -> None:
    replica = AudioAnalyzer.func_or_class(AnalyzerOptions(num_threads=1), max_duration_s=60.0)
    with pytest.raises(StorageError, match="FileNotFoundError"):
        asyncio.run(replica.decode(str(tmp_path / "gone.wav")))
