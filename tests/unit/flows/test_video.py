"""The DAG on uploads and addresses, and how many callers may wait for it: over deployments that are plain objects."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.deployments.whisper import RecognizerInfo
from serve_app.errors import AudioExtractionError, InvalidRequest, Unavailable
from serve_app.flows.speech_to_text import PlacedDeployment, SpeechModels
from serve_app.flows.video import VideoModels, VideoPipeline
from serve_app.media.acoustics import measure_frames
from serve_app.models.speech.whisper.backend import BackendName
from serve_app.results import (
    Diarization,
    Segment,
    SpeakerTurn,
    SpeechActivity,
    SpeechRegion,
    SpeechTask,
    Transcript,
    Word,
)
from serve_app.services import AnalysisRequest
from serve_app.workers.ingress import DirectAnalysis
from tests.unit.flows.test_media_source import files_in, source

ONE, OTHER = BackendName.FASTER_WHISPER, BackendName.POCKETSPHINX


class Deployments:
    """Every deployment of the DAG in one object; two people say a word each."""

    def __init__(self) -> None:
        self.decoded: list[bytes | str] = []
        self.contents: list[bytes] = []
        self.diarized: list[tuple[int | None, ...]] = []
        self.heard: list[tuple[str, str | None, SpeechTask]] = []
        self.failure: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def decode(self, media: bytes | str) -> str:
        self.decoded.append(media)
        self.contents.append(media if isinstance(media, bytes) else Path(media).read_bytes())
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return "audio"

    async def detect_speech(self, audio: str) -> SpeechActivity:
        return SpeechActivity(2.0, (SpeechRegion(0.0, 2.0),))

    async def measure(self, audio: str) -> Any:
        return measure_frames(np.full(32_000, 0.1, np.float32))

    async def diarize(self, audio: str, *counts: int | None) -> Diarization:
        self.diarized.append(counts)
        return Diarization((SpeakerTurn(0.0, 1.0, "a"), SpeakerTurn(1.0, 2.0, "b")), "turns")

    async def prepare(self, language: str, task: SpeechTask) -> RecognizerInfo:
        return RecognizerInfo("m", (), 100.0)

    async def transcribe(
        self, audio: str, piece: SpeechRegion, language: str, prompt: str | None, task: SpeechTask, *about: object
    ) -> Transcript:
        self.heard.append((language, prompt, task))
        words = (Word("Hello", 0.2, 0.8), Word("there.", 1.2, 1.8))
        return Transcript((Segment(0.2, 1.8, "Hello there.", words),), "en", "m")


class Shared:
    """A result that is kept for other calls."""

    def __init__(self, result: Any) -> None:
        self._result = asyncio.ensure_future(result)

    async def reference(self) -> Any:
        return await self._result


class DirectCalls:
    """Calls methods of plain objects."""

    async def __call__(self, handle: Any, method: str, *args: Any) -> Any:
        return await getattr(handle, method)(*args)

    def shared(self, handle: Any, method: str, *args: Any) -> Shared:
        return Shared(getattr(handle, method)(*args))

    async def with_shared(self, handle: Any, method: str, first: Shared, *args: Any) -> Any:
        return await getattr(handle, method)(await first.reference(), *args)


def service(folder: Path, deployments: Any, max_at_once: int = 2) -> DirectAnalysis:
    """Return the synchronous analysis; jobs use pocketsphinx first there."""

    async def health() -> Mapping[str, str]:
        return {"D": "HEALTHY"}

    placed = [PlacedDeployment("D", deployments, False)]
    speech = SpeechModels(dict.fromkeys((ONE, OTHER), placed), dict.fromkeys((ONE, OTHER), "embedded:test"))
    media = source(folder)
    pipeline = VideoPipeline(VideoModels(deployments, speech, (OTHER, ONE), placed), media, 0.0, health)
    pipeline._call = pipeline._speech._call = DirectCalls()  # type: ignore[assignment]
    return DirectAnalysis(pipeline, media, max_at_once)


@pytest.mark.parametrize("content", [b"RIFF", b"RIFF" + bytes(3 << 20)], ids=["small", "large"])
def test_an_upload_is_analysed_in_full_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    async def run() -> Mapping[str, Any]:
        deployments = Deployments()
        request = AnalysisRequest(io.BytesIO(content), num_speakers=2, min_speakers=1, max_speakers=3)
        result = await service(tmp_path, deployments).analyze(request)
        assert deployments.contents == [content]
        # a small one travels with the call
        assert isinstance(deployments.decoded[0], bytes) == (len(content) < 100)
        assert deployments.diarized == [(2, 1, 3)]
        return result

    result = asyncio.run(run())
    assert [(part["text"], part["speaker"]["speaker_id"]) for part in result["segments"]] == [
        ("Hello", "SPEAKER_00"),
        ("there.", "SPEAKER_01"),
    ]
    assert result["segments"][0]["words"][0]["acoustic_features"]["volume_db"] == pytest.approx(-20.0, abs=0.1)
    assert len(result["speaker_turns"]) == 2
    assert "fetch" not in result["metadata"]["stage_seconds"]
    assert files_in(tmp_path) == []


def test_an_address_is_fetched_into_the_store_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.wav").write_bytes(b"RIFF by address")

    async def run() -> None:
        deployments = Deployments()
        direct = service(tmp_path, deployments)
        direct._pipeline._media = direct._media = source(tmp_path, media_root=tmp_path / "media")
        result = await direct.analyze(AnalysisRequest(str(tmp_path / "media" / "a.wav")))
        assert deployments.contents == [b"RIFF by address"]
        assert isinstance(deployments.decoded[0], str)
        assert "fetch" in result["metadata"]["stage_seconds"]

    asyncio.run(run())
    assert files_in(tmp_path) == [tmp_path / "media" / "a.wav"]


def test_backend_and_prompt_reach_the_recogniser(tmp_path: Path) -> None:
    async def run() -> None:
        deployments = Deployments()
        direct = service(tmp_path, deployments)
        await direct.analyze(AnalysisRequest(io.BytesIO(b"x"), "ko", backend="faster-whisper", prompt="Daniel"))
        assert deployments.heard == [("ko", "Daniel", SpeechTask.TRANSCRIBE)]
        with pytest.raises(InvalidRequest, match="'transformers' is not deployed"):
            await direct.analyze(AnalysisRequest(io.BytesIO(b"x"), backend="transformers"))
        assert len(deployments.decoded) == 1  # refused before anything is read

    asyncio.run(run())


def test_a_failure_leaves_nothing_and_its_place_is_free_again(tmp_path: Path) -> None:
    async def run() -> None:
        deployments = Deployments()
        deployments.failure = AudioExtractionError("no audio")
        direct = service(tmp_path, deployments, max_at_once=1)
        for _ in range(2):
            with pytest.raises(AudioExtractionError):
                await direct.analyze(AnalysisRequest(io.BytesIO(bytes(3 << 20))))
        assert files_in(tmp_path) == []

    asyncio.run(run())


def test_a_caller_too_many_is_refused_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    async def run() -> None:
        deployments = Deployments()
        deployments.go.clear()
        direct = service(tmp_path, deployments, max_at_once=1)
        waiting = asyncio.create_task(direct.analyze(AnalysisRequest(io.BytesIO(bytes(3 << 20)))))
        async with asyncio.timeout(30):
            while not deployments.decoded:
                await asyncio.sleep(0.001)
        with pytest.raises(Unavailable, match="busy; submit a job instead") as refused:
            await direct.analyze(AnalysisRequest(io.BytesIO(b"x")))
        assert refused.value.retry_after_s > 0
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert files_in(tmp_path) == []
        deployments.go.set()
        assert (await direct.analyze(AnalysisRequest(io.BytesIO(b"x"))))["segments"]

    asyncio.run(run())
