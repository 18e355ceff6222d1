"""`Steps` of a pipeline: `PlainSteps` runs them, `DurableSteps` keeps the results and never repeats a finished step."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from pydantic import TypeAdapter

from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.store import JobStore
from serve_app.threads import STORE

T = TypeVar("T")


class Steps(Protocol):
    """Runs the steps of a pipeline.

    Attributes:
        seconds: how long each step took, by name.
    """

    seconds: dict[str, float]

    async def run(
        self, name: str, result_type: type[T], work: Callable[[], Awaitable[T]], announce: Sequence[int] = ()
    ) -> T:
        """Return the result of `work()`, or of an earlier run of the step; report `announce`, in percent, with it."""
        ...

    async def announce(self, *progress: int) -> None:
        """Report that the job has come this far, in percent: values of its kind's stages, or between them."""
        ...

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Store the duration of the block as the seconds of `name`, in place of its sub-steps (`name/...`)."""
        started = time.monotonic()
        yield
        for part in [part for part in self.seconds if part.startswith(f"{name}/")]:
            del self.seconds[part]
        self.seconds[name] = time.monotonic() - started


class PlainSteps(Steps):
    """Runs each step and reports nothing: for a caller who waits for the answer."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    async def run(
        self, name: str, result_type: type[T], work: Callable[[], Awaitable[T]], announce: Sequence[int] = ()
    ) -> T:
        """Return the result of `work()`."""
        started = time.monotonic()
        result = await work()
        self.seconds[name] = time.monotonic() - started
        return result

    async def announce(self, *progress: int) -> None:
        """Report nothing."""


class DurableSteps(Steps):
    """Keeps each step's result, under its name, in the job store.

    Args:
        store: keeps the results.
        claim: on the job; LeaseLost is raised once it is lost.
        done: results of the steps that an earlier runner finished, by name (`JobStore.steps`).
        done_seconds: their durations (`JobStore.step_seconds`).
        on_step: called with the name and the seconds of each step that was run (metrics).
    """

    def __init__(
        self,
        store: JobStore,
        claim: Claim,
        done: dict[str, object],
        done_seconds: dict[str, float],
        on_step: Callable[[str, float], None] = lambda name, seconds: None,
    ) -> None:
        self._store = store
        self._claim = claim
        self._done = done
        self._done_seconds = done_seconds
        self._on_step = on_step
        self.seconds: dict[str, float] = {}

    async def run(
        self, name: str, result_type: type[T], work: Callable[[], Awaitable[T]], announce: Sequence[int] = ()
    ) -> T:
        """Return the step's kept result, or run it and commit its result and `announce` in one transaction."""
        adapter: TypeAdapter[T] = TypeAdapter(result_type)
        if name in self._done:
            self.seconds[name] = self._done_seconds.get(name, 0.0)
            return adapter.validate_python(self._done[name])
        started = time.monotonic()
        result = await work()
        seconds = time.monotonic() - started
        kept = adapter.dump_python(result, mode="json")
        await STORE.run(self._store.commit_step, self._claim, name, kept, seconds=seconds, announce=tuple(announce))
        self.seconds[name] = seconds
        self._on_step(name, seconds)
        return result

    async def announce(self, *progress: int) -> None:
        """Commit progress events; what was reported before is not reported again."""
        await STORE.run(self._store.announce, self._claim, *progress)
