"""Request ids, the access log, and headers on every answer."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serve_app.api.http.request_context import RequestContextMiddleware

GENERATED = re.compile(r"[0-9a-f]{32}")


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "serve_app.access"]


@pytest.mark.parametrize("offered", ["a", "req-1.2_3", "550e8400-e29b-41d4-a716-446655440000", "x" * 128])
def test_safe_request_id_is_taken(client: TestClient, offered: str) -> None:
    answer = client.get("/jobs/nobody", headers={"x-request-id": offered})
    assert answer.headers["x-request-id"] == offered
    assert answer.json()["error"]["request_id"] == offered


@pytest.mark.parametrize(
    "offered",
    [
        "",
        "x" * 129,
        "a b",
        'a"b',
        "a\x1b[31mred",
        "a\tb",
        "<script>",
        "${jndi:ldap://x}",
        "%0d%0aSet-Cookie:a=b",
        "\xe9",
    ],
)
def test_unsafe_request_id_is_replaced(client: TestClient, caplog: pytest.LogCaptureFixture, offered: str) -> None:
    with caplog.at_level(logging.INFO, "serve_app.access"):
        answer = client.get("/jobs/nobody", headers={"x-request-id": offered.encode("latin-1")})
    given = answer.headers["x-request-id"]
    assert GENERATED.fullmatch(given)
    assert answer.json()["error"]["request_id"] == given
    assert json.loads(access_lines(caplog)[0])["request_id"] == given


def test_generated_ids_differ(client: TestClient) -> None:
    ids = {client.get("/health").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_header_is_left_to_a_server_that_writes_it(client_with: Callable[..., TestClient]) -> None:
    answer = client_with(proxy_echoes_request_id=True).get("/jobs/nobody", headers={"x-request-id": "req-1"})
    assert "x-request-id" not in answer.headers
    assert answer.json()["error"]["request_id"] == "req-1"


@pytest.mark.parametrize("path", ["/health", "/jobs/nobody", "/nowhere", "/openapi.json"])
def test_every_answer_is_hardened(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_access_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serve_app.access"):
        client.get("/jobs/nobody?token=hunter2", headers={"x-request-id": "req-1"})
    (line,) = access_lines(caplog)
    entry = json.loads(line)
    assert entry.pop("duration_ms") >= 0
    assert entry == {
        "request_id": "req-1",
        "method": "GET",
        "path": "/jobs/nobody",
        "status": 404,
        "client": "testclient",
    }
    assert "hunter2" not in line


def test_access_line_can_not_be_forged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serve_app.access"):
        client.get("/x%0a%7B%22status%22:200%7D%1b[31m%E2%80%A8%E2%80%AE/" + "y" * 1000)
    (line,) = access_lines(caplog)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1000
    assert json.loads(line)["path"].startswith('/x\n{"status":200}\x1b[31m\u2028\u202e/')


def test_probes_are_quiet_while_all_is_well(client: TestClient, caplog: pytest.LogCaptureFixture, health: Any) -> None:
    with caplog.at_level(logging.INFO, "serve_app.access"):
        client.get("/health/ready")
        client.get("/health/live")
        assert access_lines(caplog) == []
        health.states = {}
        client.get("/health/ready")
    assert [json.loads(line)["status"] for line in access_lines(caplog)] == [503]


def test_unexpected_failure_is_logged_with_its_id(
    client: TestClient, jobs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.fail_with = RuntimeError("boom")
    answer = client.get("/jobs/a", headers={"x-request-id": "req-9"})
    assert answer.status_code == 500
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "req-9" in record.getMessage()
    assert record.exc_info is not None
    assert "boom" in str(record.exc_info[1])


class TestAroundABrokenApp:
    def client(self, app: Any, **options: Any) -> TestClient:
        wrapped = RequestContextMiddleware(app, page_paths=frozenset(), echo_request_id=True)
        return TestClient(wrapped, **options)

    def test_answers_for_what_nobody_caught(self) -> None:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError("hunter2")

        answer = self.client(broken).get("/")
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "INTERNAL_ERROR"
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
        assert "hunter2" not in answer.text

    def test_half_an_answer_breaks_the_connection(self, caplog: pytest.LogCaptureFixture) -> None:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise RuntimeError("boom")

        with caplog.at_level(logging.INFO, "serve_app.access"), pytest.raises(RuntimeError, match="boom"):
            self.client(broken).get("/")
        assert json.loads(access_lines(caplog)[0])["status"] == 200

    def test_other_protocols_pass(self) -> None:
        seen = []

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["type"])
            if scope["type"] == "lifespan":
                for kind in ("startup", "shutdown"):
                    await receive()
                    await send({"type": f"lifespan.{kind}.complete"})

        with self.client(inner):
            pass
        assert seen == ["lifespan"]
