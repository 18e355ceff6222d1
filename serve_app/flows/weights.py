"""`DeployedModels`: describes the models of all replicas, and reloads their weights (`services.ModelService`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from ray import serve
from ray.serve.schema import ReplicaState

from serve_app.deployments.protocols import Describes, HostsModels, Reloads
from serve_app.errors import ServeAppError, Unavailable
from serve_app.flows.handles import Calls, Placed, call_every_replica
from serve_app.flows.health import HEALTHY, deployment_state, not_installed
from serve_app.sentences import Sentence
from serve_app.services import DeployedModel, ReplicaModel

_DESCRIBE_S = 5.0
_RELOAD_S = 600.0  # a conversion takes some ten seconds, on a busy machine a minute or two
_POLL_S = 0.5
_RETRY_AFTER_S = 10.0


class DeployedModels:
    """The models of the graph.

    Args:
        app_name: of the Serve application.
        models: by short name, the deployments whose weights can be replaced while they serve.
        hosted: names of models that the replicas of the ingress have, too (`HostsModels`).
        host: name of the ingress's deployment.
        fixed: by short name, the deployments whose weights are loaded once.
    """

    def __init__(
        self,
        app_name: str,
        models: Mapping[str, Sequence[Placed[Reloads]]],
        hosted: Collection[str] = (),
        host: str = "Ingress",
        fixed: Mapping[str, Sequence[Placed[Describes]]] = MappingProxyType({}),
    ) -> None:
        self._app_name = app_name
        self._models = models
        self._hosted = hosted
        self._host = host
        self._fixed = fixed
        self._call = Calls(_RELOAD_S)

    def names(self) -> Sequence[str]:
        """Return the short names of the models whose weights can be replaced."""
        return list(dict.fromkeys((*self._hosted, *self._models)))

    async def models(self) -> Sequence[DeployedModel]:
        """Return the models of the graph."""
        states = await asyncio.to_thread(self._states)

        async def describe(name: str, placed: Placed[Describes]) -> DeployedModel:
            if placed.missing is not None:
                return DeployedModel(name, placed.name, not_installed(placed.missing), (), False)
            state, num_running, _ = states[placed.name]
            replicas: Sequence[ReplicaModel] = ()
            if num_running:
                # a replica may be down by now, or too busy: the state remains
                with suppress(ServeAppError):
                    replicas = await call_every_replica(placed, Describes.describe, _DESCRIBE_S)
            return DeployedModel(name, placed.name, state, tuple(replicas), name in self._models)

        async def describe_hosted(name: str) -> DeployedModel:
            replicas: Sequence[ReplicaModel] = ()
            with suppress(ServeAppError):
                replicas = await call_every_replica(self._ingress(), HostsModels.describe_model, _DESCRIBE_S, name)
            return DeployedModel(name, self._host, HEALTHY, tuple(replicas))

        hosted = [describe_hosted(name) for name in self._hosted]
        return await asyncio.gather(*hosted, *(describe(name, placed) for name, placed in self._placed()))

    async def reload(self, name: str) -> Sequence[DeployedModel]:
        """Have every replica of one of `names()` load its weights again; return the models that then serve."""
        hosted = [self._reload_hosted(name)] if name in self._hosted else []
        return await asyncio.gather(*hosted, *(self._reload(name, placed) for placed in self._models[name]))

    async def _reload_hosted(self, name: str) -> DeployedModel:
        # at least this process answers; one that starts later reads the new file
        replicas = await call_every_replica(self._ingress(), HostsModels.reload_model, _RELOAD_S, name)
        return DeployedModel(name, self._host, HEALTHY, tuple(replicas))

    def _ingress(self) -> Placed[HostsModels]:
        return Placed(self._host, serve.get_deployment_handle(self._host, self._app_name))

    async def _reload(self, name: str, placed: Placed[Reloads]) -> DeployedModel:
        """Repeat until every running replica has reloaded: one that starts meanwhile may have read the old file."""
        placed.reached()
        deadline = time.monotonic() + _RELOAD_S
        while True:
            state, num_running, num_starting = (await asyncio.to_thread(self._states))[placed.name]
            replicas: Sequence[ReplicaModel] = ()
            if num_running:
                replicas = await call_every_replica(placed, Reloads.reload, deadline - time.monotonic())
            elif not num_starting and name in self._hosted:  # scaled to zero, and the ingress has read the file
                return DeployedModel(name, placed.name, state, ())
            elif not num_starting:  # scaled to zero: the call starts one, which shows whether the file can be loaded
                replicas = [await self._call(placed, Reloads.describe)]
            if replicas and len(replicas) >= num_running and not num_starting:
                return DeployedModel(name, placed.name, state, tuple(replicas))
            if time.monotonic() > deadline:
                raise Unavailable(
                    Sentence("not every replica of {name} has reloaded its weights", name=placed.name), _RETRY_AFTER_S
                )
            await asyncio.sleep(_POLL_S)

    def _placed(self) -> list[tuple[str, Placed[Any]]]:
        models: dict[str, Sequence[Placed[Any]]] = {**self._models, **self._fixed}
        return [(name, placed) for name, deployments in models.items() for placed in deployments]

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
