"""The Python client, against the real app on a real socket, and against servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.client import Client, ClientEvent, error_from_response
from serve_app.messages import Stage
from serve_app.sentences import Locale
from serve_app.services import Services
from tests.unit.api.memory_services import RESULT, JobsOnTable, MemoryAnalysis, MemoryHealth, memory_services
from tests.unit.client.loopback import DEADLINE_S, serving, until


class Service:
    """A client of a running service, and what is behind that."""

    def __init__(self, url: str, services: Services) -> None:
        self.client = Client(url)
        self.jobs: JobsOnTable = services.jobs  # type: ignore[assignment]
        self.analysis: MemoryAnalysis = services.analysis  # type: ignore[assignment]
        self.health: MemoryHealth = services.health  # type: ignore[assignment]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FastAPI, str]]:
    app = create_app(memory_services(), ApiSettings(retry_ms=1, heartbeat_s=0.02, locale=Locale.EN))
    with serving(app) as port:
        yield app, f"http://127.0.0.1:{port}"


@pytest.fixture
def service(running: tuple[FastAPI, str]) -> Iterator[Service]:
    app, url = running
    app.state.services = memory_services(max_queued=3)
    service = Service(url, app.state.services)
    with service.client:
        yield service


def scripted(*answers: Callable[[httpx.Request], httpx.Response] | httpx.Response | Exception) -> tuple[Client, list]:
    """Return a client of a server that gives these answers in turn, and the list of what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        given = answers[len(asked)]
        asked.append(request)
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, httpx.Response) else given(request)

    return Client("http://service", transport=httpx.MockTransport(answer), max_reconnects=2), asked


def sse(*blocks: str) -> httpx.Response:
    text = "".join(f"{block}\n\n" for block in ("retry: 1", *blocks))
    return httpx.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})


def block(seq: int, status: str = "processing", **fields: Any) -> str:
    name = "progress" if status == "processing" else status
    return f"id: {seq}\nevent: {name}\ndata: {json.dumps({'job_id': 'a', 'status': status, **fields})}"


class TestAgainstTheRealApp:
    def test_life_of_a_job(self, service: Service) -> None:
        client, jobs = service.client, service.jobs
        base = "https://backend.example"
        submitted = client.submit("https://example.org/v.mp4", job_id="a", max_workers=2, fastapi_base_url=base)
        assert submitted["status_url"] == "/jobs/a"
        assert jobs.jobs["a"].request.max_workers == 2
        assert client.get("a")["queue_position"] == 0
        assert [job["job_id"] for job in client.page(status="queued", limit=5)["jobs"]] == ["a"]
        jobs.run_start("a")
        jobs.run_stage("a", Stage.DOWNLOADED)
        jobs.run_complete("a", RESULT)
        assert client.wait("a")["result"] == RESULT
        assert [delivery["seq"] for delivery in client.deliveries("a")] == [1, 2]
        assert client.replay("a") == 2
        client.delete("a")
        with pytest.raises(errors.JobNotFound, match="No job has the id a"):
            client.get("a")

    def test_makes_up_an_id(self, service: Service) -> None:
        ids = {service.client.submit("v")["job_id"] for _ in range(2)}
        assert ids == set(service.jobs.jobs)
        assert len(ids) == 2

    def test_cancel(self, service: Service) -> None:
        service.client.submit("v", job_id="a")
        assert service.client.cancel("a")["status"] == "cancelled"
        assert service.client.wait("a")["status"] == "cancelled"

    @pytest.mark.parametrize(
        ("kind", "detail", "call"),
        [
            (errors.InvalidRequest, "language", lambda client: client.submit("v", language="de")),
            (errors.InvalidRequest, "128", lambda client: client.get("a b")),
            (errors.CallbackRefused, "private", lambda client: client.submit("v", fastapi_base_url="http://private")),
            (errors.JobNotFound, "nobody", lambda client: client.cancel("nobody")),
            (errors.JobConflict, "taken", lambda client: client.submit("other", job_id="taken")),
            (errors.JobConflict, "cancel it first", lambda client: client.delete("taken")),
            (errors.InvalidRequest, "audio_path", lambda client: client.analyze()),
        ],
    )
    def test_failures_are_the_errors_of_the_tree(
        self, service: Service, kind: type[errors.ServeAppError], detail: str, call: Callable[[Client], Any]
    ) -> None:
        service.client.submit("v", job_id="taken")
        with pytest.raises(kind) as caught:
            call(service.client)
        assert type(caught.value) is kind
        assert detail in caught.value.detail

    def test_full_queue_tells_when_to_come_back(self, service: Service) -> None:
        for _ in range(3):
            service.client.submit("v")
        with pytest.raises(errors.Overloaded) as caught:
            service.client.submit("v")
        assert type(caught.value) is errors.Overloaded
        assert caught.value.retry_after_s == 5

    def test_analyze(self, service: Service) -> None:
        answer = service.client.analyze(audio_path="s3://b/a.wav", video_url="v", language="ja", num_speakers=2)
        assert (answer["success"], answer["segments"]) == (True, RESULT["segments"])
        (asked,) = service.analysis.asked
        assert (asked.source, asked.language, asked.num_speakers) == ("s3://b/a.wav", "ja", 2)

    @pytest.mark.parametrize(
        "error",
        [
            errors.DownloadError("404 Not Found"),
            errors.MediaTooLarge("5 GiB"),
            errors.DownloadInterrupted("reset"),
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
    def test_failed_analysis(self, service: Service, error: errors.ServeAppError) -> None:
        service.analysis.fail_with = error
        with pytest.raises(type(error)) as caught:
            service.client.analyze(video_url="v")
        assert type(caught.value) is type(error)
        assert error.detail in caught.value.detail
        assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)

    def test_health(self, service: Service) -> None:
        assert service.client.health()["status"] == "healthy"
        assert service.client.ready()["deployments"]["Diarizer"] == "HEALTHY"
        service.health.states["Diarizer"] = "UPDATING"
        with pytest.raises(errors.Unavailable, match=r"Diarizer \(UPDATING\)"):
            service.client.ready()

    def test_events_as_they_come_over_a_real_socket(self, service: Service) -> None:
        service.client.submit("v", job_id="a")
        service.jobs.run_start("a")
        events = service.client.events("a")
        seen = []
        for stage in (Stage.DOWNLOADED, Stage.DETECTING_SPEECH, Stage.DIARIZING):
            service.jobs.run_stage("a", stage)
            seen.append(next(events))  # each arrives while the job runs on, past any heartbeats
            assert seen[-1].payload["progress"] == stage
        service.jobs.run_complete("a", RESULT)
        seen += list(events)
        assert [(event.seq, event.name) for event in seen] == [
            (1, "progress"),
            (2, "progress"),
            (3, "progress"),
            (4, "completed"),
        ]
        assert seen[3].payload["result"] == RESULT
        assert [event.seq for event in service.client.events("a", after_seq=2)] == [3, 4]
        assert list(service.client.events("a", after_seq=4)) == []

    def test_client_that_leaves_frees_the_stream(self, service: Service) -> None:
        service.client.submit("v", job_id="a")
        service.jobs.run_start("a")
        service.jobs.run_stage("a", Stage.DOWNLOADED)
        events = service.client.events("a")
        next(events)
        assert service.jobs.open_streams == 1
        events.close()  # type: ignore[attr-defined]
        until(lambda: service.jobs.open_streams == 0, "stream freed")

    def test_events_of_nobody(self, service: Service) -> None:
        with pytest.raises(errors.JobNotFound):
            next(service.client.events("nobody"))

    def test_wait_ends_with_its_deadline(self, service: Service) -> None:
        service.client.submit("v", job_id="a")
        with pytest.raises(TimeoutError, match="job a has not ended"):
            service.client.wait("a", timeout_s=0.05, poll_s=0.01)

    def test_wait_sees_the_end(self, service: Service) -> None:
        service.client.submit("v", job_id="a")
        service.jobs.run_start("a")
        found: list[dict[str, Any]] = []
        waiting = threading.Thread(target=lambda: found.append(service.client.wait("a", poll_s=0.01)))
        waiting.start()
        service.jobs.run_fail("a", "DOWNLOAD_ERROR", "404 Not Found")
        waiting.join(DEADLINE_S)
        assert [(job["status"], job["error_code"]) for job in found] == [("failed", "DOWNLOAD_ERROR")]


def test_events_go_on_after_the_server_was_lost() -> None:
    services = memory_services()
    jobs: JobsOnTable = services.jobs  # type: ignore[assignment]
    app = create_app(services, ApiSettings(retry_ms=10, locale=Locale.EN))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", max_reconnects=12) as client:
        with serving(app, port):
            client.submit("v", job_id="a")
            jobs.run_start("a")
            jobs.run_stage("a", Stage.DOWNLOADED)
            events = client.events("a")
            assert next(events).seq == 1
        jobs.run_stage("a", Stage.DIARIZING)
        jobs.run_complete("a", RESULT)
        with serving(app, port):
            assert [event.seq for event in events] == [2, 3]


class TestReconnection:
    def test_resumes_after_the_last_event_seen(self) -> None:
        client, asked = scripted(
            sse(block(1), block(2)),
            httpx.ReadError("reset"),
            sse(": heartbeat", block(3), block(4, "completed")),
        )
        assert [event.seq for event in client.events("a")] == [1, 2, 3, 4]
        assert [request.headers["last-event-id"] for request in asked] == ["0", "2", "2"]

    def test_gives_up_after_so_many_failures_in_a_row(self) -> None:
        client, asked = scripted(sse(block(1)), httpx.ConnectError("down"), httpx.ConnectError("down"), sse())
        events = client.events("a")
        assert next(events).seq == 1
        with pytest.raises(errors.Unavailable, match="broke off"):
            next(events)
        assert len(asked) == 3

    def test_success_forgives_earlier_failures(self) -> None:
        lost = httpx.ConnectError("down")
        client, asked = scripted(sse(block(1)), lost, sse(block(2)), lost, sse(block(3)), lost, sse(block(4, "failed")))
        assert [event.name for event in client.events("a")] == ["progress"] * 3 + ["failed"]
        assert len(asked) == 7

    def test_no_content_is_the_end(self) -> None:
        client, asked = scripted(sse(block(1)), httpx.Response(204))
        assert [event.seq for event in client.events("a")] == [1]
        assert len(asked) == 2

    def test_stream_that_ends_early_again_and_again(self) -> None:
        client, _ = scripted(sse(), sse(), sse())
        with pytest.raises(errors.Unavailable, match="ended before the job did"):
            next(client.events("a"))

    def test_job_deleted_meanwhile(self) -> None:
        body = {"error": {"code": "JOB_NOT_FOUND", "message": "gone", "request_id": "r"}}
        client, asked = scripted(sse(block(1)), httpx.Response(404, json=body))
        events = client.events("a")
        next(events)
        with pytest.raises(errors.JobNotFound, match="gone"):
            next(events)
        assert len(asked) == 2

    def test_parses_whatever_the_standard_allows(self) -> None:
        text = (
            ":comment\r\n\r\nretry: 1\r\n\r\n"
            'id: 1\r\nevent: progress\r\ndata: {"status":\r\ndata: "processing", "message": "a\u2028b"}\r\n\r\n'
            'id:2\nevent:completed\ndata:{"status":"completed"}\n\n'
        ).encode()

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(text), 3):  # splits characters and line ends
                yield text[start : start + 3]

        client, _ = scripted(httpx.Response(200, content=pieces()))
        assert list(client.events("a")) == [
            ClientEvent(1, "progress", {"status": "processing", "message": "a\u2028b"}),
            ClientEvent(2, "completed", {"status": "completed"}),
        ]


class TestWait:
    def test_outlives_a_restart_of_the_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        done = httpx.Response(200, json={"status": "completed"})
        client, asked = scripted(httpx.ConnectError("down"), httpx.ConnectError("down"), done)
        slept: list[float] = []
        monkeypatch.setattr("serve_app.client.service.time.sleep", slept.append)
        assert client.wait("a")["status"] == "completed"
        assert len(asked) == 3
        assert slept == [5.0, 5.0]  # what Unavailable asks for

    def test_gives_up_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        client, asked = scripted(*[httpx.ConnectError("down")] * 3)
        monkeypatch.setattr("serve_app.client.service.time.sleep", lambda seconds: None)
        with pytest.raises(errors.Unavailable):
            client.wait("a")
        assert len(asked) == 3


class TestStrangeAnswers:
    def test_service_that_is_not_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}/") as client, pytest.raises(errors.Unavailable, match=str(port)):
            client.health()

    @pytest.mark.parametrize("text", ["<html>proxy</html>", ""])
    def test_success_without_json(self, text: str) -> None:
        client, _ = scripted(httpx.Response(200, text=text))
        with pytest.raises(errors.ServeAppError, match="not this service"):
            client.health()

    @pytest.mark.parametrize(
        ("status", "content", "kind", "detail"),
        [
            (502, b"<html>bad gateway</html>", errors.Unavailable, "502 Bad Gateway"),
            (504, b"", errors.ServeAppError, "504"),
            (503, b"<html>starting</html>", errors.Unavailable, "503"),
            (429, b"", errors.Overloaded, "429"),
            (404, b'{"detail": "Not Found"}', errors.ServeAppError, "404"),
            (400, b"[1]", errors.ServeAppError, "400"),
            (500, b'{"error": {"code": "NEW_CODE", "message": "m"}}', errors.ServeAppError, "m"),
            (418, b'{"error": {"code": "DOWNLOAD_ERROR", "message": "m"}}', errors.DownloadError, "m"),
            (302, b"", errors.ServeAppError, "302"),
        ],
    )
    def test_failure_by_others(
        self, status: int, content: bytes, kind: type[errors.ServeAppError], detail: str
    ) -> None:
        client, _ = scripted(httpx.Response(status, content=content))
        with pytest.raises(errors.ServeAppError) as caught:
            client.health()
        assert type(caught.value) is kind
        assert detail in caught.value.detail

    def test_retry_after_as_a_date_is_ignored(self) -> None:
        answer = httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})
        answer.request = httpx.Request("GET", "http://service/")
        error = error_from_response(answer)
        assert isinstance(error, errors.Unavailable)
        assert error.retry_after_s == errors.Unavailable().retry_after_s

    def test_headers_and_base_path_are_sent(self) -> None:
        client = Client(
            "http://gateway/video/",
            headers={"Authorization": "Bearer t"},
            transport=httpx.MockTransport(
                lambda request: httpx.Response(
                    200, json={"url": str(request.url), "token": request.headers["authorization"]}
                )
            ),
        )
        assert client.health() == {"url": "http://gateway/video/health", "token": "Bearer t"}

    def test_id_stays_one_part_of_the_path(self) -> None:
        client, asked = scripted(httpx.Response(200, json={}))
        client.get("a/../b?c#d")
        assert asked[0].url.raw_path == b"/jobs/a%2F..%2Fb%3Fc%23d"
