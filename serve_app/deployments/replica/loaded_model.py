"""`LoadedModel`: the model of a replica, or the reason why there is none.

Serve repeats a failing constructor in silence, and callers only see that the deployment is down. So a model that can't
be loaded does not fail the constructor: every call raises the reason, and after `GRACE_S` the health check fails, so
that Serve shows the deployment as unhealthy and starts another replica, which tries again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from serve_app.deployments.replica.process import prepare_process, replica_id
from serve_app.errors import ModelError, ModelLoadingError
from serve_app.redaction import shown_spec, without_places, without_secrets
from serve_app.sentences import Sentence
from serve_app.services import EngineSpeed, ReplicaModel

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

GRACE_S = 30.0


class LoadedModel(Generic[T]):
    """The model that a replica serves. The constructor loads it, and blocks; it may be exchanged later.

    Args:
        name: of the deployment, for the log.
        load: returns the model.
        version: returns the model's version.

    Attributes:
        name: of the deployment.
        failure: why no model could be loaded; None once there is one.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], T],
        version: Callable[[T], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        prepare_process()
        self.name = name
        self._clock, self._started_at = clock, clock()
        self._version = version
        self._model: T | None = None
        self._loaded_at: float | None = None
        self.failure: str | None = None
        try:
            self.exchange(load())
        except ModelError as error:  # also one that fails while it is warmed, or finds no memory
            self.failure = error.detail
            logger.error("%s can't load its model: %s", name, without_secrets(error.detail))
        else:
            logger.info("%s serves %s after %.1f s", name, version(self.get()), self.uptime_s)

    @property
    def uptime_s(self) -> float:
        """Seconds since the replica's constructor began."""
        return self._clock() - self._started_at

    @property
    def or_none(self) -> T | None:
        """The model; None where there is none."""
        return self._model

    def get(self) -> T:
        """Return the model; ModelLoadingError with the reason where there is none."""
        if self._model is None:
            raise ModelLoadingError(self.failure or Sentence("no model is loaded"))
        return self._model

    def exchange(self, model: T) -> None:
        """Serve another model from now on; calls under way end with the old one."""
        self._model, self._loaded_at, self.failure = model, time.time(), None

    def check_health(self) -> None:
        """Raise if there is no model `GRACE_S` after the start."""
        if self.failure is not None and self.uptime_s > GRACE_S:
            raise RuntimeError(self.failure)

    def describe(
        self,
        *,
        spec: str,
        engine: str,
        device: str,
        notes: tuple[str, ...] = (),
        failure: str | None = None,
        sha256: str | None = None,
        architecture: str | None = None,
        max_difference: float | None = None,
        cores: str = "",
        speeds: tuple[EngineSpeed, ...] = (),
    ) -> ReplicaModel:
        """Return the replica's facts; the arguments are the fields of `ReplicaModel` that only the deployment has.

        They are without secrets and folders: whoever may list the models need not know these.
        """
        model = self._model
        failure = failure or self.failure
        return ReplicaModel(
            replica=replica_id(),
            node=socket.gethostname(),
            pid=os.getpid(),
            spec=shown_spec(spec),
            model_version=None if model is None else self._version(model),
            sha256=sha256,
            architecture=architecture,
            engine=None if model is None else engine,
            device=device,
            warm=model is not None,
            loaded_at=self._loaded_at,
            max_difference=max_difference,
            notes=tuple(map(without_places, notes)),
            failure=None if failure is None else without_places(failure),
            cores=cores,
            speeds=speeds,
        )
