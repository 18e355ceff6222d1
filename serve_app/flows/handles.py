"""`Placed` deployments, `Calls` of their methods, fall-back to the CPU, and admission of requests.

The method of a call is that of a Protocol, so that mypy checks the arguments: `await call(placed, Diarizes.diarize,
audio)`.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import ray
from grpc.aio import AioRpcError
from ray.exceptions import (
    ActorUnavailableError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle

from serve_app.errors import (
    GpuMemoryError,
    ModelLoadingError,
    ProcessingError,
    ReplicaDied,
    ReplicaLost,
    ServeAppError,
    StorageUnavailable,
    Unavailable,
    storage_fault,
)
from serve_app.flows.references import until_made
from serve_app.sentences import Sentence

D = TypeVar("D")  # the Protocol of a deployment
P = ParamSpec("P")
T = TypeVar("T")
First = TypeVar("First")
Item = TypeVar("Item")

Health = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns every deployment's state by name."""

# Retry-After of a refused caller: about when a seat is free again. A picture takes well under a second, a recording
# some seconds, a video minutes.
IMAGE_RETRY_AFTER_S = 2.0
RECORDING_RETRY_AFTER_S = 5.0
ANALYSIS_RETRY_AFTER_S = 10.0

_RETRY_AFTER_S = 5.0
_SILENT_RETRY_AFTER_S = 10.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
# What Ray says of an actor that something ended on purpose, or that its node took along: Serve's controller kills the
# replicas of a scale-down and of a rolling update that outlast their grace period, and a drained node its own. A crash
# reads "its worker process has died" with the exit type SYSTEM_ERROR. `ActorDiedError` keeps the text alone.
_ENDED_ON_PURPOSE = (
    "ray.kill",
    "INTENDED_",
    "node has died",
    "node was",
    "owner has died",
    "all references",
    "never ran",
)
# AioRpcError: the connection of a call by gRPC (`_by_reference=False`) broke
_LOST = (RayActorError, ObjectLostError, WorkerCrashedError, OutOfMemoryError, AioRpcError)
_LOST_OR_REMOTE = (*_LOST, RayTaskError)


DeathReport = Callable[[ReplicaDied, str, str | None], Awaitable[None]]
"""Notes that a replica of a deployment died under a step (None: the step in work), and raises the error of a job whose
replicas die again and again."""

DEATHS: ContextVar[DeathReport | None] = ContextVar("DEATHS", default=None)
"""Who counts the deaths under the step in work; None: a caller waits for the answer, and one death is allowed."""


@dataclass(frozen=True, slots=True)
class Placed(Generic[D]):
    """A deployment that implements the Protocol `D`, and where its replicas run.

    Attributes:
        name: of the deployment.
        handle: an Application until Serve has deployed it; None: it is left out of the graph.
        on_gpu: whether its replicas use a GPU.
        missing: what to install where it is left out.
    """

    name: str
    handle: DeploymentHandle[Any] | None
    on_gpu: bool = False
    missing: str | None = None

    def is_allowed(self, enable_gpu: bool) -> bool:
        """Return whether a request may use it."""
        return enable_gpu or not self.on_gpu

    def without_object_store(self) -> Placed[D]:
        """Return it for calls by gRPC, directly from process to process, with at most 4 MiB of arguments."""
        return self if self.handle is None else replace(self, handle=self.handle.options(_by_reference=False))

    def reached(self) -> DeploymentHandle[Any]:
        """Return its handle; ModelLoadingError where its libraries are not installed."""
        if self.handle is None:
            raise ModelLoadingError(self.missing or "")
        return self.handle


def require_deployed(deployments: Iterable[Placed[Any]]) -> None:
    """Raise ModelLoadingError if one of them is left out of the graph."""
    for placed in deployments:
        placed.reached()


def translate(error: BaseException, deployment: str) -> ServeAppError | None:
    """Return our error for an exception of a handle call; None where it is not a failure of the callee.

    A callee's exception arrives as `RayTaskError(TheError)`, whose `str()` holds the whole remote traceback.
    """
    is_remote = isinstance(error, RayTaskError)
    while isinstance(error, RayTaskError):
        error = error.cause
    if isinstance(error, ServeAppError):
        return error
    if _has_crashed(error):
        replica = getattr(error, "actor_id", None) or uuid.uuid4().hex
        return ReplicaDied(_lost(deployment), _RETRY_AFTER_S, replica)
    if isinstance(error, _LOST):
        return ReplicaLost(_lost(deployment), _RETRY_AFTER_S)
    if is_remote and (fault := storage_fault(error)) is not None:
        return fault
    if is_remote:
        kind = type(error).__name__
        return ProcessingError(
            Sentence("{deployment} failed with {kind}; its log has the details", deployment=deployment, kind=kind)
        )
    if isinstance(error, BackPressureError):
        return Unavailable(Sentence("the queue of {deployment} is full", deployment=deployment), _RETRY_AFTER_S)
    if isinstance(error, DeploymentUnavailableError):
        return Unavailable(
            Sentence("{deployment} is not available: it failed to deploy", deployment=deployment), _RETRY_AFTER_S
        )
    if isinstance(error, RequestCancelledError | TaskCancelledError):
        # not cancelled here, which is asyncio.CancelledError: the replica is shutting down
        return ReplicaLost(
            Sentence("{deployment} dropped the call while shutting down", deployment=deployment), _RETRY_AFTER_S
        )
    return None


def _lost(deployment: str) -> Sentence:
    return Sentence("a replica of {deployment} was lost", deployment=deployment)


class Calls:
    """Calls of deployments, repeated while their queue is full or a replica was lost.

    Every call raises errors of `serve_app.errors` instead of Ray's. `patience_s`: how long a call is repeated while the
    queue is full. Of replicas that die under a call, a caller who waits gets one other; a job has `DEATHS`.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s

    async def __call__(
        self, placed: Placed[D], method: Callable[Concatenate[D, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return the method's result."""

        async def attempt() -> T:
            result: T = await _remote(placed.reached(), method).remote(*args, **kwargs)
            return result

        return await self.persist(placed.name, attempt)

    async def last(
        self,
        placed: Placed[D],
        method: Callable[Concatenate[D, P], AsyncIterator[float | T]],
        on_progress: Callable[[float], Awaitable[None]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return the last item of a method that yields its progress before: shares that are done."""

        return await self.persist(placed.name, lambda: _last(placed, method, on_progress, *args, **kwargs))

    def shared(
        self, placed: Placed[D], method: Callable[Concatenate[D, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> SharedResult[T]:
        """Return the method's result, which other calls take by reference."""

        async def make() -> ray.ObjectRef[Any]:
            response = _remote(placed.reached().options(_by_reference=True), method).remote(*args, **kwargs)
            reference: ray.ObjectRef[Any] = await response._to_object_ref()
            try:
                await until_made(reference)
            except asyncio.CancelledError:
                response.cancel()
                raise
            return reference

        return SharedResult(lambda: self.persist(placed.name, make, method.__name__))

    async def with_shared(
        self,
        placed: Placed[D],
        method: Callable[Concatenate[D, First, P], Awaitable[T]],
        first: SharedResult[First],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return the method's result; its first argument is read by reference, and made again if it was lost."""

        async def attempt() -> T:
            async with first.read(placed.name) as reference:
                result: T = await _remote(placed.reached(), method).remote(reference, *args, **kwargs)
                return result

        return await self.persist(placed.name, attempt)

    async def last_with_shared(
        self,
        placed: Placed[D],
        method: Callable[Concatenate[D, First, P], AsyncIterator[float | T]],
        on_progress: Callable[[float], Awaitable[None]],
        first: SharedResult[First],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what `last` does, with the first argument of `with_shared`."""

        async def attempt() -> T:
            async with first.read(placed.name) as reference:
                return await _last(placed, method, on_progress, reference, *args, **kwargs)

        return await self.persist(placed.name, attempt)

    async def persist(self, deployment: str, attempt: Callable[[], Awaitable[T]], step: str | None = None) -> T:
        """Return the result of `attempt()`, repeated while its failure may pass; errors of `serve_app.errors`.

        `step` is what a death under it is counted for; None: the step in work.
        """
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        report = DEATHS.get()
        num_lost = 0
        while True:
            try:
                return await attempt()
            except asyncio.CancelledError:
                raise
            except Exception as raised:
                error = translate(raised, deployment)
                if error is None:
                    raise
                if not isinstance(error, Unavailable) or isinstance(error, StorageUnavailable):
                    raise error from None
                if isinstance(error, ReplicaLost) and report is None:
                    num_lost += 1
                    # also of a call within this one, for its first argument
                    error.was_repeated |= num_lost > 1
                    if error.was_repeated:
                        raise error from None
                if time.monotonic() + pause_s > deadline:
                    raise error from None
            if isinstance(error, ReplicaDied) and report is not None:
                await report(error, deployment, step)
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 (jitter)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


class SharedResult(Generic[T]):
    """A large result in the object store: made once, read by many calls, never moved through the caller.

    `make` returns a reference to it. Its failure is raised by the calls that take the result.
    """

    def __init__(self, make: Callable[[], Awaitable[ray.ObjectRef[Any]]]) -> None:
        self._make = make
        self._reference: ray.ObjectRef[Any] | None = None
        self._making = asyncio.Lock()

    async def reference(self) -> ray.ObjectRef[Any]:
        """Return a reference to the result once it is there."""
        async with self._making:
            if self._reference is None:
                self._reference = await self._make()
            return self._reference

    @asynccontextmanager
    async def read(self, reader: str) -> AsyncIterator[ray.ObjectRef[Any]]:
        """Yield a reference for a call of a deployment; forget it where the call shows that it may be lost."""
        reference = await self.reference()
        try:
            yield reference
        except _LOST_OR_REMOTE as raised:
            # the callee or the audio was lost: Ray does not report which, and decoding again is cheap
            if isinstance(translate(raised, reader), ReplicaLost):
                self.forget(reference)
            raise

    def forget(self, reference: ray.ObjectRef[Any]) -> None:
        """Have the result made again, unless it was since this reference was taken."""
        if self._reference == reference:
            self._reference = None


async def call_every_replica(
    placed: Placed[D],
    method: Callable[Concatenate[D, P], Awaitable[T]],
    timeout_s: float,
    *args: P.args,
    **kwargs: P.kwargs,
) -> list[T]:
    """Return the answer of every running replica, without those that died during the call.

    Raises:
        Unavailable: not all of them answered in time.
    """
    try:
        response = placed.reached().broadcast(method.__name__, *args, **kwargs)
        answers = await response.results_async(timeout_s=max(timeout_s, 0.0), return_exceptions=True)
    except (TimeoutError, DeploymentUnavailableError) as error:
        raise Unavailable(Sentence("{name} does not answer", name=placed.name), _SILENT_RETRY_AFTER_S) from error
    for answer in answers:
        failure = translate(answer, placed.name) if isinstance(answer, BaseException) else None
        if failure is not None and not isinstance(failure, Unavailable):
            raise failure
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def _last(
    placed: Placed[Any],
    method: Callable[..., AsyncIterator[float | T]],
    on_progress: Callable[[float], Awaitable[None]],
    *args: Any,
    **kwargs: Any,
) -> T:
    async for item in _remote(placed.reached().options(stream=True), method).remote(*args, **kwargs):
        if not isinstance(item, float):
            last: T = item
            return last
        await on_progress(item)
    raise ProcessingError(Sentence("{name} ended without a result", name=placed.name))


def _remote(handle: DeploymentHandle[Any], method: Callable[..., Any]) -> Any:
    return getattr(handle, method.__name__)


def _has_crashed(error: BaseException) -> bool:
    """Return whether the process of a replica ended by itself: by its input, by a bug, or for want of memory."""
    if isinstance(error, OutOfMemoryError):
        return True
    if not isinstance(error, RayActorError) or isinstance(error, ActorUnavailableError):
        return False
    if error.preempted or error.actor_init_failed:
        return False
    return not any(words in str(error) for words in _ENDED_ON_PURPOSE)


async def with_fallback(
    candidates: Sequence[Item], attempt: Callable[[Item], Awaitable[T]], what: str, notes: list[str] | None = None
) -> T:
    """Return the result of `attempt` for the first candidate that has enough GPU memory.

    Args:
        candidates: at least one, in order of preference; of several the last one runs on the CPU.
        attempt: calls a candidate; GpuMemoryError of the last one is raised.
        what: names the work in the note.
        notes: gets a note if a candidate ran out of GPU memory.
    """
    *preferred, last = candidates
    for candidate in preferred:
        try:
            return await attempt(candidate)
        except GpuMemoryError:
            if notes is not None:
                notes.append(Sentence("{what} ran out of GPU memory and was repeated on the CPU", what=what))
    return await attempt(last)


def given(**options: T | None) -> dict[str, T]:
    """Return the options that are not None: a replica of an earlier version knows no newer ones."""
    return {name: value for name, value in options.items() if value is not None}


class Seats:
    """Seats for `count` requests at once: `async with seats:` raises Unavailable if none is free.

    Its message names `what`, and `instead`: what a caller can do rather than wait.
    """

    def __init__(self, count: int, what: str, retry_after_s: float, instead: str = "") -> None:
        self._free = count
        self._refusal = (
            Sentence(
                "Too many {what} at once; {instead}, or try again in {retry_after_s:g} s",
                what=what,
                instead=instead,
                retry_after_s=retry_after_s,
            )
            if instead
            else Sentence(
                "Too many {what} at once; try again in {retry_after_s:g} s", what=what, retry_after_s=retry_after_s
            )
        )
        self._retry_after_s = retry_after_s

    async def __aenter__(self) -> None:
        if self._free == 0:
            raise Unavailable(self._refusal, self._retry_after_s)
        self._free -= 1

    async def __aexit__(self, *exception: object) -> None:
        self._free += 1


async def answer_each(
    items: Sequence[Item], answer: Callable[[Item], Awaitable[T]], at_once: int
) -> list[T | Exception]:
    """Return the answer, or the error, of each item of a request, in order; `at_once` are in work at a time."""
    few = asyncio.Semaphore(at_once)

    async def attempt(item: Item) -> T | Exception:
        async with few:
            try:
                return await answer(item)
            except Exception as error:
                return error

    if len(items) == 1:  # as in nearly all requests: without a task
        return [await attempt(items[0])]
    # a group, not gather: a group that is cancelled waits for its tasks, which still read the caller's files
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(item)) for item in items]
    return [task.result() for task in tasks]
