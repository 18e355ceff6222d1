"""`GET /jobs/{id}/transcript.{srt,vtt,txt,json}`."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.messages import Stage
from tests.unit.api.memory_services import RESULT, JobsOnTable


@pytest.fixture
def completed(client: TestClient, jobs: JobsOnTable) -> str:
    """Return the id of a job that has completed."""
    client.post("/api/upload-video/process-video", json={"job_id": "talk-1", "video_url": "v"})
    jobs.run_complete("talk-1", RESULT)
    return "talk-1"


@pytest.mark.parametrize(
    ("form", "media_type", "content"),
    [
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:01,500 --> 00:00:02,000\n안녕하세요\n\n"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:01.500 --> 00:00:02.000\n<v SPEAKER_00>안녕하세요\n"),
        ("txt", "text/plain; charset=utf-8", "안녕하세요\n"),
    ],
)
def test_file(client: TestClient, completed: str, form: str, media_type: str, content: str) -> None:
    answer = client.get(f"/jobs/{completed}/transcript.{form}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == f'attachment; filename="talk-1.{form}"'
    assert answer.content.decode("utf-8") == content


def test_json(client: TestClient, completed: str) -> None:
    answer = client.get(f"/jobs/{completed}/transcript.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="talk-1.json"'
    assert answer.json()["text"] == "안녕하세요"
    assert answer.json()["segments"][0]["words"] == [{"word": "안녕하세요", "start": 1.5, "end": 1.8}]


@pytest.mark.parametrize("form", ["srt", "vtt", "txt", "json"])
def test_nothing_said_is_a_file_too(client: TestClient, jobs: JobsOnTable, form: str) -> None:
    client.post("/api/upload-video/process-video", json={"job_id": "a", "video_url": "v"})
    jobs.run_complete("a", {**RESULT, "segments": [], "text": ""})
    assert client.get(f"/jobs/a/transcript.{form}").status_code == 200


def test_unknown_job(client: TestClient) -> None:
    answer = client.get("/jobs/nobody/transcript.srt")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "JOB_NOT_FOUND")


def test_unknown_form_is_told_which_there_are(client: TestClient, completed: str) -> None:
    answer = client.get(f"/jobs/{completed}/transcript.doc")
    assert answer.status_code == 422
    assert "'srt', 'vtt', 'txt' or 'json'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("job_id", [".hidden", "a b", "x" * 129, 'a"b'])
def test_unsafe_id_never_reaches_a_header(client: TestClient, job_id: str) -> None:
    answer = client.get(f"/jobs/{job_id}/transcript.srt")
    assert answer.status_code == 422
    assert "content-disposition" not in answer.headers


@pytest.mark.parametrize(
    ("state", "told"),
    [("queued", "processing"), ("processing", "processing"), ("failed", "failed"), ("cancelled", "cancelled")],
)
def test_job_without_a_transcript(client: TestClient, jobs: JobsOnTable, state: str, told: str) -> None:
    client.post("/api/upload-video/process-video", json={"job_id": "a", "video_url": "v"})
    if state in ("processing", "failed"):
        jobs.run_start("a")
        jobs.run_stage("a", Stage.TRANSCRIBING)
    if state == "failed":
        jobs.run_fail("a", "DOWNLOAD_ERROR", "gone")
    if state == "cancelled":
        client.post("/jobs/a/cancel")
    answer = client.get("/jobs/a/transcript.vtt")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "JOB_CONFLICT")
    assert f"a is {told} and has no transcript" in answer.json()["error"]["message"]


def test_documented_with_every_media_type(client: TestClient) -> None:
    paths: Any = client.get("/openapi.json").json()["paths"]
    content = paths["/jobs/{job_id}/transcript.{form}"]["get"]["responses"]["200"]["content"]
    assert set(content) == {"application/x-subrip", "text/vtt", "text/plain", "application/json"}
