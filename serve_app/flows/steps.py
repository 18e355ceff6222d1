"""`Steps` of a pipeline: `PlainSteps` runs them, `DurableSteps` keeps the results and never repeats a finished step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from pydantic import TypeAdapter

from serve_app.errors import AudioExtractionError, ProcessingError, ReplicaDied, StorageUnavailable
from serve_app.flows.handles import DEATHS
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.store import JobStore
from serve_app.media.artifacts import claim_place
from serve_app.sentences import Sentence
from serve_app.threads import STORE

P = ParamSpec("P")
T = TypeVar("T")

_OUTAGE_S = 60.0  # the job table may be away so long before a finished step's work is given up
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_OTHERS_S = 2.0  # within which the other jobs that a dead replica worked on have noted its death
_TURN_S = 600.0  # the others' steps may last longer
_MOST_ALONE, _MOST_DEATHS = 2, 6


class Steps(Protocol):
    """Runs the steps of a pipeline.

    Attributes:
        seconds: how long each step took, by name.
        is_followed: whether clients see the progress, and when the job should be done.
    """

    seconds: dict[str, float]
    is_followed: bool

    @property
    def place(self) -> str:
        """Folder of the files that this run writes, below `jobs/` and `published/` (`artifacts.claim_place`)."""
        ...

    async def run(
        self, name: str, result_type: type[T], work: Callable[[], Awaitable[T]], announce: Sequence[int] = ()
    ) -> T:
        """Return the result of `work()`, or of an earlier run of the step; report `announce`, in percent, with it."""
        ...

    async def announce(self, *progress: int) -> None:
        """Report that the job has come this far, in percent: values of its kind's stages, or between them."""
        ...

    async def advance(self, stage: int, following: int, share: float) -> None:
        """Report that a share of the work between two stages, in [0, 1], is done."""
        ...

    async def note_sound(self, length_s: float, speech_s: float | None = None) -> None:
        """Report the length of the file's sound, and how much of it is speech."""
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

    place = "direct"  # its callers name folders of their own
    is_followed = False

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

    async def advance(self, stage: int, following: int, share: float) -> None:
        """Report nothing."""

    async def note_sound(self, length_s: float, speech_s: float | None = None) -> None:
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

    is_followed = True

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
        self._has_deaths: set[str] = set()
        self._shown = 0  # of what `advance` stored
        self.seconds: dict[str, float] = {}

    @property
    def place(self) -> str:
        return claim_place(self._claim.job.number, self._claim.fence)

    async def run(
        self, name: str, result_type: type[T], work: Callable[[], Awaitable[T]], announce: Sequence[int] = ()
    ) -> T:
        """Return the step's kept result, or run it and commit its result and `announce` in one transaction."""
        adapter: TypeAdapter[T] = TypeAdapter(result_type)
        if name in self._done:
            self.seconds[name] = self._done_seconds.get(name, 0.0)
            return adapter.validate_python(self._done[name])
        started = time.monotonic()
        with self._counting(name):
            result = await work()
        seconds = time.monotonic() - started
        await self._forget_deaths(name)
        kept = adapter.dump_python(result, mode="json")
        await self._through_outage(
            self._store.commit_step, self._claim, name, kept, seconds=seconds, announce=tuple(announce)
        )
        self.seconds[name] = seconds
        self._on_step(name, seconds)
        return result

    async def announce(self, *progress: int) -> None:
        """Commit progress events; what was reported before is not reported again."""
        await self._forget_deaths("decode")  # which is no step of its own, and is over when something is announced
        await self._through_outage(self._store.announce, self._claim, *progress)

    async def advance(self, stage: int, following: int, share: float) -> None:
        """Store each new percent between two stages. It is no event: callbacks report the stages alone."""
        percent = min(int(stage + share * (following - stage)), following - 1)
        if percent > max(stage, self._shown):
            self._shown = percent
            await self._noted(self._store.advance, percent)

    async def note_sound(self, length_s: float, speech_s: float | None = None) -> None:
        """Store what estimates are made of."""
        await self._noted(self._store.note_sound, length_s, speech_s)

    async def _noted(self, write: Callable[Concatenate[Claim, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Store what no result needs: a job goes on without it."""
        with suppress(StorageUnavailable):
            await STORE.run(write, self._claim, *args, **kwargs)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Do what `Steps.timed` does; deaths of replicas within the block count for `name`."""
        with self._counting(name), super().timed(name):
            yield

    @contextmanager
    def _counting(self, name: str) -> Iterator[None]:
        async def report(death: ReplicaDied, deployment: str, step: str | None) -> None:
            await self._died(death, deployment, step or name)

        token = DEATHS.set(report)
        try:
            yield
        finally:
            DEATHS.reset(token)

    async def _forget_deaths(self, step: str) -> None:
        if step in self._has_deaths:
            self._has_deaths.discard(step)
            await self._through_outage(self._store.forget_deaths, self._claim, step)

    async def _died(self, death: ReplicaDied, deployment: str, step: str) -> None:
        """Count a replica that died under a step; end the job whose input kills replicas, else wait for its turn.

        Other jobs lose their calls with the same replica, and nobody knows whose input was to blame. So they repeat
        their steps one at a time, and the job ends whose second replica, or a later one, died with no other job on it.
        Where each has company, which jobs that come meanwhile are, the job ends at its sixth: files that kill are rare,
        and no job has five such neighbours.
        """
        self._has_deaths.add(step)
        await self._through_outage(self._store.record_death, self._claim, step, death.replica)
        await asyncio.sleep(_OTHERS_S)
        deaths = await self._through_outage(self._store.count_deaths, self._claim, step, death.replica)
        if deaths.num_deaths >= (_MOST_ALONE if deaths.was_alone else _MOST_DEATHS):
            kind = AudioExtractionError if step == "decode" else ProcessingError
            raise kind(
                Sentence(
                    "step {step}: the file was in work when {num} replicas of {deployment} died; it is not tried again",
                    step=step,
                    num=deaths.num_deaths,
                    deployment=deployment,
                )
            )
        deadline = time.monotonic() + _TURN_S
        while time.monotonic() < deadline:
            if await self._through_outage(self._store.may_repeat, self._claim, step):
                return
            await asyncio.sleep(_OTHERS_S)

    async def _through_outage(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `write(…)`, repeated while the job table is away: finished work must not be lost by a restart."""
        deadline = time.monotonic() + _OUTAGE_S
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await STORE.run(write, *args, **kwargs)
            except StorageUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
