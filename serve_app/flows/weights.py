"""What is loaded where, and having it read anew: `services.ModelService` over all replicas of the deployments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from ray import serve
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ReplicaState

from serve_app.errors import InvalidRequest, ServeAppError, Unavailable
from serve_app.flows.calls import Calls, translate
from serve_app.flows.health import HEALTHY, deployment_state
from serve_app.flows.speech_to_text import PlacedDeployment
from serve_app.services import DeployedModel, ReplicaModel

_DESCRIBE_S = 5.0
# A conversion takes some ten seconds, on a busy machine a minute or two.
_RELOAD_S = 600.0
_POLL_S = 0.5
_RETRY_AFTER_S = 10.0


class DeployedModels:
    """The models of the graph.

    Args:
        app_name: of the Serve application.
        models: by short name, the deployments of those that can be replaced while they serve.
        hosted: models that the replicas of the ingress have in themselves, too; they answer `describe_model` and
            `reload_model` with the name.
        host: name of the ingress's deployment.
        fixed: by short name, the deployments of those that are loaded once; they answer `describe`.
    """

    def __init__(
        self,
        app_name: str,
        models: Mapping[str, Sequence[PlacedDeployment]],
        hosted: Collection[str] = (),
        host: str = "Ingress",
        fixed: Mapping[str, Sequence[PlacedDeployment]] = MappingProxyType({}),
    ) -> None:
        self._app_name = app_name
        self._models = models
        self._hosted = hosted
        self._host = host
        self._fixed = fixed
        self._call = Calls(_RELOAD_S)

    async def models(self) -> Sequence[DeployedModel]:
        """Return the models of the graph."""
        states = await asyncio.to_thread(self._states)

        async def describe(name: str, placed: PlacedDeployment) -> DeployedModel:
            state, num_running, _ = states[placed.name]
            replicas: Sequence[ReplicaModel] = ()
            if num_running:
                # one that went down meanwhile, or is too busy to tell: the state says more
                with suppress(ServeAppError):
                    replicas = await _broadcast(placed.handle, "describe", _DESCRIBE_S)
            return DeployedModel(name, placed.name, state, tuple(replicas), name in self._models)

        async def describe_hosted(name: str) -> DeployedModel:
            replicas: Sequence[ReplicaModel] = ()
            with suppress(ServeAppError):
                replicas = await _broadcast(self._host_handle(), "describe_model", _DESCRIBE_S, name)
            return DeployedModel(name, self._host, HEALTHY, tuple(replicas))

        hosted = [describe_hosted(name) for name in self._hosted]
        return await asyncio.gather(*hosted, *(describe(name, placed) for name, placed in self._placed()))

    async def reload(self, name: str) -> Sequence[DeployedModel]:
        """Have every replica of a model read its weights anew, and return what serves then."""
        if name not in self._models:
            raise InvalidRequest(f"no model {name[:40]!r} is deployed; there are: {', '.join(self._models)}")
        hosted = [self._reload_hosted(name)] if name in self._hosted else []
        return await asyncio.gather(*hosted, *(self._reload(name, placed) for placed in self._models[name]))

    async def _reload_hosted(self, name: str) -> DeployedModel:
        # this process is one of them, so that there is one at least; one that starts later reads the new file
        replicas = await _broadcast(self._host_handle(), "reload_model", _RELOAD_S, name)
        return DeployedModel(name, self._host, HEALTHY, tuple(replicas))

    def _host_handle(self) -> DeploymentHandle:
        return serve.get_deployment_handle(self._host, self._app_name)

    async def _reload(self, name: str, placed: PlacedDeployment) -> DeployedModel:
        """Repeat until every replica that runs was told: one that starts meanwhile may have read the old file."""
        deadline = time.monotonic() + _RELOAD_S
        while True:
            state, num_running, num_starting = (await asyncio.to_thread(self._states))[placed.name]
            replicas: Sequence[ReplicaModel] = ()
            if num_running:
                replicas = await _broadcast(placed.handle, "reload", deadline - time.monotonic())
            elif not num_starting and name in self._hosted:  # scaled to zero, and the ingress's own tell of the file
                return DeployedModel(name, placed.name, state, ())
            elif not num_starting:  # scaled to zero: one is started, to see whether the file can be loaded
                replicas = [await self._call(placed.handle, "describe")]
            if replicas and len(replicas) >= num_running and not num_starting:
                return DeployedModel(name, placed.name, state, tuple(replicas))
            if time.monotonic() > deadline:
                raise Unavailable(f"not every replica of {placed.name} has read its weights anew", _RETRY_AFTER_S)
            await asyncio.sleep(_POLL_S)

    def _placed(self) -> list[tuple[str, PlacedDeployment]]:
        models = (*self._models.items(), *self._fixed.items())
        return [(name, placed) for name, deployments in models for placed in deployments]

    def _states(self) -> dict[str, tuple[str, int, int]]:
        """Return each deployment's state, and how many of its replicas run and start."""
        application = serve.status().applications.get(self._app_name)
        found = application.deployments if application is not None else {}
        states = {}
        for _, placed in self._placed():
            deployment = found.get(placed.name)
            counts: Mapping[Any, int] = deployment.replica_states if deployment is not None else {}
            starting = sum(counts.get(state, 0) for state in (ReplicaState.STARTING, ReplicaState.UPDATING))
            states[placed.name] = (deployment_state(deployment), counts.get(ReplicaState.RUNNING, 0), starting)
        return states


async def _broadcast(handle: DeploymentHandle, method: str, timeout_s: float, *args: str) -> list[ReplicaModel]:
    """Return what every running replica answers; those that died under the call are left out."""
    try:
        response = handle.broadcast(method, *args)
        answers = await response.results_async(timeout_s=max(timeout_s, 0.0), return_exceptions=True)
    except (TimeoutError, DeploymentUnavailableError) as error:
        raise Unavailable(f"{handle.deployment_name} does not answer", _RETRY_AFTER_S) from error
    return [answer for answer in answers if isinstance(answer, ReplicaModel) or _raised(answer, handle)]


def _raised(answer: Any, handle: DeploymentHandle) -> bool:
    """Raise what a replica failed with, unless it was lost: then another one takes its place."""
    error = translate(answer, handle.deployment_name) if isinstance(answer, BaseException) else None
    if error is not None and not isinstance(error, Unavailable):
        raise error
    return False
