"""Health, liveness, readiness."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi.testclient import TestClient

from serve_app.flows.health import not_installed
from serve_app.sentences import Locale, Sentence, translated
from tests.unit.api.memory_services import MemoryHealth

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def test_health_answers_as_the_contract_whatever_the_models_do(client: TestClient, health: MemoryHealth) -> None:
    health.states = {}
    health.hangs = True
    answer = client.get("/health")
    assert (answer.status_code, list(answer.json())) == (200, ["status", "timestamp"])
    assert answer.json()["status"] == "healthy"
    assert TIMESTAMP.fullmatch(answer.json()["timestamp"])


def test_live(client: TestClient) -> None:
    assert client.get("/health/live").json()["status"] == "alive"


def test_ready_lists_every_deployment(client: TestClient) -> None:
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    assert answer.json()["deployments"] == {
        "JobRunner": "HEALTHY",
        "SpeechRecognizer": "HEALTHY",
        "Diarizer": "HEALTHY",
    }


def test_not_ready_names_each_that_is_not_up(client: TestClient, health: MemoryHealth) -> None:
    health.states |= {"Diarizer": "UPDATING", "JobRunner": "UNHEALTHY"}
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    body = answer.json()
    assert body["status"] == "not_ready"
    assert body["deployments"] == health.states
    assert body["error"] == {
        "code": "UNAVAILABLE",
        "message": "Not up: JobRunner (UNHEALTHY), Diarizer (UPDATING)",
        "request_id": answer.headers["x-request-id"],
    }


def test_not_ready_while_the_storage_fails_and_says_which_part(client: TestClient, health: MemoryHealth) -> None:
    health.faults = {"disk": "The disk that takes downloads has 3 MiB free", "runners": "no jobs are claimed: …"}
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    body = answer.json()
    assert (body["status"], body["storage"]) == ("not_ready", health.faults)
    assert body["error"]["code"] == "STORAGE_UNAVAILABLE"
    assert "disk: The disk that takes downloads has 3 MiB free; runners: no jobs" in body["error"]["message"]
    health.faults = {}
    assert client.get("/health/ready").json()["storage"] == {}


def test_not_ready_while_nothing_is_known(client: TestClient, health: MemoryHealth) -> None:
    health.states = {}
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert "no deployment is known yet" in answer.json()["error"]["message"]


def test_not_ready_if_the_graph_does_not_answer(client_with: Callable[..., TestClient], health: MemoryHealth) -> None:
    health.hangs = True
    answer = client_with(readiness_timeout_s=0.01).get("/health/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (
        answer.json()["error"]["message"] == "The state of the deployments is not known: Serve did not answer in time"
    )


def test_ready_without_what_is_not_installed_and_says_what_to_install(client: TestClient, health: MemoryHealth) -> None:
    reason = Sentence(
        "{name} needs serve_app[{extra}]: pip install 'serve_app[{extra}]' (not installed here: {modules})",
        name="Diarizer",
        extra="video",
        modules="whisperx",
    )
    health.states |= {"Diarizer": not_installed(reason)}
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    state = answer.json()["deployments"]["Diarizer"]
    assert state.startswith("NOT_INSTALLED: Diarizer")
    assert "pip install 'serve_app[video]'" in state
    assert "설치가 필요합니다" in translated(not_installed(reason), Locale.KO)
