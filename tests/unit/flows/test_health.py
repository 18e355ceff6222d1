from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, ReplicaState

from serve_app.errors import StorageUnavailable
from serve_app.flows import health as module
from serve_app.flows.health import HEALTHY, USABLE, GraphHealth, StorageHealth, deployment_state
from tests.job_tables import make_job_table


def overview(status: DeploymentStatus, running: int = 1) -> DeploymentStatusOverview:
    return DeploymentStatusOverview(
        status=status, status_trigger="UNSPECIFIED", replica_states={ReplicaState.RUNNING: running}, message=""
    )


@pytest.mark.parametrize(
    ("status", "running", "state", "is_usable"),
    [
        (DeploymentStatus.HEALTHY, 1, "HEALTHY", True),
        (DeploymentStatus.HEALTHY, 0, "HEALTHY", True),  # scaled to zero
        (DeploymentStatus.UPSCALING, 0, "HEALTHY", True),  # from zero, for a request that waits
        (DeploymentStatus.UPSCALING, 1, "HEALTHY", True),
        (DeploymentStatus.DOWNSCALING, 1, "HEALTHY", True),
        (DeploymentStatus.UPDATING, 1, "HEALTHY", True),  # an old replica still answers
        (DeploymentStatus.UPDATING, 0, "UPDATING", True),  # the graph is starting: not ready, but worth waiting for
        (DeploymentStatus.UNHEALTHY, 1, "UNHEALTHY", False),
        (DeploymentStatus.DEPLOY_FAILED, 0, "DEPLOY_FAILED", False),
    ],
)
def test_states(status: DeploymentStatus, running: int, state: str, is_usable: bool) -> None:
    assert deployment_state(overview(status, running)) == state
    assert (state in USABLE) == is_usable
    assert deployment_state(None) not in (*USABLE, HEALTHY)


def test_the_graphs_deployments_are_asked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed: dict[str, Any] = {}
    num_asked = 0

    def status() -> Any:
        nonlocal num_asked
        num_asked += 1
        return SimpleNamespace(applications=dict(deployed))

    monkeypatch.setattr(module.serve, "status", status)

    async def run() -> None:
        health = GraphHealth("app", ["Diarizer", "Ingress"])
        absent = {"Diarizer": "NOT_DEPLOYED", "Ingress": "NOT_DEPLOYED"}
        found = await asyncio.gather(*(health.deployments() for _ in range(20)))
        assert list(found) == [absent] * 20
        assert num_asked == 1
        deployed["app"] = SimpleNamespace(
            deployments={"Diarizer": overview(DeploymentStatus.HEALTHY), "Other": overview(DeploymentStatus.HEALTHY)}
        )
        assert await health.deployments() == absent  # as it was less than a second ago
        monkeypatch.setattr(module, "_STATUS_KEPT_S", 0.0)
        assert await health.deployments() == absent | {"Diarizer": "HEALTHY"}
        assert num_asked == 2

    asyncio.run(run())


class Media:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = threading.Event()
        self.hangs.set()
        self.num_checks = 0

    def check_disk(self) -> None:
        self.num_checks += 1
        if self.error is not None:
            raise self.error

    def check_store(self) -> None:
        assert self.hangs.wait(30)


class TestStorage:
    def test_each_part_says_what_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        media, (store, _) = Media(), make_job_table()
        storage = StorageHealth(store, media)  # type: ignore[arg-type]

        async def run() -> None:
            assert await storage.faults() == {}
            assert await storage.faults() == {}
            assert media.num_checks == 1  # it is asked every few seconds
            monkeypatch.setattr(module, "_STORAGE_KEPT_S", -1.0)
            media.error = StorageUnavailable("the disk is full")
            store.note_pause("runner", "The artefact store fails", 60.0)
            assert await storage.faults() == {
                "disk": "the disk is full",
                "runners": "no jobs are claimed: The artefact store fails",
            }
            store.note_pause("runner", "", 0.0)
            media.error = None
            assert await storage.faults() == {}

        asyncio.run(run())

    def test_what_hangs_holds_up_no_answer(self) -> None:
        media, (store, _) = Media(), make_job_table()
        media.hangs.clear()

        async def run() -> None:
            async with asyncio.timeout(4):  # readiness waits 5 s
                faults = await StorageHealth(store, media).faults()  # type: ignore[arg-type]
            assert faults == {"artefact store": "the storage did not answer within 2 s"}

        try:
            asyncio.run(run())
        finally:
            media.hangs.set()
