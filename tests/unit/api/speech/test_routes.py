"""`POST /transcribe` with a JSON object: the fixed answer, and failures."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app import errors
from serve_app.services import AnalysisRequest
from tests.unit.api.conftest import in_korean
from tests.unit.api.memory_services import RESULT, MemoryAnalysis

SHAPE = ["success", "segments", "speakers", "metadata", "processing_time", "error", "error_code", "speaker_turns"]


def transcribe(client: TestClient, **body: Any) -> Any:
    return client.post("/transcribe", json=body)


def test_answers_as_the_contract(client: TestClient) -> None:
    answer = transcribe(client, video_url="https://example.org/a/video.mp4?X-Amz-Signature=s", language="en")
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == SHAPE
    processed_at = body["metadata"].pop("processed_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", processed_at)
    assert list(body["metadata"].items())[:8] == [
        ("filename", "video.mp4"),
        ("duration", 120.5),
        ("total_segments", 1),
        ("unique_speakers", 1),
        ("processing_time", 45.2),
        ("language_requested", "ko"),
        ("language_detected", "ko"),
        ("processing_mode", "targeted"),
    ]
    # what was degraded is told here as in a job
    assert body["metadata"]["notes"] == ["emotion recognition: no model is configured"]
    assert body == {
        "success": True,
        "segments": RESULT["segments"],
        "speakers": RESULT["speakers"],
        "metadata": body["metadata"],
        "processing_time": 45.2,
        "error": None,
        "error_code": None,
        "speaker_turns": RESULT["speaker_turns"],
    }
    assert "안녕하세요" in answer.text


@pytest.mark.parametrize(
    ("given", "wins"),
    [
        ({"audio_path": "a", "video_url": "b", "video_path": "c"}, "a"),
        ({"video_url": "b", "video_path": "c"}, "b"),
        ({"video_path": "c"}, "c"),
        ({"audio_path": "", "video_url": None, "video_path": "c"}, "c"),
        ({"audio_path": "", "video_url": "b"}, "b"),
    ],
)
def test_audio_path_wins_over_video_url_over_video_path(
    client: TestClient, analysis: MemoryAnalysis, given: dict[str, Any], wins: str
) -> None:
    assert transcribe(client, **given).status_code == 200
    assert [request.source for request in analysis.asked] == [wins]


def test_hands_on_every_option(client: TestClient, analysis: MemoryAnalysis) -> None:
    options = {
        "language": "ja",
        "enable_gpu": False,
        "emotion_detection": False,
        "max_workers": 2,
        "num_speakers": 3,
        "min_speakers": 2,
        "max_speakers": 4,
    }
    transcribe(client, audio_path="s3://bucket/a.wav", **options)
    assert analysis.asked == [AnalysisRequest("s3://bucket/a.wav", **options)]  # type: ignore[arg-type]


def test_defaults(client: TestClient, analysis: MemoryAnalysis) -> None:
    transcribe(client, audio_path="s3://bucket/a.wav")
    assert analysis.asked == [AnalysisRequest("s3://bucket/a.wav", language="en")]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/folder/talk.mp4", "talk.mp4"),
        ("https://h/%EC%95%88%EB%85%95.mp4", "안녕.mp4"),
        ("https://h/a%2Fb%5Cc.mp4", "c.mp4"),
        ("/srv/media/talk.wav", "talk.wav"),
        ("https://h/", "media"),
        ("https://[bad/x.mp4", "x.mp4"),
    ],
)
def test_filename_is_the_last_part_of_the_path(client: TestClient, url: str, name: str) -> None:
    assert transcribe(client, video_url=url).json()["metadata"]["filename"] == name


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (
            errors.DownloadError("404 Not Found"),
            400,
            "DOWNLOAD_ERROR",
            "비디오 파일을 다운로드할 수 없습니다: 404 Not Found",
        ),
        (errors.AddressRefused("private"), 400, "DOWNLOAD_ERROR", "비디오 파일을 다운로드할 수 없습니다: private"),
        (errors.MediaTooLarge("5 GiB"), 413, "DOWNLOAD_ERROR", "비디오 파일을 다운로드할 수 없습니다: 5 GiB"),
        (errors.DownloadInterrupted("reset"), 502, "DOWNLOAD_ERROR", "비디오 파일을 다운로드할 수 없습니다: reset"),
        (errors.AudioExtractionError("no audio"), 422, "AUDIO_EXTRACTION_ERROR", "오디오 추출 실패: no audio"),
        (errors.ProcessingError("x"), 500, "PROCESSING_ERROR", "처리 중 오류가 발생했습니다: x"),
        (errors.LanguageUnsupported("ko"), 422, "PROCESSING_ERROR", "처리 중 오류가 발생했습니다: ko"),
        (errors.ModelLoadingError("x"), 503, "MODEL_LOADING_ERROR", "모델을 불러올 수 없습니다: x"),
        (errors.GpuMemoryError("x"), 503, "GPU_MEMORY_ERROR", "GPU 메모리가 부족합니다: x"),
        (errors.Overloaded("full", 7.1), 429, "PROCESSING_ERROR", "full"),
        (errors.Unavailable("Diarizer is starting", 3.0), 503, "PROCESSING_ERROR", "Diarizer is starting"),
    ],
)
@in_korean
def test_failure(
    client: TestClient,
    analysis: MemoryAnalysis,
    error: errors.ServeAppError,
    status: int,
    code: str,
    message: str,
) -> None:
    analysis.fail_with = error
    answer = transcribe(client, video_url="https://example.org/v.mp4")
    assert answer.status_code == status
    assert list(answer.json()) == SHAPE
    assert answer.json() == {
        "success": False,
        "segments": [],
        "speakers": {},
        "metadata": {},
        "processing_time": 0.0,
        "error": message,
        "error_code": code,
        "speaker_turns": [],
    }
    if status in (429, 503):
        wait_s = getattr(error, "retry_after_s", 30.0)
        assert wait_s <= int(answer.headers["retry-after"]) < wait_s + 1
    else:
        assert "retry-after" not in answer.headers


def test_unexpected_failure_keeps_the_shape_and_its_secrets(client: TestClient, analysis: MemoryAnalysis) -> None:
    analysis.fail_with = KeyError("hunter2")
    answer = transcribe(client, video_url="https://example.org/v.mp4")
    assert answer.status_code == 500
    assert (answer.json()["success"], answer.json()["error_code"]) == (False, "PROCESSING_ERROR")
    assert "hunter2" not in answer.text
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "location", "told"),
    [
        ({}, ["body"], "audio_path, video_url, video_path"),
        ({"video_url": ""}, ["body"], "audio_path, video_url, video_path"),
        ({"video_url": "v", "language": "fr"}, ["body", "language"], "'auto', 'ko', 'en', 'ja' or 'zh'"),
        ({"video_url": 3}, ["body", "video_url"], "valid string"),
        ({"video_url": "v", "min_speakers": 2, "max_speakers": 1}, ["body", "max_speakers"], "min_speakers"),
    ],
)
def test_wrong_request(
    client: TestClient, analysis: MemoryAnalysis, body: dict[str, Any], location: list[str], told: str
) -> None:
    answer = transcribe(client, **body)
    assert answer.status_code == 422
    assert list(answer.json()) == [*SHAPE, "detail"]
    assert answer.json()["success"] is False
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == location
    assert told in problem["msg"]
    assert told in answer.json()["error"]
    assert analysis.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\x80", b"[" * 100_000, b'{"video_url": "\\ud800"}'])
def test_hostile_body(client: TestClient, body: bytes) -> None:
    answer = client.post("/transcribe", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert (answer.json()["success"], answer.json()["detail"][0]["loc"][0]) == (False, "body")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "audio/wav"])
def test_other_bodies_are_told_what_to_send(client: TestClient, analysis: MemoryAnalysis, media_type: str) -> None:
    answer = client.post("/transcribe", content=b"RIFF", headers={"content-type": media_type})
    assert answer.status_code == 415
    assert list(answer.json()) == SHAPE
    assert "multipart/form-data" in answer.json()["error"]
    assert "application/json" in answer.json()["error"]
    assert analysis.asked == []


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
def test_json_by_other_spellings(client: TestClient, media_type: str) -> None:
    answer = client.post("/transcribe", content=b'{"video_url": "v"}', headers={"content-type": media_type})
    assert answer.status_code == 200


def test_body_limit_keeps_the_shape(client: TestClient) -> None:
    answer = transcribe(client, video_url="v" * (1 << 20))
    assert answer.status_code == 413
    assert (answer.json()["success"], answer.json()["error"]) == (False, "The body exceeds 1048576 bytes")
