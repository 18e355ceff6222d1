"""Calls over deployment handles that fail with errors of `serve_app.errors`, whatever Ray raised."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import ray
from grpc.aio import AioRpcError
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

from serve_app.errors import ProcessingError, ReplicaLost, ServeAppError, Unavailable

T = TypeVar("T")

_RETRY_AFTER_S = 5.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
# AioRpcError: the connection of a call that goes by gRPC (`_by_reference=False`) broke
_LOST = (RayActorError, ObjectLostError, WorkerCrashedError, OutOfMemoryError, AioRpcError)
_LOST_OR_REMOTE = (*_LOST, RayTaskError)


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
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s

    async def __call__(self, handle: DeploymentHandle, method: str, *args: Any) -> Any:
        """Return the method's result; any error of `serve_app.errors`."""
        return await self.persist(handle, lambda: _result(handle, method, args))

    def shared(self, handle: DeploymentHandle, method: str, *args: Any) -> SharedResult:
        """Return the method's result as something that other calls take by reference."""
        return SharedResult(self, handle, method, args)

    async def with_shared(self, handle: DeploymentHandle, method: str, first: SharedResult, *args: Any) -> Any:
        """Return the method's result; its first argument is read where it lies, and made again if it was lost."""

        async def attempt() -> Any:
            reference = await first.reference()
            try:
                return await _result(handle, method, (reference, *args))
            except _LOST_OR_REMOTE as raised:
                # the callee or the audio: Ray does not tell which, and making it again is cheap beside either
                if isinstance(translate(raised, handle.deployment_name), ReplicaLost):
                    first.forget(reference)
                raise

        return await self.persist(handle, attempt)

    async def persist(self, handle: DeploymentHandle, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what `attempt()` returns, trying again as long as it may pass; any error of `serve_app.errors`."""
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


class SharedResult:
    """A large result in the object store: made once, read by many, never moved through the caller.

    A failure to make it shows in the calls that take it.
    """

    def __init__(self, calls: Calls, handle: DeploymentHandle, method: str, args: tuple[Any, ...]) -> None:
        self._calls = calls
        self._handle = handle
        self._method = method
        self._args = args
        self._reference: ray.ObjectRef | None = None
        self._making = asyncio.Lock()

    async def reference(self) -> ray.ObjectRef:
        """Return a reference to the result once it is there."""
        async with self._making:
            if self._reference is None:
                self._reference = await self._calls.persist(self._handle, self._make)
            return self._reference

    def forget(self, reference: ray.ObjectRef) -> None:
        """Have the result made again, unless somebody did so since this reference was taken."""
        if self._reference == reference:
            self._reference = None

    async def _make(self) -> ray.ObjectRef:
        response = getattr(self._handle.options(_by_reference=True), self._method).remote(*self._args)
        reference = await response._to_object_ref()
        try:
            while not (await asyncio.to_thread(ray.wait, [reference], timeout=1.0, fetch_local=False))[0]:
                pass
        except asyncio.CancelledError:
            response.cancel()
            raise
        return reference


async def _result(handle: DeploymentHandle, method: str, args: tuple[Any, ...]) -> Any:
    return await getattr(handle, method).remote(*args)
