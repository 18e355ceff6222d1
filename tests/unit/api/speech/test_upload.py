"""`POST /transcribe` with a form: the fixed answer, and failures."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.messages import Locale
from serve_app.results import Transcript
from serve_app.services import AnalysisRequest, Services, TranscriptionRequest
from tests.unit.api.conftest import in_korean
from tests.unit.api.live import DEADLINE_S, serving, until
from tests.unit.api.memory_services import RESULT, MemoryAnalysis, MemorySpeech
from tests.unit.api.speech.test_routes import SHAPE as ANALYSIS_SHAPE

SHAPE = [
    "text",
    "language",
    "duration",
    "backend",
    "segments",
    "success",
    "filename",
    "language_requested",
    "model_version",
    "processing_time",
    "stage_seconds",
    "notes",
    "error",
    "error_code",
]


def upload(client: Any, content: bytes = b"RIFF....", filename: str = "talk.wav", **fields: Any) -> Any:
    return client.post("/transcribe", files={"file": (filename, content)}, data=fields)


def test_answers_as_the_contract(client: TestClient) -> None:
    answer = upload(client, language="en")
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == SHAPE
    took_s = body.pop("processing_time")
    assert 0 <= took_s < DEADLINE_S
    assert body.pop("segments")[0] == {
        "id": 0,
        "start": 0.52,
        "end": 1.9,
        "text": "Good morning, Daniel.",
        "avg_logprob": -0.25,
        "no_speech_prob": 0.01,
        "words": [
            {"word": "Good", "start": 0.52, "end": 0.8, "confidence": 0.98, "timing": "aligned"},
            {"word": "morning,", "start": 0.8, "end": 1.3, "confidence": 0.91, "timing": "aligned"},
            {"word": "Daniel.", "start": 1.42, "end": 1.9, "confidence": 0.875, "timing": "aligned"},
        ],
    }
    assert body == {
        "text": "Good morning, Daniel. How are you?",
        "language": "en",
        "duration": 4.0,
        "backend": "faster-whisper",
        "success": True,
        "filename": "talk.wav",
        "language_requested": "en",
        "model_version": "faster-whisper:whisper-micro:float32",
        "stage_seconds": {"decode": 0.01, "transcribe": 0.5},
        "notes": ["openai/whisper-small could not be loaded, whisper-micro speaks instead"],
        "error": None,
        "error_code": None,
    }


def test_defaults(client: TestClient, speech: MemorySpeech, analysis: MemoryAnalysis) -> None:
    assert upload(client, b"RIFFdata").status_code == 200
    (asked,) = speech.asked
    assert speech.contents == [b"RIFFdata"]
    assert dataclasses.replace(asked, file=None) == TranscriptionRequest(None, "talk.wav")  # type: ignore[arg-type]
    assert analysis.asked == []


def test_hands_on_every_field(client: TestClient, speech: MemorySpeech) -> None:
    fields = {"language": "ko", "backend": "transformers", "prompt": "다니엘,\n보스턴", "align": "false"}
    body = upload(client, filename="../회의.m4a", **fields).json()
    assert (body["backend"], body["filename"], body["language_requested"]) == ("transformers", "회의.m4a", "ko")
    (asked,) = speech.asked
    assert dataclasses.replace(asked, file=None) == TranscriptionRequest(
        None,  # type: ignore[arg-type]
        "회의.m4a",
        "ko",
        "transformers",
        "다니엘,\n보스턴",
        False,
    )


def test_an_audio_track_can_be_chosen_with_and_without_speakers(
    client: TestClient, speech: MemorySpeech, analysis: MemoryAnalysis
) -> None:
    assert upload(client, audio_track="1").status_code == 200
    assert upload(client, audio_track="2", diarize="true").status_code == 200
    assert (speech.asked[0].audio_track, analysis.asked[0].audio_track) == (1, 2)
    assert upload(client, audio_track="").status_code == 200
    assert speech.asked[1].audio_track is None
    assert upload(client, audio_track="first").status_code == 422


def test_fields_left_empty_by_a_browser_are_defaults(client: TestClient, speech: MemorySpeech) -> None:
    assert upload(client, language="", backend="", prompt="").status_code == 200
    assert (speech.asked[0].language, speech.asked[0].backend, speech.asked[0].prompt) == ("auto", None, None)


@pytest.mark.parametrize(
    ("given", "asked"), [("auto", "auto"), ("ko", "ko"), ("ZH", "zh"), (" en ", "en"), ("fr", "fr"), ("yue", "yue")]
)
def test_languages_are_whispers(client: TestClient, speech: MemorySpeech, given: str, asked: str) -> None:
    assert upload(client, language=given).status_code == 200
    assert speech.asked[0].language == asked


def test_recording_without_speech(client: TestClient, speech: MemorySpeech) -> None:
    speech.transcript = Transcript((), "en", "m")
    body = upload(client).json()
    assert (body["success"], body["text"], body["segments"]) == (True, "", [])


def test_figures_that_json_can_not_hold_are_unknown(client: TestClient, speech: MemorySpeech) -> None:
    first, second = speech.transcript.segments
    segments = (dataclasses.replace(first, avg_logprob=float("-inf"), no_speech_prob=float("nan")), second)
    speech.transcript = dataclasses.replace(speech.transcript, segments=segments)
    shown = upload(client).json()["segments"][0]
    assert (shown["avg_logprob"], shown["no_speech_prob"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "location", "told"),
    [
        ({"language": "klingon"}, ["body", "language"], "auto, ko, en, ja, zh"),
        ({"backend": "whisper-9000"}, ["body", "backend"], "deployed: faster-whisper, transformers, openai-whisper"),
        ({"align": "perhaps"}, ["body", "align"], "boolean"),
        ({"prompt": "a\x00b"}, ["body", "prompt"], "Control characters"),
        ({"prompt": "x" * 8193}, ["body", "prompt"], "8192"),
        ({"num_speakers": "2"}, ["body", "diarize"], "num_speakers: only with diarize=true"),
        (
            {"diarize": "false", "min_speakers": "2", "emotion_detection": "false"},
            ["body", "diarize"],
            "min_speakers: only with diarize=true",
        ),
        ({"diarize": "perhaps"}, ["body", "diarize"], "boolean"),
        ({"language": ["ko", "en"]}, ["body", "language"], "once"),
    ],
)
def test_wrong_field(
    client: TestClient, speech: MemorySpeech, fields: dict[str, Any], location: list[str], told: str
) -> None:
    answer = upload(client, **fields)
    assert answer.status_code == 422
    assert list(answer.json()) == [*SHAPE, "detail"]
    assert (answer.json()["success"], answer.json()["error_code"]) == (False, "PROCESSING_ERROR")
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == location
    assert told in problem["msg"]
    assert told in answer.json()["error"]
    assert speech.asked == []


@pytest.mark.parametrize(
    ("files", "location", "told"),
    [
        ({"audio": ("a.wav", b"RIFF")}, ["body", "audio"], "name it file"),
        ({"file": ("a.wav", b"")}, ["body", "file"], "empty"),
        ([("file", ("a.wav", b"RIFF")), ("file", ("b.wav", b"RIFF"))], ["body"], "one file"),
    ],
)
def test_wrong_file(client: TestClient, speech: MemorySpeech, files: Any, location: list[str], told: str) -> None:
    answer = client.post("/transcribe", files=files)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == location
    assert told in answer.json()["error"]
    assert speech.asked == []


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (errors.AudioExtractionError("no audio"), 422, "AUDIO_EXTRACTION_ERROR", "오디오 추출 실패: no audio"),
        (errors.LanguageUnsupported("ko"), 422, "PROCESSING_ERROR", "처리 중 오류가 발생했습니다: ko"),
        (errors.ProcessingError("x"), 500, "PROCESSING_ERROR", "처리 중 오류가 발생했습니다: x"),
        (errors.ModelLoadingError("x"), 503, "MODEL_LOADING_ERROR", "모델을 불러올 수 없습니다: x"),
        (errors.GpuMemoryError("x"), 503, "GPU_MEMORY_ERROR", "GPU 메모리가 부족합니다: x"),
        (errors.Overloaded("full", 7.1), 429, "PROCESSING_ERROR", "full"),
    ],
)
@in_korean
def test_failure(
    client: TestClient, speech: MemorySpeech, error: Exception, status: int, code: str, message: str
) -> None:
    speech.failures = [error]
    answer = upload(client)
    assert answer.status_code == status
    assert list(answer.json()) == SHAPE
    told = {name: answer.json()[name] for name in ("success", "text", "segments", "error", "error_code")}
    assert told == {"success": False, "text": "", "segments": [], "error": message, "error_code": code}
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def test_unhealthy_backend_is_never_silently_another_one(client: TestClient, speech: MemorySpeech) -> None:
    answer = upload(client, backend="openai-whisper")
    assert answer.status_code == 503
    assert "healthy: faster-whisper, transformers" in answer.json()["error"]
    assert answer.headers["retry-after"] == "2"


def test_unexpected_failure_keeps_its_secrets(client: TestClient, speech: MemorySpeech) -> None:
    speech.failures = [KeyError("hunter2")]
    answer = upload(client)
    assert (answer.status_code, answer.json()["success"]) == (500, False)
    assert "hunter2" not in answer.text


def test_byte_limit_is_the_forms_own(client_with: Callable[..., TestClient], speech: MemorySpeech) -> None:
    client = client_with(max_upload_bytes=3000, max_body_bytes=1024)
    assert upload(client, b"x" * 2000).status_code == 200
    answer = upload(client, b"x" * 3000)
    assert answer.status_code == 413
    assert (answer.json()["success"], answer.json()["error"]) == (False, "The body exceeds 3000 bytes")
    assert client.post("/transcribe", json={"video_url": "v" * 2000}).status_code == 413
    assert len(speech.asked) == 1


def test_recording_is_open_while_the_work_goes_on_and_closed_after(client: TestClient, speech: MemorySpeech) -> None:
    upload(client, b"x" * (2 << 20))
    assert len(speech.contents[0]) == 2 << 20
    assert speech.asked[0].file.closed


class TestDiarize:
    """A form with diarize=true is answered like a JSON object."""

    def test_answers_like_a_json_object(self, client: TestClient, speech: MemorySpeech) -> None:
        answer = upload(client, filename="../회의.m4a", diarize="true")
        assert answer.status_code == 200
        body = answer.json()
        by_address = client.post("/transcribe", json={"audio_path": "s3://bucket/회의.m4a"}).json()
        for told in (body, by_address):
            assert told["metadata"].pop("processed_at")
        assert list(body) == list(by_address)
        assert body == by_address
        assert body["metadata"]["filename"] == "회의.m4a"
        assert body["segments"] == RESULT["segments"]
        assert body["speaker_turns"] == RESULT["speaker_turns"]
        assert speech.asked == []

    @pytest.mark.parametrize("spelling", ["true", "1", "True", "on", "yes"])
    def test_defaults(self, client: TestClient, analysis: MemoryAnalysis, spelling: str) -> None:
        assert upload(client, b"RIFFdata", diarize=spelling).json()["speakers"]
        [asked] = analysis.asked
        assert analysis.contents == [b"RIFFdata"]
        assert dataclasses.replace(asked, source="") == AnalysisRequest("")
        assert asked.source.closed  # type: ignore[union-attr]

    def test_hands_on_every_field(self, client: TestClient, analysis: MemoryAnalysis) -> None:
        fields = {
            "language": "fr",
            "backend": "transformers",
            "prompt": "다니엘",
            "align": "false",
            "num_speakers": "3",
            "min_speakers": "2",
            "max_speakers": "4",
            "enable_gpu": "false",
            "emotion_detection": "false",
            "max_workers": "2",
        }
        assert upload(client, diarize="true", **fields).status_code == 200
        assert dataclasses.replace(analysis.asked[0], source="") == AnalysisRequest(
            "",
            language="fr",
            enable_gpu=False,
            emotion_detection=False,
            max_workers=2,
            num_speakers=3,
            min_speakers=2,
            max_speakers=4,
            backend="transformers",
            prompt="다니엘",
            align=False,
        )

    @pytest.mark.parametrize(
        ("fields", "location", "told"),
        [
            ({"min_speakers": "3", "max_speakers": "2"}, "max_speakers", "min_speakers"),
            ({"num_speakers": "0"}, "num_speakers", "greater than or equal to 1"),
            ({"num_speakers": "two"}, "num_speakers", "integer"),
            ({"language": "klingon"}, "language", "auto, ko, en, ja, zh"),
            ({"backend": "whisper-9000"}, "backend", "deployed: faster-whisper"),
        ],
    )
    def test_wrong_field(
        self, client: TestClient, analysis: MemoryAnalysis, fields: dict[str, str], location: str, told: str
    ) -> None:
        answer = upload(client, diarize="true", **fields)
        assert answer.status_code == 422
        assert list(answer.json()) == [*ANALYSIS_SHAPE, "detail"]
        assert answer.json()["success"] is False
        [problem] = answer.json()["detail"]
        assert problem["loc"] == ["body", location]
        assert told in problem["msg"]
        assert analysis.asked == []

    @pytest.mark.parametrize(
        "error",
        [
            errors.AudioExtractionError("no audio"),
            errors.LanguageUnsupported("ko"),
            errors.GpuMemoryError("x"),
            errors.Unavailable("Too many analyses at once; submit a job instead, or try again in 10 s", 10.0),
            KeyError("hunter2"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_failure_is_told_as_to_a_json_object(
        self, client: TestClient, analysis: MemoryAnalysis, error: Exception
    ) -> None:
        analysis.fail_with = error
        answer = upload(client, diarize="true")
        by_address = client.post("/transcribe", json={"audio_path": "s3://bucket/a.wav"})
        assert list(answer.json()) == ANALYSIS_SHAPE
        assert answer.json() == by_address.json()
        assert answer.status_code == by_address.status_code >= 400
        assert answer.headers.get("retry-after") == by_address.headers.get("retry-after")
        assert analysis.asked[0].source.closed  # type: ignore[union-attr]

    def test_client_that_leaves_ends_the_work(self, services: Services, analysis: MemoryAnalysis) -> None:
        analysis.hangs = True
        files = {"file": ("a.wav", b"x" * (2 << 20))}
        with serving(create_app(services, ApiSettings())) as url:
            leave_once(analysis.started, url, files=files, data={"diarize": "true"})
            assert analysis.cancelled.wait(DEADLINE_S)
            until(lambda: analysis.asked[0].source.closed, "the recording closed")  # type: ignore[union-attr]


def test_english_by_setting(client_with: Callable[..., TestClient], speech: MemorySpeech) -> None:
    speech.failures = [errors.AudioExtractionError("no audio")]
    assert upload(client_with(locale=Locale.EN)).json()["error"] == "Audio extraction failed: no audio"


def test_form_is_documented_beside_json(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/transcribe"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    schema = content["multipart/form-data"]["schema"]
    options = {"enable_gpu", "emotion_detection", "max_workers", "min_speakers", "max_speakers", "num_speakers"}
    options.add("audio_track")
    assert set(schema["properties"]) == {"file", "language", "backend", "prompt", "align", "diarize", *options}
    assert schema["required"] == ["file"]
    assert schema["properties"]["file"]["format"] == "binary"
    assert {"auto", "ko", "en", "ja", "zh", "fr"} <= set(schema["properties"]["language"]["enum"])
    answers = operation["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
    assert {answer["$ref"].rpartition("/")[2] for answer in answers} == {"UploadView", "TranscribeView"}


class TestLeavingClient:
    """Over a real connection, which the client closes while it waits."""

    def test_ends_the_work_and_closes_the_recording(
        self, services: Services, speech: MemorySpeech, caplog: pytest.LogCaptureFixture
    ) -> None:
        speech.hangs = True
        caplog.set_level(logging.INFO, "serve_app")
        with serving(create_app(services, ApiSettings())) as url:
            leave_once(speech.started, url, files={"file": ("a.wav", b"x" * (2 << 20))})
            assert speech.cancelled.wait(DEADLINE_S)
            until(lambda: speech.asked[0].file.closed, "the recording closed")
            # and the service goes on
            speech.hangs = False
            assert upload(httpx.Client(base_url=url)).status_code == 200
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "serve_app.access"]
        assert [line["status"] for line in lines] == [499, 200]
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    def test_ends_an_analysis_too(self, services: Services, analysis: MemoryAnalysis) -> None:
        analysis.hangs = True
        with serving(create_app(services, ApiSettings())) as url:
            leave_once(analysis.started, url, json={"audio_path": "s3://bucket/a.wav"})
            assert analysis.cancelled.wait(DEADLINE_S)


def leave_once(started: threading.Event, url: str, **body: Any) -> None:
    """Send a request, and close its connection once the work on it has begun."""
    request = httpx.Request("POST", f"{url}/transcribe", **body)
    content = request.read()
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection((request.url.host, request.url.port or 80), DEADLINE_S) as connection:
        connection.sendall(f"POST {request.url.path} HTTP/1.1\r\n{headers}\r\n".encode() + content)
        assert started.wait(DEADLINE_S)
