"""`GET /models` and `POST /models/{name}/reload`."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from fastapi.testclient import TestClient

from serve_app import errors
from serve_app.services import DeployedModel
from tests.unit.api.memory_services import CREATED_AT, REPLICA_MODEL, VERSION, MemoryModels

REPLICA = {
    "replica": "abc123",
    "node": "gpu-box",
    "pid": 4711,
    "spec": "/srv/models/reusable_classifier.pth",
    "model_version": VERSION,
    "sha256": "0123abcd" * 8,
    "architecture": "resnet50",
    "engine": "openvino bf16",
    "device": "cpu",
    "warm": True,
    "loaded_at": "2024-01-15T10:30:00Z",
    "max_difference": 0.004,
    "notes": ["resnet50 backbone under its own names"],
    "failure": None,
    "cores": "2 threads for one picture, 2 × 1 thread for several",
    "speeds": [asdict(each) for each in REPLICA_MODEL.speeds],
}
CONTAINER = {
    "name": "container",
    "deployment": "ContainerClassifier",
    "state": "HEALTHY",
    "replicas": [REPLICA],
    "reloads": True,
}
BEVERAGE = {
    "name": "beverage",
    "deployment": "BeverageDetector",
    "state": "HEALTHY",
    "replicas": [],
    "reloads": True,
}
BROKEN = replace(REPLICA_MODEL, replica="def456", failure="The weights 'x.pth' can't serve: it is damaged")


def deployed(*replicas: object, state: str = "HEALTHY") -> DeployedModel:
    return DeployedModel("container", "ContainerClassifier", state, replicas)  # type: ignore[arg-type]


class TestList:
    def test_what_is_loaded_where(self, client: TestClient) -> None:
        answer = client.get("/models")
        assert answer.status_code == 200
        assert answer.json() == {"models": [CONTAINER, BEVERAGE]}
        assert list(answer.json()["models"][0]["replicas"][0]) == list(REPLICA)

    def test_replica_without_weights(self, client: TestClient, models: MemoryModels) -> None:
        empty = dict.fromkeys(("model_version", "sha256", "architecture", "engine", "loaded_at", "max_difference"))
        bare = replace(REPLICA_MODEL, **empty, warm=False, notes=(), failure="There is no file 'x.pth'")
        models.deployed = {"container": deployed(bare, state="UNHEALTHY")}
        [model] = client.get("/models").json()["models"]
        assert model["state"] == "UNHEALTHY"
        failed = {"warm": False, "notes": [], "failure": "There is no file 'x.pth'"}
        assert model["replicas"] == [REPLICA | empty | failed]

    def test_failure(self, client: TestClient, models: MemoryModels, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*_: str) -> None:
            raise errors.Unavailable("the controller does not answer", 3.2)

        monkeypatch.setattr(models, "models", fail)
        monkeypatch.setattr(models, "reload", fail)
        for answer in (client.get("/models"), client.post("/models/container/reload")):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "4")
            assert answer.json() == {
                "error": {
                    "code": "UNAVAILABLE",
                    "message": "the controller does not answer",
                    "request_id": answer.headers["x-request-id"],
                }
            }


class TestReload:
    def test_all_replicas_have_the_new_weights(self, client: TestClient, models: MemoryModels) -> None:
        new = replace(REPLICA_MODEL, model_version="new.pth (89abcdef)", loaded_at=CREATED_AT + 90)
        models.after_reload = [deployed(new, replace(new, replica="def456"))]
        answer = client.post("/models/container/reload")
        assert answer.status_code == 200
        assert answer.json()["reloaded"] is True
        [model] = answer.json()["models"]
        assert [(each["replica"], each["model_version"], each["loaded_at"]) for each in model["replicas"]] == [
            ("abc123", "new.pth (89abcdef)", "2024-01-15T10:31:30Z"),
            ("def456", "new.pth (89abcdef)", "2024-01-15T10:31:30Z"),
        ]
        assert models.reloaded == ["container"]

    def test_one_replica_could_not(self, client: TestClient, models: MemoryModels) -> None:
        models.after_reload = [deployed(REPLICA_MODEL, BROKEN)]
        answer = client.post("/models/container/reload")
        assert answer.status_code == 200
        assert answer.json() == {
            "reloaded": False,
            "models": [CONTAINER | {"replicas": [REPLICA, REPLICA | {"replica": "def456", "failure": BROKEN.failure}]}],
        }

    def test_a_deployment_and_its_twin(
        self, client: TestClient, models: MemoryModels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def reload(name: str) -> list[DeployedModel]:
            return [deployed(REPLICA_MODEL), DeployedModel(name, "ContainerClassifierCPU", "HEALTHY", (BROKEN,))]

        monkeypatch.setattr(models, "reload", reload)
        body = client.post("/models/container/reload").json()
        assert [model["deployment"] for model in body["models"]] == ["ContainerClassifier", "ContainerClassifierCPU"]
        assert body["reloaded"] is False

    @pytest.mark.parametrize("name", ["drums", "Container", "container%20", "%EB%B6%81"])
    def test_unknown_one_names_what_there_is(self, client: TestClient, models: MemoryModels, name: str) -> None:
        answer = client.post(f"/models/{name}/reload")
        assert answer.status_code == 404
        assert models.reloaded == []
        assert answer.json()["error"]["message"] == "No such model; there are: container, beverage"
        assert answer.json()["error"]["code"] == "NOT_FOUND"

    def test_one_that_is_loaded_once(self, client: TestClient, models: MemoryModels) -> None:
        models.deployed["drums"] = DeployedModel("drums", "DrumTranscriber", "HEALTHY", (), reloads=False)
        assert client.get("/models").json()["models"][2]["reloads"] is False
        answer = client.post("/models/drums/reload")
        assert (answer.status_code, models.reloaded) == (404, [])
        assert answer.json()["error"]["message"] == "No such model; there are: container, beverage"

    def test_no_model_at_all(self, client: TestClient, models: MemoryModels) -> None:
        models.deployed = {}
        assert client.get("/models").json() == {"models": []}
        answer = client.post("/models/container/reload")
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, "No such model; there are: none")

    def test_a_name_with_two_deployments_is_told_once(self, client: TestClient, models: MemoryModels) -> None:
        models.deployed["twin"] = deployed(REPLICA_MODEL)
        told = client.post("/models/x/reload").json()["error"]["message"]
        assert told == "No such model; there are: container, beverage"

    def test_long_name(self, client: TestClient) -> None:
        answer = client.post(f"/models/{'x' * 65}/reload")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")

    def test_not_in_time(self, client: TestClient, models: MemoryModels, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(name: str) -> None:
            raise errors.Unavailable("not every replica has read its weights anew", 10.0)

        monkeypatch.setattr(models, "reload", fail)
        answer = client.post("/models/container/reload")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert answer.json()["error"]["code"] == "UNAVAILABLE"

    def test_only_post_reloads(self, client: TestClient, models: MemoryModels) -> None:
        answer = client.get("/models/container/reload")
        assert (answer.status_code, models.reloaded) == (405, [])


def test_routes_are_documented(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    reload = document["paths"]["/models/{name}/reload"]["post"]
    assert {"200", "404", "503"} <= set(reload["responses"])
    assert document["paths"]["/models"]["get"]["responses"]["200"]["content"]["application/json"]["schema"][
        "$ref"
    ].endswith("/DeployedModelsView")
    assert list(document["components"]["schemas"]["ReplicaModelView"]["properties"]) == list(REPLICA)
    # the sentence of a 404 is about jobs on other routes
    assert "job" not in reload["responses"]["404"]["description"]
