"""The client's API key: sent to its service, and to no other server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.client import Client
from serve_app.jobs.record import Scope
from serve_app.sentences import Locale
from serve_app.services import Services
from tests.unit.api.memory_services import JobsOnTable, memory_services
from tests.unit.client.loopback import serving


@pytest.fixture(scope="module")
def services() -> Services:
    return memory_services()


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with serving(create_app(services, ApiSettings(keys_on=True, locale=Locale.EN))) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def secret(services: Services) -> str:
    assert isinstance(services.jobs, JobsOnTable)
    return services.jobs.store.create_key("client", frozenset({Scope.SUBMIT, Scope.READ}))[1]


def test_it_is_sent(url: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(url, api_key=secret) as client:
        client.submit("https://example.com/a.mp4", job_id="a")
        assert client.get("a")["status"] == "processing"
        with pytest.raises(errors.NotAllowed, match="admin"):
            client.models()
    monkeypatch.setenv("SERVE_APP_API_KEY", secret)
    with Client(url) as client:
        assert client.get("a")["job_id"] == "a"


def test_its_lack_is_an_error_that_says_so(url: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVE_APP_API_KEY", raising=False)
    for key in (None, "sa_wrong"):
        with Client(url, api_key=key) as client, pytest.raises(errors.NotIdentified, match="API key"):
            client.get("a")


def test_a_gateways_authorization_stays(secret: str) -> None:
    async def echo(request: Request) -> Response:
        return JSONResponse(dict(request.headers))

    gate = {"Authorization": "Basic gate"}
    with (
        serving(Starlette(routes=[Route("/{path:path}", echo)])) as port,
        Client(f"http://127.0.0.1:{port}", api_key=secret, headers=gate) as client,
    ):
        sent = client.get("a")
    assert (sent["authorization"], sent["x-api-key"]) == ("Basic gate", secret)


def test_a_redirect_takes_it_nowhere_else(secret: str, tmp_path: Path) -> None:
    seen: list[Any] = []

    async def store(request: Request) -> Response:
        seen.append(dict(request.headers))
        return Response(b"ID3")

    with serving(Starlette(routes=[Route("/bucket/{name}", store)])) as store_port:

        async def download(request: Request) -> Response:
            seen.append(dict(request.headers))
            return RedirectResponse(f"http://127.0.0.1:{store_port}/bucket/music.mp3?signature=x", 302)

        with (
            serving(Starlette(routes=[Route("/music/a/download", download)])) as port,
            Client(f"http://127.0.0.1:{port}", api_key=secret) as client,
        ):
            client.download_music("a", "mp3", tmp_path / "a.mp3")
    first, second = seen
    assert first["x-api-key"] == secret
    assert secret not in str(second)
    assert (tmp_path / "a.mp3").read_bytes() == b"ID3"
