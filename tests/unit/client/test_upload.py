"""Uploads and transcripts, against the real app on a real socket."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app import errors
from serve_app.client import Client
from serve_app.services import AnalysisRequest
from tests.unit.api.memory_services import RESULT, JobsOnTable, MemoryAnalysis, MemorySpeech


@pytest.fixture
def speech(running: tuple[FastAPI, str], client: Client) -> MemorySpeech:
    return running[0].state.services.speech


@pytest.fixture
def analysis(running: tuple[FastAPI, str], client: Client) -> MemoryAnalysis:
    return running[0].state.services.analysis


class TestDiarize:
    def test_answer_is_that_of_an_analysis(self, client: Client, analysis: MemoryAnalysis, tmp_path: Path) -> None:
        path = tmp_path / "talk.wav"
        path.write_bytes(b"recording")
        options: dict[str, Any] = {"num_speakers": 2, "enable_gpu": False, "prompt": "다니엘", "max_speakers": None}
        answer = client.transcribe(path, language="ko", backend="transformers", diarize=True, **options)
        told = (answer["success"], answer["segments"], answer["speaker_turns"])
        assert told == (True, RESULT["segments"], RESULT["speaker_turns"])
        assert answer["metadata"]["filename"] == "talk.wav"
        assert analysis.contents == [b"recording"]
        assert dataclasses.replace(analysis.asked[0], source="") == AnalysisRequest(
            "", language="ko", enable_gpu=False, num_speakers=2, backend="transformers", prompt="다니엘"
        )

    def test_its_options_need_it(self, client: Client, analysis: MemoryAnalysis) -> None:
        with pytest.raises(errors.InvalidRequest, match="num_speakers: only with diarize=true"):
            client.transcribe(io.BytesIO(b"x"), num_speakers=2)
        assert analysis.asked == []

    @pytest.mark.parametrize("error", [errors.AudioExtractionError("no audio"), errors.Unavailable("busy", 10.0)])
    def test_failures_are_the_errors_of_the_tree(
        self, client: Client, analysis: MemoryAnalysis, error: errors.ServeAppError
    ) -> None:
        analysis.fail_with = error
        with pytest.raises(type(error)) as caught:
            client.transcribe(io.BytesIO(b"x"), diarize=True)
        assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)


class TestTranscribe:
    def test_path(self, client: Client, speech: MemorySpeech, tmp_path: Path) -> None:
        path = tmp_path / "노래 1.wav"
        path.write_bytes(b"recording")
        answer = client.transcribe(path, language="ko", backend="transformers")
        assert (answer["success"], answer["backend"], answer["duration"]) == (True, "transformers", 4.0)
        assert answer["text"].split() == [word for part in speech.transcript.segments for word in part.text.split()]
        [asked] = speech.asked
        assert (asked.filename, asked.language, asked.backend) == ("노래 1.wav", "ko", "transformers")
        assert speech.contents == [b"recording"]

    def test_default_backend_is_the_services_choice(self, client: Client, speech: MemorySpeech, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"x")
        assert client.transcribe(str(path))["backend"] == "faster-whisper"
        assert (speech.asked[0].backend, speech.asked[0].language) == (None, "auto")

    def test_open_file(self, client: Client, speech: MemorySpeech) -> None:
        client.transcribe(io.BytesIO(b"from memory"), filename="talk.ogg")
        assert (speech.contents, speech.asked[0].filename) == ([b"from memory"], "talk.ogg")

    def test_name_of_any_bytes(self, client: Client, speech: MemorySpeech, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b'/a\r\nb\xff".wav'))
        path.write_bytes(b"x")
        client.transcribe(path)
        assert speech.contents == [b"x"]
        assert speech.asked[0].filename.startswith("a")
        assert speech.asked[0].filename.endswith(".wav")

    def test_missing_file_is_not_the_services_fault(self, client: Client, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            client.transcribe(tmp_path / "gone.wav")

    @pytest.mark.parametrize(
        ("options", "kind", "told"),
        [
            ({"backend": "none-such"}, errors.InvalidRequest, "faster-whisper"),
            ({"backend": "openai-whisper"}, errors.Unavailable, "not healthy"),
            ({"language": "xx"}, errors.InvalidRequest, "language"),
        ],
    )
    def test_refusals(
        self, client: Client, options: dict[str, str], kind: type[errors.ServeAppError], told: str
    ) -> None:
        with pytest.raises(kind) as caught:
            client.transcribe(io.BytesIO(b"x"), **options)  # type: ignore[arg-type]
        assert type(caught.value) is kind
        assert told in caught.value.detail

    @pytest.mark.parametrize(
        "error",
        [
            errors.AudioExtractionError("no audio"),
            errors.ProcessingError("x"),
            errors.LanguageUnsupported("ko"),
            errors.ModelLoadingError("x"),
            errors.GpuMemoryError("x"),
            errors.Overloaded("full", 4.0),
            errors.Unavailable("starting", 3.0),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_failures_are_the_errors_of_the_tree(
        self, client: Client, speech: MemorySpeech, error: errors.ServeAppError
    ) -> None:
        speech.failures = [error]
        with pytest.raises(type(error)) as caught:
            client.transcribe(io.BytesIO(b"x"))
        assert type(caught.value) is type(error)
        assert error.detail in caught.value.detail
        assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)

    def test_too_large_a_file_is_told_although_the_service_stops_reading(self, client: Client) -> None:
        # not Overloaded or Unavailable: it would be sent again, in vain
        with pytest.raises(errors.MediaTooLarge, match="100000 bytes"):
            client.transcribe(io.BytesIO(bytes(20_000_000)))


class CountingTransport(httpx.BaseTransport):
    """Reads a request as a network would, piece by piece, and keeps none of it."""

    def __init__(self) -> None:
        self.num_bytes = self.largest_bytes = 0
        self.headers = httpx.Headers()
        self.timeout: dict[str, Any] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        for piece in request.stream:
            self.num_bytes += len(piece)
            self.largest_bytes = max(self.largest_bytes, len(piece))
        self.headers, self.timeout = request.headers, request.extensions["timeout"]
        return httpx.Response(200, json={"text": "t"})


def test_large_file_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    transport = CountingTransport()
    with Client("http://service", transport=transport) as client:
        tracemalloc.start()
        try:
            client.transcribe(path, timeout_s=1234.0)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert transport.num_bytes > 64 << 20
    assert int(transport.headers["content-length"]) == transport.num_bytes
    assert transport.largest_bytes <= 1 << 20
    assert peak_bytes < 4 << 20
    assert transport.timeout["read"] == 1234.0
    assert transport.timeout["connect"] == 30.0


class TestTranscript:
    @pytest.fixture
    def jobs(self, running: tuple[FastAPI, str], client: Client) -> JobsOnTable:
        jobs = running[0].state.services.jobs
        client.submit("v", job_id="a")
        jobs.run_start("a")
        return jobs

    def test_forms(self, client: Client, jobs: JobsOnTable) -> None:
        jobs.run_complete("a", RESULT)
        assert client.result("a") == client.get("a")["result"]
        assert "00:00:01,500 --> " in client.transcript("a")
        assert client.transcript("a", "vtt").startswith("WEBVTT")
        assert "안녕하세요" in client.transcript("a", "txt")
        assert "안녕하세요" in json.dumps(json.loads(client.transcript("a", "json")), ensure_ascii=False)

    def test_before_the_end(self, client: Client, jobs: JobsOnTable) -> None:
        with pytest.raises(errors.JobConflict, match="has no transcript"):
            client.transcript("a")

    def test_unknown(self, client: Client) -> None:
        with pytest.raises(errors.JobNotFound):
            client.transcript("nobody")
