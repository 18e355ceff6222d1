"""`Runner`: runs jobs of the job store to their ends, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from serve_app.errors import JobNotFound, LeaseLost, ServeAppError
from serve_app.flows.media_source import MediaSource
from serve_app.flows.steps import DurableSteps, Steps
from serve_app.jobs.delivery import Courier
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import JobResult
from serve_app.jobs.retry import job_retry_after_s
from serve_app.jobs.store import JobStore, QueueDepth
from serve_app.messages import JobKind, Locale, error_code, error_message
from serve_app.threads import FILES, LEASES, STORE
from serve_app.workers.options import RunnerOptions

logger = logging.getLogger("ray.serve")

JobFlow: TypeAlias = Callable[[Any, Steps], Awaitable[JobResult]]
"""Runs a job's steps, by its request, which is of the flow's own kind, and returns its result."""

_RENEW_AT_MOST_EVERY_S = 2.0
_DEPTH_EVERY_S = 10.0
_PURGE_EVERY_S = 600.0
_COURIER_GRACE_S = 5.0


class _Ending(enum.Enum):
    """Why a runner stops working on a job before it is done."""

    CANCELLED = "a user cancelled it"
    LOST = "its lease was lost"


class RunnerMetrics(Protocol):
    """Takes the runner's measurements."""

    def job_ended(self, status: str) -> None:
        """Count a job that this runner ended."""
        ...

    def step_finished(self, step: str, seconds: float) -> None:
        """Record a step's duration, under its name without the piece."""
        ...

    def queue_depth(self, depth: QueueDepth) -> None:
        """Record the number of jobs in the table."""
        ...


class Runner:
    """Claims jobs, runs their flows in durable steps, stores their results, and runs the courier of their callbacks.

    Args:
        store: the job table, which several runners share.
        flows: the work of one job, by its kind: it gets the request and the steps.
        courier: delivers the callbacks; runs and stops with this runner.
        media: removes the files of ended jobs.
        options: of this runner.
        metrics: takes the measurements.
        owner: this runner's name in the table.
        locale: language of a failed job's message.
        retention_s: how long an ended job is kept.
        clock: returns monotonic seconds.
        sleep: waits for some seconds.
        chance: returns numbers in [0, 1); it spreads the runners' polls, purges and retries.
    """

    def __init__(
        self,
        store: JobStore,
        flows: Mapping[JobKind, JobFlow],
        courier: Courier,
        media: MediaSource,
        options: RunnerOptions,
        metrics: RunnerMetrics,
        *,
        owner: str,
        locale: Locale,
        retention_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._flows = flows
        self._courier = courier
        self._media = media
        self._options = options
        self._metrics = metrics
        self._owner = owner
        self._locale = locale
        self._retention_s = retention_s
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._stop = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the loops in the running event loop."""
        self._loops = [
            asyncio.create_task(self._consume(), name="consume"),
            asyncio.create_task(self._courier.run(self._stop), name="courier"),
            asyncio.create_task(self._maintain(), name="maintain"),
        ]
        logger.info("runner %s takes jobs", self._owner)

    def check_health(self) -> None:
        """Raise if a loop has ended before `stop` was called."""
        for loop in self._loops:
            if loop.done() and not self._stop.is_set():
                raise RuntimeError(f"the {loop.get_name()} loop of the runner has ended")

    async def stop(self) -> None:
        """Hand all jobs back to other runners."""
        self._stop.set()  # the courier gives back what it holds by itself
        consume, courier, maintain = self._loops
        consume.cancel()
        maintain.cancel()
        await _ended(consume)  # it starts no job after this
        for job in self._jobs:
            job.cancel()
        await asyncio.wait({courier, maintain, *self._jobs}, timeout=_COURIER_GRACE_S)
        await asyncio.gather(*(_ended(task) for task in (courier, maintain, *self._jobs)))

    async def _consume(self) -> None:
        free = asyncio.Semaphore(self._options.jobs_per_replica)
        while True:
            await free.acquire()
            claim = None
            claiming = asyncio.ensure_future(STORE.run(self._store.claim, self._owner))
            try:
                claim = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                # the replica is going down, and the thread may just have claimed a job for it
                if (claim := await claiming) is not None:
                    await STORE.run(self._store.release, claim)
                raise
            except Exception:
                logger.exception("claiming a job failed; trying again")
            if claim is None:
                free.release()
                # jitter keeps the replicas from asking all at once
                await self._sleep(self._options.poll_interval_s * (0.5 + self._chance()))
                continue
            task = asyncio.create_task(self._work_on(claim), name=f"job {claim.job.job_id}")
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)
            task.add_done_callback(lambda task: free.release())

    async def _work_on(self, claim: Claim) -> None:
        """Bring one claimed job as far as possible; never raises."""
        job_id = claim.job.job_id
        logger.info("job %s: claimed (fence %d, attempt %d)", job_id, claim.fence, claim.job.attempts + 1)
        work = asyncio.create_task(self._run_steps(claim))
        lease = asyncio.create_task(self._keep_lease(claim))
        try:
            await asyncio.wait({work, lease}, return_when=asyncio.FIRST_COMPLETED)
            ending = None if work.done() else lease.result()
            lease.cancel()
            if ending is not None:
                await _ended(work)
                logger.info("job %s: dropped: %s", job_id, ending.value)
            if ending is _Ending.CANCELLED:
                await STORE.run(self._store.finish_cancel, claim)
                self._metrics.job_ended("cancelled")
                await self._discard(job_id)
            elif ending is None:
                await self._settle(claim, work)
        except asyncio.CancelledError:
            # the replica shuts down: no user has cancelled, and no attempt has failed
            lease.cancel()
            await _ended(work)
            with contextlib.suppress(LeaseLost):
                await STORE.run(self._store.release, claim)
            logger.info("job %s: handed back", job_id)
        except LeaseLost:
            logger.warning("job %s: another runner has it now", job_id)
        except Exception:
            # the lease will run out, and another runner resume after the last finished step
            logger.exception("job %s: its end could not be stored", job_id)
        finally:
            work.cancel()
            lease.cancel()
            self._courier.wake()

    async def _settle(self, claim: Claim, work: asyncio.Task[JobResult]) -> None:
        """Store the result of the work, or its failure."""
        job_id = claim.job.job_id
        error = work.exception()
        if error is None:
            await STORE.run(self._store.complete, claim, work.result())
            status = "completed"
        elif isinstance(error, LeaseLost):
            raise error
        else:
            expected = isinstance(error, ServeAppError)
            logger.warning("job %s: %r", job_id, error, exc_info=None if expected else error)
            request = claim.job.request
            failed = await STORE.run(
                self._store.fail,
                claim,
                error_code(error),
                error_message(error, request.locale or self._locale, request.kind),
                retry_after_s=job_retry_after_s(error, claim.job.attempts, self._chance()),
            )
            status = failed.status.value
        logger.info("job %s: %s", job_id, status)
        if status != "queued":
            self._metrics.job_ended(status)
            await self._discard(job_id, keep_published=status == "completed")

    async def _run_steps(self, claim: Claim) -> JobResult:
        done = await STORE.run(self._store.steps, claim.job.job_id)
        done_seconds = await STORE.run(self._store.step_seconds, claim.job.job_id)
        steps = DurableSteps(self._store, claim, done, done_seconds, self._observe)
        return await self._flows[claim.job.request.kind](claim.job.request, steps)

    def _observe(self, step: str, seconds: float) -> None:
        self._metrics.step_finished(step.partition("/")[0], seconds)

    async def _keep_lease(self, claim: Claim) -> _Ending:
        """Renew the lease until the job must be dropped; return why."""
        every_s = min(self._options.lease_s / 3, _RENEW_AT_MOST_EVERY_S)
        renewed_at = self._clock()
        while True:
            await self._sleep(every_s)
            try:
                if await LEASES.run(self._store.renew, claim):
                    return _Ending.CANCELLED
                renewed_at = self._clock()
            except LeaseLost:
                return _Ending.LOST
            except Exception:
                logger.exception("job %s: renewing the lease failed", claim.job.job_id)
                if self._clock() - renewed_at > self._options.lease_s:
                    return _Ending.LOST

    async def _discard(self, job_id: str, *, keep_published: bool = False) -> bool:
        """Remove an ended job's files; return whether they are gone. Otherwise they are removed with the record."""
        try:
            await FILES.run(self._media.discard_job, job_id, keep_published=keep_published)
        except Exception:  # object stores raise many kinds; the job's end is stored already
            logger.exception("job %s: its artefacts could not be removed", job_id)
            return False
        return True

    async def _maintain(self) -> None:
        """Report the queue's depth, and remove jobs whose retention is over, with their files."""
        next_purge = self._clock() + self._chance() * _PURGE_EVERY_S
        while True:
            await self._sleep(_DEPTH_EVERY_S)
            try:
                self._metrics.queue_depth(await STORE.run(self._store.queue_depth))
                if self._clock() >= next_purge:
                    next_purge = self._clock() + _PURGE_EVERY_S
                    await self._purge()
                    await FILES.run(self._media.sweep, self._retention_s, self._store.ids)
            except Exception:
                logger.exception("maintenance failed; trying again")

    async def _purge(self) -> None:
        """Remove jobs whose retention is over. A job whose files can't be removed stays for the next time."""
        while expired := await STORE.run(self._store.expired, self._retention_s):
            # first the files, so that none is left without a job
            removed = [job_id for job_id in expired if await self._discard(job_id)]
            for job_id in removed:
                with contextlib.suppress(JobNotFound):  # another runner was faster
                    await STORE.run(self._store.delete, job_id)
            if len(removed) < len(expired):
                return  # the others would be found again at once


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is over, however it ends."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
