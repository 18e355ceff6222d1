"""`GraphHealth`: the state of the graph's deployments in Serve's controller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ray import serve
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, ReplicaState

from serve_app.errors import StorageUnavailable
from serve_app.flows.media_source import MediaSource
from serve_app.jobs.store import JobStore
from serve_app.sentences import Sentence, joined
from serve_app.threads import CHECKS

HEALTHY = DeploymentStatus.HEALTHY.value
# A deployment that is still starting will answer: its first callers wait, as for one that is scaled to zero.
USABLE = (HEALTHY, DeploymentStatus.UPDATING.value)

_STATUS_KEPT_S = 1.0
_STORAGE_KEPT_S = 5.0


class StorageHealth:
    """Faults of the job table, the artefact store and the disk for downloads, as this process meets them."""

    def __init__(self, store: JobStore, media: MediaSource) -> None:
        self._store = store
        self._checks: dict[str, Callable[[], None]] = {
            "artefact store": media.check_store,
            "disk": media.check_disk,
        }
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._faults: dict[str, str] = {}

    async def faults(self) -> Mapping[str, str]:
        """Return what is wrong, by part, at most some seconds old; within two seconds, whatever hangs."""
        loop = asyncio.get_running_loop()
        async with self._reading:
            if loop.time() - self._read_at > _STORAGE_KEPT_S:
                found = await asyncio.gather(self._paused(), *(_fault(*check) for check in self._checks.items()))
                self._faults = {part: sentence for each in found for part, sentence in each.items()}
                self._read_at = loop.time()
        return self._faults

    async def _paused(self) -> dict[str, str]:
        try:
            reasons = await CHECKS.run(self._store.paused)
        except StorageUnavailable as error:
            return {"job table": error.detail}
        return {"runners": Sentence("no jobs are claimed: {reasons}", reasons=joined("; ", reasons))} if reasons else {}


async def _fault(part: str, check: Callable[[], None]) -> dict[str, str]:
    try:
        await CHECKS.run(check)
    except StorageUnavailable as error:
        return {part: error.detail}
    return {}


class GraphHealth:
    """`services.HealthService`.

    Args:
        app_name: of the application.
        expected: names of its deployments.
        storage: is asked too; None: where only the deployments matter.
        left_out: by name, what to install for each deployment that is left out.
    """

    def __init__(
        self,
        app_name: str,
        expected: Sequence[str],
        storage: StorageHealth | None = None,
        left_out: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._left_out = {name: not_installed(reason) for name, reason in left_out.items()}
        self._storage = storage
        self._app_name = app_name
        self._expected = expected
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._states: dict[str, str] = {}

    async def deployments(self) -> Mapping[str, str]:
        """Return every enabled deployment's state, at most a second old."""
        loop = asyncio.get_running_loop()
        async with self._reading:
            if loop.time() - self._read_at > _STATUS_KEPT_S:
                self._states = await asyncio.to_thread(self._read)
                self._read_at = loop.time()
        return self._states

    async def storage_faults(self) -> Mapping[str, str]:
        """Return what is wrong with the storage, by part; empty: nothing."""
        return {} if self._storage is None else await self._storage.faults()

    def _read(self) -> dict[str, str]:
        application = serve.status().applications.get(self._app_name)
        found = application.deployments if application is not None else {}
        return {name: deployment_state(found.get(name)) for name in self._expected} | self._left_out


def not_installed(reason: str) -> str:
    """Return the state of a deployment that is left out."""
    return Sentence("NOT_INSTALLED: {reason}", reason=reason)


def deployment_state(deployment: DeploymentStatusOverview | None) -> str:
    """Return a deployment's state for callers: HEALTHY where it takes requests.

    One that scales takes requests, also while it starts its first replica for a waiting one (UPSCALING; the start of a
    whole graph is UPDATING). One that is updated takes requests while a replica runs.
    """
    if deployment is None:
        return "NOT_DEPLOYED"
    if deployment.status in (DeploymentStatus.UPSCALING, DeploymentStatus.DOWNSCALING):
        return HEALTHY
    if deployment.status is DeploymentStatus.UPDATING and deployment.replica_states.get(ReplicaState.RUNNING, 0):
        return HEALTHY
    return str(deployment.status.value)
