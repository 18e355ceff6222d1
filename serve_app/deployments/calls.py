"""Calls over deployment handles that fail with errors of `serve_app.errors`, whatever Ray raised."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle

from serve_app.errors import ProcessingError, ServeAppError, Unavailable

T = TypeVar("T")

_RETRY_AFTER_S = 5.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_LOST = (RayActorError, ObjectLostError, WorkerCrashedError, OutOfMemoryError)


class ReplicaLost(Unavailable):
    """Raised when a replica died, or its node took the data along; the same call may succeed on another one."""


def translate(error: BaseException, deployment: str) -> ServeAppError | None:
    """Return our error for what a handle call raised; None where it is not a failure of the callee.

    Over a handle a callee's exception arrives as `RayTaskError(TheError)`: the cause is answered, never its
    `str()`, which holds the whole remote traceback.
    """
    if isinstance(error, ServeAppError) and not isinstance(error, RayTaskError):
        return error
    if isinstance(error, RayTaskError):
        cause = error.cause
        while isinstance(cause, RayTaskError):
            cause = cause.cause
        if isinstance(cause, ServeAppError):
            return cause
        if isinstance(cause, _LOST):
            return ReplicaLost(f"a replica of {deployment} was lost", _RETRY_AFTER_S)
        return ProcessingError(f"{deployment} failed with {type(cause).__name__}; its log has the details")
    if isinstance(error, BackPressureError):
        return Unavailable(f"the queue of {deployment} is full", _RETRY_AFTER_S)
    if isinstance(error, DeploymentUnavailableError):
        return Unavailable(f"{deployment} is not available: it failed to deploy", _RETRY_AFTER_S)
    if isinstance(error, _LOST):
        return ReplicaLost(f"a replica of {deployment} was lost", _RETRY_AFTER_S)
    if isinstance(error, RequestCancelledError | TaskCancelledError):
        # nobody here cancelled it (that would be asyncio.CancelledError): the replica was going down
        return ReplicaLost(f"{deployment} dropped the call while shutting down", _RETRY_AFTER_S)
    return None


class Calls:
    """Calls to deployments, tried again while their queue is full or a replica was lost.

    Args:
        patience_s: how long to go on trying; 0 fails at once (a synchronous caller can try again itself).
        is_live: asked before each new try.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s

    async def __call__(self, handle: DeploymentHandle, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the method's result; any error of `serve_app.errors`."""
        return await self._persist(handle, lambda: self._result(handle, method, args, kwargs))

    async def by_reference(self, handle: DeploymentHandle, method: str, *args: Any, **kwargs: Any) -> ray.ObjectRef:
        """Return a reference to the method's result once it is there, without moving it to this node.

        A failure of the method shows where the reference is used.
        """
        return await self._persist(handle, lambda: self._reference(handle, method, args, kwargs))

    async def _result(self, handle: DeploymentHandle, method: str, args: tuple, kwargs: dict) -> Any:
        return await getattr(handle, method).remote(*args, **kwargs)

    async def _reference(self, handle: DeploymentHandle, method: str, args: tuple, kwargs: dict) -> ray.ObjectRef:
        response = getattr(handle.options(_by_reference=True), method).remote(*args, **kwargs)
        reference = await response._to_object_ref()
        try:
            while not (await asyncio.to_thread(ray.wait, [reference], timeout=1.0, fetch_local=False))[0]:
                pass
        except asyncio.CancelledError:
            response.cancel()
            raise
        return reference

    async def _persist(self, handle: DeploymentHandle, attempt: Callable[[], Awaitable[T]]) -> T:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await attempt()
            except asyncio.CancelledError:
                raise
            except Exception as raised:
                error = translate(raised, handle.deployment_name)
                if error is None:
                    raise
                if not isinstance(error, Unavailable) or time.monotonic() + pause_s > deadline:
                    raise error from None
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 (jitter)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
