"""`GraphHealth`: the state of the graph's deployments in Serve's controller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from ray import serve
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, ReplicaState

HEALTHY = DeploymentStatus.HEALTHY.value
# A deployment that is still starting will answer: its first callers wait, as for one that is scaled to zero.
USABLE = (HEALTHY, DeploymentStatus.UPDATING.value)

_STATUS_KEPT_S = 1.0


class GraphHealth:
    """`services.HealthService`; `expected` are the names of the application's deployments."""

    def __init__(self, app_name: str, expected: Sequence[str]) -> None:
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

    def _read(self) -> dict[str, str]:
        application = serve.status().applications.get(self._app_name)
        found = application.deployments if application is not None else {}
        return {name: deployment_state(found.get(name)) for name in self._expected}


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
