"""What is loaded where, over replicas that are plain objects here, as Serve's controller would count them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, ReplicaState

from serve_app.errors import ModelLoadingError, ProcessingError, ServeAppError, Unavailable
from serve_app.flows import weights as module
from serve_app.flows.handles import Placed
from serve_app.flows.weights import DeployedModels
from serve_app.services import DeployedModel, ReplicaModel
from tests.unit.api.memory_services import REPLICA_MODEL

RUNNING, STARTING, UPDATING = ReplicaState.RUNNING, ReplicaState.STARTING, ReplicaState.UPDATING


def replica(name: str) -> ReplicaModel:
    return replace(REPLICA_MODEL, replica=name)


def over_a_handle(cause: Exception) -> RayTaskError:
    return RayTaskError("ContainerClassifier.reload", "remote traceback with /secret/path", cause).as_instanceof_cause()


class Deployment:
    """A deployment, its handle, and what the controller says of it: the next of `counts`, the last one repeatedly."""

    def __init__(
        self,
        name: str = "ContainerClassifier",
        counts: list[dict[ReplicaState, int]] | None = None,
        answers: list[Any] | None = None,
        status: DeploymentStatus = DeploymentStatus.HEALTHY,
    ) -> None:
        self.deployment_name = name
        self.counts = counts or [{RUNNING: 1}]
        self.answers = answers or [[replica("a")]]
        self.status = status
        self.told: list[str] = []
        self.waits: list[float] = []
        self.describe = self

    def overview(self) -> DeploymentStatusOverview:
        counts = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        return DeploymentStatusOverview(
            status=self.status, status_trigger="UNSPECIFIED", replica_states=counts, message=""
        )

    def broadcast(self, method: str, *args: str) -> Deployment:
        self.told.append(" ".join((method, *args)))
        return self

    async def results_async(self, *, timeout_s: float, return_exceptions: bool) -> list[Any]:
        assert return_exceptions
        self.waits.append(timeout_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def remote(self) -> ReplicaModel:
        self.told.append("describe one")
        return replica("started")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DeployedModels]:
    def make(*deployments: Deployment, **more: Deployment) -> DeployedModels:
        """Return models over the deployments of the container classifier, and one each of the others."""
        named = {"container": list(deployments), **{name: [each] for name, each in more.items()}}

        def status() -> Any:
            found = {each.deployment_name: each.overview() for group in named.values() for each in group}
            return SimpleNamespace(applications={"app": SimpleNamespace(deployments=found)})

        monkeypatch.setattr(module.serve, "status", status)
        placed = {
            name: [Placed(each.deployment_name, each) for each in group]  # type: ignore[arg-type]
            for name, group in named.items()
        }
        fixed = {name: placed.pop(name) for name in ("diarization", "drums") if name in placed}
        return DeployedModels("app", placed, fixed=fixed)

    monkeypatch.setattr(module, "_POLL_S", 0.0)
    return make


class TestModels:
    def test_each_replica_describes_itself(self, make: Callable[..., DeployedModels]) -> None:
        gpu = Deployment(counts=[{RUNNING: 2}], answers=[[replica("a"), replica("b")]])
        cpu = Deployment("ContainerClassifierCPU", counts=[{RUNNING: 0}])
        beverage = Deployment("BeverageDetector", answers=[[replica("c")]], status=DeploymentStatus.UNHEALTHY)
        assert asyncio.run(make(gpu, cpu, beverage=beverage).models()) == [
            DeployedModel("container", "ContainerClassifier", "HEALTHY", (replica("a"), replica("b"))),
            DeployedModel("container", "ContainerClassifierCPU", "HEALTHY", ()),
            DeployedModel("beverage", "BeverageDetector", "UNHEALTHY", (replica("c"),)),
        ]
        assert gpu.told == beverage.told == ["describe"]
        assert cpu.told == []  # scaled to zero: nothing is started to be asked

    def test_one_that_starts_is_not_asked(self, make: Callable[..., DeployedModels]) -> None:
        deployment = Deployment(counts=[{STARTING: 1}], status=DeploymentStatus.UPDATING)
        [model] = asyncio.run(make(deployment).models())
        assert (model.state, model.replicas, deployment.told) == ("UPDATING", (), [])

    @pytest.mark.parametrize(
        "answer",
        [
            TimeoutError(),
            DeploymentUnavailableError.__new__(DeploymentUnavailableError),
            [ActorDiedError()],
            [over_a_handle(KeyError("x"))],
        ],
        ids=["too late", "gone", "lost", "failed"],
    )
    def test_who_does_not_answer_is_left_out(self, make: Callable[..., DeployedModels], answer: Any) -> None:
        silent, good = Deployment(answers=[answer]), Deployment("BeverageDetector")
        first, second = asyncio.run(make(silent, beverage=good).models())
        assert (first.state, first.replicas) == ("HEALTHY", ())
        assert second.replicas == (replica("a"),)
        assert silent.waits == [module._DESCRIBE_S]

    def test_a_lost_replica_leaves_the_others(self, make: Callable[..., DeployedModels]) -> None:
        deployment = Deployment(counts=[{RUNNING: 2}], answers=[[ActorDiedError(), replica("b")]])
        assert asyncio.run(make(deployment).models())[0].replicas == (replica("b"),)

    def test_before_the_graph_is_deployed(
        self, make: Callable[..., DeployedModels], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = make(Deployment())
        for applications in ({}, {"app": SimpleNamespace(deployments={})}):
            monkeypatch.setattr(module.serve, "status", lambda: SimpleNamespace(applications=applications))  # noqa: B023
            assert asyncio.run(service.models()) == [
                DeployedModel("container", "ContainerClassifier", "NOT_DEPLOYED", ())
            ]


class TestReload:
    def test_every_replica_is_told_once(self, make: Callable[..., DeployedModels]) -> None:
        deployment = Deployment(counts=[{RUNNING: 2}], answers=[[replica("a"), replica("b")]])
        other = Deployment("BeverageDetector")
        assert asyncio.run(make(deployment, beverage=other).reload("container")) == [
            DeployedModel("container", "ContainerClassifier", "HEALTHY", (replica("a"), replica("b")))
        ]
        assert (deployment.told, other.told) == (["reload"], [])
        assert 0 < deployment.waits[0] <= module._RELOAD_S

    def test_a_deployment_and_its_twin(self, make: Callable[..., DeployedModels]) -> None:
        gpu, cpu = Deployment(), Deployment("ContainerClassifierCPU", answers=[[replica("b")]])
        models = asyncio.run(make(gpu, cpu).reload("container"))
        assert [(model.deployment, model.replicas[0].replica) for model in models] == [
            ("ContainerClassifier", "a"),
            ("ContainerClassifierCPU", "b"),
        ]

    @pytest.mark.parametrize("state", [STARTING, UPDATING])
    def test_a_replica_that_starts_is_told_too(self, make: Callable[..., DeployedModels], state: ReplicaState) -> None:
        """It may have read the old file before that was replaced."""
        deployment = Deployment(
            counts=[{RUNNING: 1, state: 1}, {RUNNING: 1, state: 1}, {RUNNING: 2}],
            answers=[[replica("a")], [replica("a")], [replica("a"), replica("b")]],
        )
        [model] = asyncio.run(make(deployment).reload("container"))
        assert [each.replica for each in model.replicas] == ["a", "b"]
        assert deployment.told == ["reload"] * 3

    def test_a_lost_replica_is_waited_for(self, make: Callable[..., DeployedModels]) -> None:
        deployment = Deployment(
            counts=[{RUNNING: 2}, {RUNNING: 1, STARTING: 1}, {RUNNING: 2}],
            answers=[[replica("a"), ActorDiedError()], [replica("a")], [replica("a"), replica("c")]],
        )
        [model] = asyncio.run(make(deployment).reload("container"))
        assert [each.replica for each in model.replicas] == ["a", "c"]

    def test_scaled_to_zero_starts_one_to_see(self, make: Callable[..., DeployedModels]) -> None:
        deployment = Deployment(counts=[{}])
        [model] = asyncio.run(make(deployment).reload("container"))
        assert model.replicas == (replica("started"),)
        assert deployment.told == ["describe one"]

    def test_all_are_starting(self, make: Callable[..., DeployedModels]) -> None:
        deployment = Deployment(counts=[{STARTING: 1}, {STARTING: 1}, {RUNNING: 1}])
        [model] = asyncio.run(make(deployment).reload("container"))
        assert model.replicas == (replica("a"),)
        assert deployment.told == ["reload"]

    def test_a_replica_that_refused_the_file_is_an_answer(self, make: Callable[..., DeployedModels]) -> None:
        refused = replace(replica("a"), failure="it is damaged")
        deployment = Deployment(answers=[[refused]])
        assert asyncio.run(make(deployment).reload("container"))[0].replicas == (refused,)

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (TimeoutError(), "ContainerClassifier does not answer"),
            (DeploymentUnavailableError.__new__(DeploymentUnavailableError), "ContainerClassifier does not answer"),
            ([ActorDiedError()], "not every replica of ContainerClassifier has reloaded its weights"),
        ],
        ids=["too late", "gone", "lost again and again"],
    )
    def test_not_in_time(
        self, make: Callable[..., DeployedModels], monkeypatch: pytest.MonkeyPatch, answer: Any, told: str
    ) -> None:
        monkeypatch.setattr(module, "_RELOAD_S", 0.05)
        with pytest.raises(Unavailable, match=told) as raised:
            asyncio.run(make(Deployment(answers=[answer])).reload("container"))
        assert raised.value.retry_after_s > 0

    def test_one_that_never_comes_up(
        self, make: Callable[..., DeployedModels], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_RELOAD_S", 0.05)
        deployment = Deployment(counts=[{STARTING: 1}])
        with pytest.raises(Unavailable, match="not every replica"):
            asyncio.run(make(deployment).reload("container"))
        assert deployment.told == []

    @pytest.mark.parametrize(
        ("raised", "error", "told"),
        [
            (over_a_handle(ModelLoadingError("no file")), ModelLoadingError, "no file"),
            (over_a_handle(KeyError("token=abc")), ProcessingError, "ContainerClassifier failed with KeyError"),
        ],
    )
    def test_failure_of_a_replica(
        self, make: Callable[..., DeployedModels], raised: Exception, error: type[ServeAppError], told: str
    ) -> None:
        deployment = Deployment(counts=[{RUNNING: 2}], answers=[[replica("a"), raised]])
        with pytest.raises(error) as caught:
            asyncio.run(make(deployment).reload("container"))
        assert type(caught.value) is error
        assert told in caught.value.detail
        assert "secret" not in caught.value.detail
        assert "token" not in caught.value.detail

    def test_names_of_those_that_reload(self, make: Callable[..., DeployedModels]) -> None:
        deployment = Deployment()
        service = make(deployment, beverage=Deployment("BeverageDetector"), drums=Deployment("DrumTranscriber"))
        assert list(service.names()) == ["container", "beverage"]
        service._hosted = ("beverage",)
        assert list(service.names()) == ["beverage", "container"]  # as `models()` lists them
        assert deployment.told == []  # no replica is asked


class TestFixed:
    """Models that are loaded once: they are told, and never reloaded."""

    def test_they_are_told(self, make: Callable[..., DeployedModels]) -> None:
        diarizer = Deployment("Diarizer", answers=[[replica("d")]])
        idle = Deployment("DrumTranscriber", counts=[{}])
        models = asyncio.run(make(Deployment(), diarization=diarizer, drums=idle).models())
        assert models[1:] == [
            DeployedModel("diarization", "Diarizer", "HEALTHY", (replica("d"),), reloads=False),
            DeployedModel("drums", "DrumTranscriber", "HEALTHY", (), reloads=False),
        ]
        assert models[0].reloads
        assert diarizer.told == ["describe"]
        assert idle.told == []  # a call would start a replica


class TestHosted:
    """Models that the ingress has in itself, beside their deployments."""

    @pytest.fixture
    def ingress(self, monkeypatch: pytest.MonkeyPatch) -> Deployment:
        ingress = Deployment("Ingress", answers=[[replica("i1"), replica("i2")]])
        monkeypatch.setattr(
            module.serve, "get_deployment_handle", lambda name, app: {("Ingress", "app"): ingress}[name, app]
        )
        return ingress

    def test_both_are_told(self, make: Callable[..., DeployedModels], ingress: Deployment) -> None:
        container = Deployment(counts=[{RUNNING: 0}])
        models = make(container)
        models._hosted = ("container",)
        assert asyncio.run(models.models()) == [
            DeployedModel("container", "Ingress", "HEALTHY", (replica("i1"), replica("i2"))),
            DeployedModel("container", "ContainerClassifier", "HEALTHY", ()),
        ]
        assert ingress.told == ["describe_model container"]

    def test_all_reload_and_none_is_started_for_it(
        self, make: Callable[..., DeployedModels], ingress: Deployment
    ) -> None:
        container = Deployment(counts=[{RUNNING: 0}])
        models = make(container)
        models._hosted = ("container",)
        assert asyncio.run(models.reload("container")) == [
            DeployedModel("container", "Ingress", "HEALTHY", (replica("i1"), replica("i2"))),
            DeployedModel("container", "ContainerClassifier", "HEALTHY", ()),
        ]
        assert ingress.told == ["reload_model container"]
        assert container.told == []  # scaled to zero: the ingress's own have told whether the file can be loaded

    def test_a_deployment_that_runs_reloads_as_well(
        self, make: Callable[..., DeployedModels], ingress: Deployment
    ) -> None:
        container = Deployment(answers=[[replica("a")]])
        models = make(container)
        models._hosted = ("container",)
        _, deployed = asyncio.run(models.reload("container"))
        assert deployed.replicas == (replica("a"),)
        assert (ingress.told, container.told) == (["reload_model container"], ["reload"])
