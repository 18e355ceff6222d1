"""Requests of pages of other sites, and requests to other names than the server's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from serve_app.api.http.browsers import check_host
from serve_app.services import Services
from tests.unit.api.all_routes import all_routes

CHANGING = [
    ("POST", "/api/upload-video/process-video"),
    ("POST", "/transcribe"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("POST", "/transcribe-drums"),
    ("POST", "/classify-reusable"),
    ("POST", "/verify-beverage"),
    ("POST", "/embed-image"),
    ("POST", "/generate-music"),
    ("POST", "/music/a/versions"),
    ("POST", "/music/a/delete"),
    ("DELETE", "/music/a"),
    ("POST", "/jobs/a/cancel"),
    ("POST", "/jobs/a/deliveries/replay"),
    ("DELETE", "/jobs/a"),
    ("POST", "/models/container/reload"),
]
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://testserver:81"},
    {"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"},
]
BODY = b'{"job_id": "csrf", "video_url": "https://example.com/a.mp4", "fastapi_base_url": "https://evil.example"}'


def test_the_list_has_every_route_that_changes_something(client: TestClient) -> None:
    declared = {
        (method, route.path.replace("{job_id}", "a").replace("{name}", "container"))
        for route in all_routes(client.app)
        for method in route.methods - {"GET", "HEAD", "OPTIONS"}
    }
    assert declared == set(CHANGING)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_site_changes_nothing(
    client: TestClient, services: Services, headers: dict[str, str]
) -> None:
    for method, path in CHANGING:
        # without Content-Type, as `fetch(…, {mode: "no-cors", body: new Blob([json])})` sends it without a preflight
        answer = client.request(method, path, content=BODY, headers=headers)
        assert answer.status_code == 403, (path, answer.text)
        assert "another site" in answer.text
    assert services.jobs.jobs == {}  # type: ignore[attr-defined]
    assert services.models.reloaded == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://testserver"},
        {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_own_pages_and_clients_without_a_browser_are_served(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/api/upload-video/process-video", content=BODY, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("origins", [("https://app.example",), ("*",)])
def test_configured_origins_are_served(client_with: Callable[..., TestClient], origins: tuple[str, ...]) -> None:
    client = client_with(cors_origins=origins)
    headers = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/api/upload-video/process-video", content=BODY, headers=headers).status_code == 200


def test_reading_from_another_site_is_the_browsers_to_refuse(client: TestClient) -> None:
    assert client.get("/health", headers=FOREIGN[1]).status_code == 200


class TestHost:
    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "app.localhost", "localhost.:80"],
    )
    def test_loopback_names_are_served(self, host: str) -> None:
        check_host(Headers({"host": host}), ())

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "127.0.0.1@evil.example",
            "localhost:80@evil.example",
            "0.0.0.0:8000",
            "[::ffff:7f00:1",
            "192.168.1.5",
            "",
            "localhost/evil",
            "[::2]",
        ],
    )
    def test_other_names_are_refused(self, host: str) -> None:
        with pytest.raises(HTTPException) as refused:
            check_host(Headers({"host": host}), ())
        assert refused.value.status_code == 421
        assert "SERVE_APP_HOSTS" in refused.value.detail

    def test_configured_names(self) -> None:
        for host in ("app.example", "APP.example:443", "192.0.2.7:8000", "[2001:db8::1]"):
            check_host(Headers({"host": host}), ("app.example", "192.0.2.7", "2001:db8::1"))

    def test_no_browser_leaves_it_out(self) -> None:
        check_host(Headers({}), ())

    def test_any_name_where_keys_defend(self) -> None:
        check_host(Headers({"host": "evil.example"}), None)

    def test_a_rebound_name_reads_no_answer(self, client_with: Callable[..., TestClient]) -> None:
        client = client_with(hosts=())
        evil = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"}
        for method, path in [*CHANGING, ("GET", "/jobs"), ("GET", "/models"), ("GET", "/health/ready")]:
            answer = client.request(method, path, headers=evil, content=BODY if method == "POST" else None)
            assert answer.status_code == 421, path
        assert client.get("/jobs", headers={"Host": "evil.example"}).json()["error"]["code"] == "MISDIRECTED_REQUEST"
        assert client.get("/jobs", headers={"Host": "localhost:8000"}).status_code == 200
