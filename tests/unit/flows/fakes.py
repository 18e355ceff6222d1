"""Plain objects in the place of deployments: below `Calls`, where Ray's handles are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from serve_app.flows.handles import Placed


class FakeResponse:
    """A call under way, and the reference to its result."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.task = asyncio.ensure_future(work)

    def __await__(self) -> Any:
        return self.task.__await__()

    def cancel(self) -> None:
        self.task.cancel()

    async def _to_object_ref(self) -> FakeResponse:
        return self


class FakeMethod:
    """A method of a handle."""

    def __init__(self, handle: FakeHandle, name: str) -> None:
        self._handle, self._name = handle, name

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        if self._handle.stream:
            return self._stream(args, kwargs)
        return FakeResponse(self._call(args, kwargs))

    async def _stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        given = [await asyncio.shield(each.task) if isinstance(each, FakeResponse) else each for each in args]
        try:
            async for item in getattr(self._handle.deployment, self._name)(*given, **kwargs):
                yield item
        except (RayError, RayServeException):
            raise
        except Exception as error:  # as Ray does it
            raise RayTaskError(self._name, "remote traceback", error).as_instanceof_cause() from None

    async def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [await asyncio.shield(each.task) if isinstance(each, FakeResponse) else each for each in args]
        try:
            return await getattr(self._handle.deployment, self._name)(*given, **kwargs)
        except (RayError, RayServeException):
            raise
        except Exception as error:  # as Ray does it
            raise RayTaskError(self._name, "remote traceback", error).as_instanceof_cause() from None


class FakeHandle:
    """A handle of a deployment that is a plain object with coroutine methods."""

    def __init__(self, deployment: Any, by_reference: bool | None = None, stream: bool = False) -> None:
        self.deployment = deployment
        self.by_reference = by_reference
        self.stream = stream

    def options(self, *, _by_reference: bool | None = None, stream: bool = False) -> FakeHandle:
        return FakeHandle(self.deployment, _by_reference, stream)

    def __getattr__(self, method: str) -> FakeMethod:
        if hasattr(self.deployment, "by_reference"):
            self.deployment.by_reference.append(self.by_reference)
        return FakeMethod(self, method)


def placed(name: str, deployment: Any, on_gpu: bool = False) -> Placed[Any]:
    """Return a deployment whose replica is a plain object."""
    return Placed(name, FakeHandle(deployment), on_gpu)  # type: ignore[arg-type]


def over_a_handle(cause: Exception) -> RayTaskError:
    """Return what Ray makes of an exception that a replica raised."""
    return RayTaskError("Diarizer.diarize", "remote traceback with /secret/path", cause).as_instanceof_cause()
