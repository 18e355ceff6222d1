"""The application as a whole: documentation, CORS, unknown paths, and that no two share anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.api.http.rate_limit import RATE_HEADERS
from tests.unit.api.memory_services import memory_services

CORS_ORIGIN = "https://app.example"


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def test_exactly_these_routes_are_documented(document: dict[str, Any]) -> None:
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes == {
        ("POST", "/api/upload-video/process-video"),
        ("GET", "/jobs"),
        ("GET", "/jobs/{job_id}"),
        ("DELETE", "/jobs/{job_id}"),
        ("POST", "/jobs/{job_id}/cancel"),
        ("GET", "/jobs/{job_id}/events"),
        ("GET", "/jobs/{job_id}/deliveries"),
        ("POST", "/jobs/{job_id}/deliveries/replay"),
        ("GET", "/jobs/{job_id}/transcript.{form}"),
        ("GET", "/jobs/{job_id}/result"),
        ("POST", "/transcribe"),
        ("POST", "/transcribe-drums"),
        ("POST", "/generate-music"),
        ("GET", "/music"),
        ("GET", "/music/page"),
        ("GET", "/music/{job_id}"),
        ("DELETE", "/music/{job_id}"),
        ("GET", "/music/{job_id}/page"),
        ("GET", "/music/{job_id}/picture"),
        ("GET", "/music/{job_id}/audio"),
        ("GET", "/music/{job_id}/download"),
        ("POST", "/music/{job_id}/versions"),
        ("POST", "/music/{job_id}/delete"),
        ("POST", "/classify-reusable"),
        ("POST", "/verify-beverage"),
        ("POST", "/embed-image"),
        ("GET", "/models"),
        ("POST", "/models/{name}/reload"),
        ("POST", "/v1/audio/transcriptions"),
        ("POST", "/v1/audio/translations"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{model_id}"),
        ("GET", "/health"),
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}, (method, path)


def test_failures_are_documented(document: dict[str, Any]) -> None:
    submit = document["paths"]["/api/upload-video/process-video"]["post"]["responses"]
    assert {"200", "409", "413", "422", "429", "503"} <= set(submit)
    assert {"404", "422"} <= set(document["paths"]["/jobs/{job_id}"]["get"]["responses"])
    assert {"200", "204", "404"} <= set(document["paths"]["/jobs/{job_id}/events"]["get"]["responses"])
    submit = document["paths"]["/generate-music"]["post"]["responses"]
    assert {"200", "303", "403", "409", "413", "415", "422", "429", "503"} <= set(submit)
    assert {"200", "206", "304", "404", "409", "416"} <= set(
        document["paths"]["/music/{job_id}/audio"]["get"]["responses"]
    )


def test_callback_is_documented_with_its_seven_fields_and_the_three_of_a_link(
    document: dict[str, Any],
) -> None:
    (callback,) = document["paths"]["/api/upload-video/process-video"]["post"]["callbacks"].values()
    assert list(callback) == ["{$request.body#/fastapi_base_url}/api/upload-video/result"]
    assert set(document["components"]["schemas"]["CallbackPayload"]["properties"]) == {
        "job_id",
        "status",
        "progress",
        "message",
        "result",
        "error_message",
        "error_code",
        "result_url",
        "result_bytes",
        "result_sha256",
    }


def test_a_results_schema_is_shown_wherever_a_client_meets_one(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def named(schema: dict[str, Any]) -> str:
        return schema["$ref"].rpartition("/")[2]

    for view in ("JobView", "CallbackPayload"):
        *results, nothing = schemas[view]["properties"]["result"]["anyOf"]
        assert ([named(result) for result in results], nothing) == (["AnalysisResult", "MusicPiece"], {"type": "null"})
    whole = schemas["AnalysisResult"]
    assert "speaker_turns" not in whole["required"]
    assert whole["examples"][0]["metadata"]["model_version"] == "whisperx-base"
    assert named(whole["properties"]["segments"]["items"]) == "ResultSegment"
    assert named(schemas["ResultSegment"]["properties"]["words"]["items"]) == "ResultWord"
    answer = schemas["TranscribeView"]["properties"]
    assert named(answer["segments"]["items"]) == "ResultSegment"
    assert named(answer["speakers"]["additionalProperties"]) == "ResultSpeakerTotals"
    assert named(answer["speaker_turns"]["items"]) == "ResultTurn"


def test_every_reference_in_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/([^\"']+)", str(document)))
    assert names <= set(document["components"]["schemas"])
    assert "#/$defs" not in str(document)


def test_examples_are_the_contracts(document: dict[str, Any]) -> None:
    (example,) = document["components"]["schemas"]["ProcessVideoRequest"]["examples"]
    assert example["fastapi_base_url"] == "https://backend.example"
    schema = document["paths"]["/transcribe"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["language"]["enum"] == ["auto", "ko", "en", "ja", "zh"]


def test_examples_are_accepted(client: TestClient, document: dict[str, Any]) -> None:
    (example,) = document["components"]["schemas"]["ProcessVideoRequest"]["examples"]
    assert client.post("/api/upload-video/process-video", json=example).status_code == 200
    schema = document["paths"]["/transcribe"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert client.post("/transcribe", json=schema["examples"][0]).json()["success"] is True


@pytest.mark.parametrize(("path", "marker"), [("/docs", "swagger-ui"), ("/redoc", "<redoc")])
def test_documentation_pages(client: TestClient, path: str, marker: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert marker in answer.text
    assert "/openapi.json" in answer.text
    # their scripts come from elsewhere, which the API's own policy would forbid
    assert "content-security-policy" not in answer.headers


def test_documentation_pages_follow_the_route_prefix() -> None:
    client = TestClient(create_app(memory_services(), ApiSettings()), root_path="/video")
    assert "url: '/video/openapi.json'" in client.get("/video/docs").text
    assert 'spec-url="/video/openapi.json"' in client.get("/video/redoc").text
    for path in ("/video/docs", "/video/redoc"):
        assert "content-security-policy" not in client.get(path).headers
    assert "content-security-policy" in client.get("/video/health").headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/jobs/a/b/c", 404, "NOT_FOUND"),
        ("PUT", "/jobs/a", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/transcribe", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/upload-video/process-video", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_unknown_path_or_method(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path, follow_redirects=False)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


class TestCors:
    def test_none_by_default(self, client: TestClient) -> None:
        answer = client.get("/health", headers={"Origin": CORS_ORIGIN})
        assert "access-control-allow-origin" not in answer.headers
        preflight = client.options("/jobs", headers={"Origin": CORS_ORIGIN, "Access-Control-Request-Method": "GET"})
        assert preflight.status_code == 405

    def test_by_setting(self, client_with: Callable[..., TestClient]) -> None:
        client = client_with(cors_origins=(CORS_ORIGIN,))
        answer = client.get("/health", headers={"Origin": CORS_ORIGIN})
        assert answer.headers["access-control-allow-origin"] == CORS_ORIGIN
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed == {*RATE_HEADERS, "Retry-After", "X-Ignored-Fields", "X-Model-Version", "X-Request-ID"}
        other = client.get("/health", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_preflight(self, client_with: Callable[..., TestClient], method: str) -> None:
        client = client_with(cors_origins=(CORS_ORIGIN,))
        headers = {
            "Origin": CORS_ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, content-type, last-event-id, x-api-key, x-request-id",
        }
        answer = client.options("/jobs/a", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == CORS_ORIGIN
        refused = client.options("/jobs/a", headers={**headers, "Origin": "https://evil.example"})
        assert refused.status_code == 400

    def test_any_origin(self, client_with: Callable[..., TestClient]) -> None:
        answer = client_with(cors_origins=("*",)).get("/health", headers={"Origin": "https://any.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers

    def test_failures_can_be_read_by_pages_too(self, client_with: Callable[..., TestClient]) -> None:
        client = client_with(cors_origins=(CORS_ORIGIN,))
        client.app.state.services.jobs.fail_with = RuntimeError("boom")  # type: ignore[attr-defined]
        for path, status in (("/jobs/nobody", 500), ("/nowhere", 404)):
            answer = client.get(path, headers={"Origin": CORS_ORIGIN})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == CORS_ORIGIN


class TestBodyLimit:
    def submit(self, client: TestClient, content: Any, **headers: str) -> Any:
        headers = {"content-type": "application/json", **headers}
        return client.post("/api/upload-video/process-video", content=content, headers=headers)

    def body(self, num_bytes: int) -> bytes:
        frame = b'{"job_id": "a", "video_url": "%s"}'
        return frame % (b"v" * (num_bytes - len(frame) + 2))

    def test_at_the_limit(self, client_with: Callable[..., TestClient]) -> None:
        client = client_with(max_body_bytes=2000)
        assert len(self.body(2000)) == 2000
        assert self.submit(client, self.body(2000)).status_code == 200
        answer = self.submit(client, self.body(2001))
        assert answer.status_code == 413
        assert answer.json()["detail"] == "The body exceeds 2000 bytes"
        assert answer.json()["error"]["code"] == "REQUEST_TOO_LARGE"

    def test_chunked_body_is_counted(self, client_with: Callable[..., TestClient]) -> None:
        client = client_with(max_body_bytes=2000)
        pulled = []

        def chunks(num: int) -> Any:
            for number in range(num):
                pulled.append(number)
                yield self.body(1000)

        assert self.submit(client, chunks(3)).status_code == 413

    @pytest.mark.parametrize("declared", ["x", "-5", "²"])
    def test_senseless_length_does_not_break_the_check(
        self, client_with: Callable[..., TestClient], declared: str
    ) -> None:
        client = client_with(max_body_bytes=2000)
        answer = self.submit(client, self.body(2001), **{"content-length": declared.encode("latin-1")})  # type: ignore[arg-type]
        assert answer.status_code == 413


def test_two_apps_share_nothing() -> None:
    first, second = memory_services(), memory_services()
    first_client = TestClient(create_app(first, ApiSettings()))
    second_client = TestClient(create_app(second, ApiSettings(max_body_bytes=10)))
    body = {"job_id": "a", "video_url": "v"}
    assert second_client.post("/api/upload-video/process-video", json=body).status_code == 413
    assert first_client.post("/api/upload-video/process-video", json=body).status_code == 200
    assert second_client.get("/jobs").json()["jobs"] == []
    assert [job["job_id"] for job in first_client.get("/jobs").json()["jobs"]] == ["a"]


def test_status_url_follows_the_route_prefix() -> None:
    app = create_app(memory_services(), ApiSettings())
    client = TestClient(app, root_path="/video")
    answer = client.post("/video/api/upload-video/process-video", json={"job_id": "a", "video_url": "v"})
    assert answer.json()["status_url"] == "/video/jobs/a"
    assert client.get(answer.json()["status_url"]).status_code == 200


def test_version_is_the_packages(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", document["info"]["version"])
