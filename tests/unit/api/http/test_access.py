"""API keys on the routes: which need one, how it is given, what it opens, and whose jobs it shows."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from openai import AuthenticationError, OpenAI, PermissionDeniedError, RateLimitError

from serve_app.api.app import DOCS_PATH, create_app
from serve_app.api.http.failures import ApiRoute
from serve_app.api.http.options import ApiSettings
from serve_app.jobs.record import Scope
from serve_app.services import Services
from tests.unit.api.all_routes import all_routes
from tests.unit.api.conftest import in_korean
from tests.unit.api.memory_services import JobsOnTable, memory_services

SUBMIT = "/api/upload-video/process-video"
OPEN = {"/health", "/health/live", "/health/ready"}
PAGE = {"Accept": "text/html,application/xhtml+xml;q=0.9"}


@pytest.fixture
def services() -> Services:
    return memory_services(max_queued=100)


@pytest.fixture
def client(client_with: Callable[..., TestClient]) -> Iterator[TestClient]:
    with client_with(keys_on=True) as client:
        yield client


@pytest.fixture
def make_key(jobs: JobsOnTable) -> Callable[..., dict[str, str]]:
    """Return a function that makes a key with these scopes and limits, and returns the headers with it."""

    def make(name: str, *scopes: Scope, **limits: int) -> dict[str, str]:
        wanted = frozenset(scopes or (Scope.SUBMIT, Scope.READ))
        return {"Authorization": f"Bearer {jobs.store.create_key(name, wanted, **limits)[1]}"}

    return make


def submit(client: TestClient, job_id: str, headers: dict[str, str]) -> Any:
    return client.post(SUBMIT, json={"job_id": job_id, "video_url": "https://example.com/a.mp4"}, headers=headers)


def path_of(route: APIRoute, job_id: str) -> str:
    return route.path.format(job_id=job_id, name="container", model_id="x", form="srt")


class TestEveryRoute:
    def test_none_can_be_made_without_a_scope(self) -> None:
        router = APIRouter(route_class=ApiRoute)

        async def forgotten() -> None: ...

        with pytest.raises(TypeError, match="forgotten declares no scope"):
            router.get("/forgotten")(forgotten)

    def test_all_but_the_healths_need_a_key(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        make_key("anna")
        for route in all_routes(client.app):
            for method in route.methods:
                answer = client.request(method, path_of(route, "a"))
                if route.path in OPEN:
                    assert answer.status_code == 200, route.path
                else:
                    assert answer.status_code == 401, f"{method} {route.path}"
                    assert answer.headers["www-authenticate"] == 'Bearer realm="serve-app"'

    def test_a_key_without_the_scope_is_refused(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        keys = {scope: make_key(scope.value, scope) for scope in Scope}
        for route in all_routes(client.app):
            for method in route.methods:
                refusing = {
                    scope
                    for scope, key in keys.items()
                    if client.request(method, path_of(route, "a"), headers=key).status_code == 403
                }
                allowing = {
                    None: set(Scope),
                    Scope.SUBMIT: {Scope.SUBMIT, Scope.ADMIN},
                    Scope.READ: {Scope.READ, Scope.READ_ALL, Scope.ADMIN},
                    Scope.ADMIN: {Scope.ADMIN},
                }[route.scope]
                assert set(Scope) - refusing == allowing, f"{method} {route.path}"

    def test_what_changes_something_needs_more_than_read(self, client: TestClient) -> None:
        for route in all_routes(client.app):
            if route.methods - {"GET", "HEAD"}:
                assert route.scope in (Scope.SUBMIT, Scope.ADMIN), route.path

    def test_none_shows_or_changes_another_keys_job(
        self, client: TestClient, jobs: JobsOnTable, make_key: Callable[..., Any]
    ) -> None:
        anna, ben = make_key("anna"), make_key("ben")
        assert submit(client, "video", anna).status_code == 200
        body = {"image_url": "https://example.com/a.jpg", "job_id": "piece"}
        assert client.post("/generate-music", json=body, headers=anna).status_code == 200
        jobs.run_complete("video", {"segments": []})  # type: ignore[arg-type, typeddict-item]
        asked = 0
        for route in all_routes(client.app):
            if "{job_id}" not in route.path:
                continue
            for method in route.methods:
                for job_id in ("video", "piece"):
                    answer = client.request(method, path_of(route, job_id), headers=ben)
                    nowhere = client.request(method, path_of(route, "nowhere"), headers=ben)
                    assert answer.status_code == 404, f"{method} {route.path}"
                    assert (
                        answer.text.replace(job_id, "nowhere").replace(
                            answer.headers["x-request-id"], nowhere.headers["x-request-id"]
                        )
                        == nowhere.text
                    )
                    asked += 1
        assert asked >= 28
        assert list(jobs.jobs) == ["video", "piece"]
        assert client.get("/jobs/video", headers=anna).json()["status"] == "completed"

    def test_the_body_is_not_read_before_the_key(self, client: TestClient) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("the body was read")

        async def send(message: Any) -> None:
            sent.append(message)

        for route in all_routes(client.app):
            if "POST" in route.methods:
                headers = [(b"content-length", b"400000000"), (b"content-type", b"multipart/form-data; boundary=x")]
                path = path_of(route, "a")
                scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
                asyncio.run(client.app(scope, receive, send))
                assert sent[-2]["status"] == 401, path

    def test_keys_off_asks_for_none(self, client_with: Callable[..., TestClient]) -> None:
        client = client_with()
        assert submit(client, "a", {}).status_code == 200
        assert client.get("/models").status_code == 200
        assert client.get("/jobs/a", headers={"Authorization": "Bearer whatever"}).status_code == 200


class TestHowAKeyIsGiven:
    def test_each_way(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        secret = make_key("anna")["Authorization"].removeprefix("Bearer ")
        basic = base64.b64encode(f"any name:{secret}".encode()).decode()
        for headers in (
            {"Authorization": f"Bearer {secret}"},
            {"authorization": f"bearer  {secret}"},
            {"X-API-Key": secret},
            {"Authorization": f"Basic {basic}"},
            {"Authorization": "Basic Z2F0ZXdheTpwdw==", "X-API-Key": secret},  # the first is for a gateway
        ):
            assert client.get("/jobs", headers=headers).status_code == 200, headers

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer sa_" + "A" * 43},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic /w=="},
            {"Authorization": "Digest x"},
            {"X-API-Key": " "},
            {"X-API-Key": "é" * 60},
            {"Cookie": "api_key=x"},
        ],
    )
    def test_no_key(self, client: TestClient, make_key: Callable[..., Any], headers: dict[str, str]) -> None:
        make_key("anna")
        given = {name: value.encode("latin-1") for name, value in headers.items()}
        assert client.get("/jobs", headers=given).status_code == 401  # type: ignore[arg-type]

    def test_a_key_in_the_query_is_none(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        secret = make_key("anna")["Authorization"].removeprefix("Bearer ")
        assert client.get("/jobs", params={"api_key": secret, "key": secret}).status_code == 401

    @in_korean
    def test_a_browser_asks_for_it(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        key = make_key("anna")["Authorization"].removeprefix("Bearer ")
        answer = client.get("/music/page", headers=PAGE)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert "API 키" in answer.text
        assert "An API key" in client.get("/music/page?locale=en", headers=PAGE).text
        assert client.get("/music/page", headers=PAGE, auth=("me", key)).status_code == 200

    def test_docs_are_open(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        assert set(document["components"]["securitySchemes"]) == {"bearer", "header", "basic"}
        assert document["paths"]["/jobs"]["get"]["security"] == [{"bearer": ["read"]}, {"header": []}, {"basic": []}]
        assert "security" not in document["paths"]["/health"]["get"]
        assert client.get(DOCS_PATH).status_code == 200

    def test_it_is_never_logged(
        self, client: TestClient, make_key: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        headers = make_key("anna")
        secret = headers["Authorization"].removeprefix("Bearer ")
        client.get("/jobs", headers=headers)
        client.get("/jobs", headers={"X-API-Key": "sa_wrong"})
        lines = [record.getMessage() for record in caplog.records if record.name == "serve_app.access"]
        assert len(lines) == 2
        assert '"api_key": "' in lines[0]  # its id
        assert "api_key" not in lines[1]
        assert not [
            record for record in caplog.records if secret in record.getMessage() or "sa_" in record.getMessage()
        ]


class TestAnswers:
    def test_in_each_familys_form(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        headers = make_key("reader", Scope.READ)
        for given, status, code in (({}, 401, "UNAUTHORIZED"), (headers, 403, "FORBIDDEN")):
            answer = submit(client, "a", given)
            assert answer.status_code == status
            assert answer.json()["error"]["code"] == code
            assert answer.json()["detail"] == answer.json()["error"]["message"]
            answer = client.post("/transcribe", json={"video_url": "v"}, headers=given)
            assert (answer.status_code, answer.json()["success"]) == (status, False)
            assert answer.json()["error"]
            answer = client.post("/models/container/reload", headers=given)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    def test_it_names_the_command_where_there_is_no_key_yet(self, client: TestClient) -> None:
        for headers in ({}, {"X-API-Key": "sa_guess"}):
            answer = client.get("/jobs", headers=headers)
            assert answer.status_code == 401
            assert "`serve-app keys create`" in answer.json()["error"]["message"]
            assert "there is none yet" in answer.json()["error"]["message"]

    def test_openais_client(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        secret = make_key("anna")["Authorization"].removeprefix("Bearer ")
        reader = make_key("reader", Scope.READ)["Authorization"].removeprefix("Bearer ")
        limited = make_key("limited", requests_per_minute=1)["Authorization"].removeprefix("Bearer ")

        def openai(key: str) -> OpenAI:
            return OpenAI(api_key=key, base_url="http://testserver/v1", http_client=client, max_retries=0)

        assert openai(secret).models.list().data
        with pytest.raises(AuthenticationError) as unknown:
            openai("sa_wrong").models.list()
        assert unknown.value.code == "invalid_api_key"
        with pytest.raises(PermissionDeniedError):
            openai(reader).models.list()
        assert openai(limited).models.list().data
        with pytest.raises(RateLimitError) as busy:
            openai(limited).models.list()
        assert busy.value.response.headers["retry-after"] == "60"

    def test_readiness_tells_strangers_no_names(
        self, client: TestClient, services: Services, make_key: Callable[..., Any]
    ) -> None:
        admin, anna = make_key("admin", Scope.ADMIN), make_key("anna")
        for headers in ({}, anna, {"X-API-Key": "wrong"}):
            assert set(client.get("/health/ready", headers=headers).json()) == {"status", "timestamp"}
        assert "Diarizer" in client.get("/health/ready", headers=admin).json()["deployments"]
        services.health.states["Diarizer"] = "UNHEALTHY"  # type: ignore[attr-defined]
        down = client.get("/health/ready")
        assert down.status_code == 503
        assert "Diarizer" not in down.text
        assert "Diarizer (UNHEALTHY)" in client.get("/health/ready", headers=admin).json()["error"]["message"]


class TestLimits:
    def test_requests_per_minute(self, client: TestClient, make_key: Callable[..., Any]) -> None:
        limited, free = make_key("limited", requests_per_minute=3), make_key("free")
        answers = [client.get("/jobs", headers=limited) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert {answer.headers["ratelimit-limit"] for answer in answers} == {"3"}
        assert answers[3].json()["error"]["code"] == "RATE_LIMITED"
        assert 1 <= int(answers[3].headers["retry-after"]) <= 20
        assert "ratelimit-limit" not in client.get("/jobs", headers=free).headers
        assert submit(client, "a", limited).status_code == 429

    def test_jobs_in_work(self, client: TestClient, jobs: JobsOnTable, make_key: Callable[..., Any]) -> None:
        limited = make_key("limited", jobs_in_work=1)
        assert submit(client, "a", limited).status_code == 200
        refused = submit(client, "b", limited)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) >= 1
        jobs.run_complete("a", {"segments": []})  # type: ignore[arg-type, typeddict-item]
        assert submit(client, "b", limited).status_code == 200


def test_two_keys_lists(client: TestClient, make_key: Callable[..., Any]) -> None:
    anna, ben, admin = make_key("anna"), make_key("ben"), make_key("admin", Scope.ADMIN)
    submit(client, "a", anna)
    submit(client, "b", ben)

    def listed(headers: dict[str, str]) -> list[str]:
        return [job["job_id"] for job in client.get("/jobs", headers=headers).json()["jobs"]]

    assert (listed(anna), listed(ben), listed(admin)) == (["a"], ["b"], ["b", "a"])
    taken = submit(client, "a", ben)
    assert taken.status_code == 409
    assert client.post("/jobs/a/cancel", headers=ben).status_code == 404
    assert client.post("/jobs/a/cancel", headers=admin).status_code == 200


def test_preflights_need_no_key(client_with: Callable[..., TestClient]) -> None:
    client = client_with(keys_on=True, cors_origins=("https://app.example",))
    headers = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-api-key",
    }
    assert client.options(SUBMIT, headers=headers).status_code == 200
    answer = client.post(SUBMIT, headers={"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_apps_share_no_limits(make_key: Callable[..., Any], services: Services) -> None:
    headers = make_key("anna", requests_per_minute=1)
    for _ in range(2):
        with TestClient(create_app(services, ApiSettings(keys_on=True))) as client:
            assert client.get("/jobs", headers=headers).status_code == 200
