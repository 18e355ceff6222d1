"""Answers with results: the stored text is sent as it is, and nothing parses it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator

import pytest
from fastapi.testclient import TestClient

from serve_app import json_text
from serve_app.api.http.event_stream import stream_events
from serve_app.jobs.record import Job, JobEvent, JobStatus
from tests.unit.api.memory_services import JobsOnTable

RESULT = {"text": '안녕 "하세요" \u2028 \x01', "segments": [{"start_time": 0.1, "words": []}] * 3, "language": "ko"}


def complete(client: TestClient, jobs: JobsOnTable, result: object = RESULT, job_id: str = "job-1") -> str:
    body = {"job_id": job_id, "video_url": "https://example.com/a.mp4", "fastapi_base_url": "https://b.example"}
    assert client.post("/api/upload-video/process-video", json=body).status_code == 200
    jobs.run_complete(job_id, result)  # type: ignore[arg-type]
    text = jobs.store.get(job_id).result_text
    assert text is not None
    return text


@pytest.fixture
def nothing_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("a result was parsed")

    monkeypatch.setattr(Job, "result", property(refuse))
    monkeypatch.setattr(JobEvent, "payload", property(refuse))
    monkeypatch.setattr(json_text, "loads", refuse)


@pytest.mark.usefixtures("nothing_parses")
def test_a_job_is_answered_with_its_stored_text(client: TestClient, jobs: JobsOnTable) -> None:
    text = complete(client, jobs)
    answer = client.get("/jobs/job-1")
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content.endswith(f',"result":{text}}}'.encode())
    assert answer.json() == {
        "status": "completed",
        "processing_time": 45.2,
        "completed_at": "2024-01-15T10:30:55Z",
        "job_id": "job-1",
        "progress": 100,
        "message": "분석 완료",
        "created_at": "2024-01-15T10:30:00Z",
        "result": RESULT,
    }


@pytest.mark.usefixtures("nothing_parses")
def test_a_stream_of_events_carries_the_stored_text(client: TestClient, jobs: JobsOnTable) -> None:
    text = complete(client, jobs)
    [_retry, last, _end] = client.get("/jobs/job-1/events").content.decode().split("\n\n")
    data = last.split("\n")[2].removeprefix("data: ")
    assert data.endswith(f',"result":{text}}}'.replace("\u2028", "\\u2028"))
    assert json.loads(data)["result"] == RESULT


def test_deliveries_leave_the_result_out(client: TestClient, jobs: JobsOnTable) -> None:
    complete(client, jobs)
    [delivery] = client.get("/jobs/job-1/deliveries").json()["deliveries"]
    assert set(delivery["payload"]) == {"job_id", "status", "progress", "message"}
    assert set(delivery) == {
        "seq",
        "webhook_id",
        "status",
        "attempts",
        "created_at",
        "next_attempt_at",
        "delivered_at",
        "last_error",
        "last_status_code",
        "payload",
    }


@pytest.mark.usefixtures("nothing_parses")
def test_a_result_can_be_fetched_alone_and_checked(client: TestClient, jobs: JobsOnTable) -> None:
    text = complete(client, jobs)
    answer = client.get("/jobs/job-1/result")
    assert answer.content == text.encode()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    again = client.get("/jobs/job-1/result", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head("/jobs/job-1/result")
    assert (head.content, head.headers["content-length"]) == (b"", answer.headers["content-length"])
    part = client.get("/jobs/job-1/result", headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, text.encode()[5:10])


def test_there_is_no_result_before_the_end(client: TestClient, jobs: JobsOnTable) -> None:
    body = {"job_id": "job-1", "video_url": "https://example.com/a.mp4"}
    client.post("/api/upload-video/process-video", json=body)
    answer = client.get("/jobs/job-1/result")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == (
        "job-1 is processing and has no result; there is one once a job has completed"
    )
    assert client.get("/jobs/nobody/result").status_code == 404


def test_a_long_event_is_sent_in_pieces() -> None:
    body = json.dumps({"job_id": "a", "status": "completed", "result": "x" * (3 * json_text.PIECE_BYTES)})

    async def source() -> AsyncIterator[JobEvent]:
        yield JobEvent("a", 1, 0.0, JobStatus.COMPLETED, body)

    async def blocks() -> list[bytes]:
        response = stream_events(source(), None, heartbeat_s=60.0, retry_ms=1)
        return [bytes(block) async for block in response.body_iterator]  # type: ignore[arg-type]

    sent = asyncio.run(blocks())
    assert max(map(len, sent)) <= json_text.PIECE_BYTES
    assert b"".join(sent).endswith(f"event: completed\ndata: {body}\n\n".encode())


def words(num_words: int) -> dict[str, object]:
    """Return a result like that of a recording with this many words."""
    sound = {"volume_db": -20.13, "pitch_hz": 151.27, "spectral_centroid": 1502.91}
    heard = [
        {
            "word": "안녕하세요",
            "start": n * 0.3,
            "end": n * 0.3 + 0.25,
            "confidence": 0.9512,
            "acoustic_features": sound,
        }
        for n in range(num_words)
    ]
    segments = [{"start_time": n * 3.6, "words": heard[n : n + 12]} for n in range(0, num_words, 12)]
    return {"segments": segments, "word_segments": heard, "text": "안녕하세요 " * num_words}


def test_no_call_of_the_json_library_handles_more_than_an_element(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a call holds the interpreter's lock to its end, whatever thread it runs in."""
    handled: list[int] = []
    result = words(5_000)

    class Measured(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[object, int]:
            value, end = super().raw_decode(s, idx)
            handled.append(end - idx)
            return value, end

    def encode(value: object) -> str:
        handled.append(len(plain.encode(value)))
        return plain.encode(value)

    plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    monkeypatch.setattr(json_text, "_encode", encode)
    monkeypatch.setattr(json_text, "_DECODER", Measured())
    text = json_text.dumps(result)
    assert text == plain.encode(result)
    assert json_text.loads(text) == result
    longest_text = len(plain.encode(result["text"]))
    assert max(handled) == longest_text < len(text) / 20


@pytest.mark.slow
def test_a_long_result_costs_the_event_loop_little(client: TestClient, jobs: JobsOnTable) -> None:
    """Seconds of the processor that the loop's thread takes, against what writing the result once takes."""
    text = complete(client, jobs, words(36_000))
    started = time.thread_time()
    json.dumps(json.loads(text), ensure_ascii=False)
    whole_s = time.thread_time() - started
    with client:  # one loop for all requests
        assert client.portal is not None
        for path in ("/jobs/job-1", "/jobs/job-1/deliveries", "/jobs/job-1/events", "/jobs/job-1/result"):
            before = client.portal.call(time.thread_time)
            assert client.get(path).status_code == 200
            assert client.portal.call(time.thread_time) - before < whole_s / 4, path
