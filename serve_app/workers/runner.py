"""`Runner`: runs jobs of the job store to their ends, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from serve_app.errors import (
    DownloadError,
    JobNotFound,
    LeaseLost,
    NoRoomYet,
    ServeAppError,
    StorageUnavailable,
    storage_fault,
)
from serve_app.flows.media_source import MediaSource
from serve_app.flows.steps import DurableSteps, Steps
from serve_app.jobs.delivery import Courier
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import Job, JobResult
from serve_app.jobs.retry import STORAGE_BACKOFF, job_retry_after_s
from serve_app.jobs.store import JobStore, QueueDepth
from serve_app.messages import JobKind, Locale, error_code, error_message
from serve_app.sentences import Sentence
from serve_app.threads import FILES, LEASES, STORE
from serve_app.workers.breaker import Breaker
from serve_app.workers.options import RunnerOptions

logger = logging.getLogger("ray.serve")

P = ParamSpec("P")
T = TypeVar("T")

JobFlow: TypeAlias = Callable[[Any, Steps], Awaitable[JobResult]]
"""Runs a job's steps, by its request, which is of the flow's own kind, and returns its result."""

_RENEW_AT_MOST_EVERY_S = 2.0
_DEPTH_EVERY_S = 10.0
_MISSED_REPORTS = 3  # after so many a runner is taken for dead
_PURGE_EVERY_S = 600.0
_COURIER_GRACE_S = 5.0
_PROBE_S = 60.0  # a pause is over for others when the job after it is given up so long


class _Ending(enum.Enum):
    """Why a runner stops working on a job before it is done."""

    CANCELLED = "a user cancelled it"
    LOST = "its lease was lost"
    SILENT = "its lease could not be renewed"


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

    def storage_paused(self, is_paused: bool) -> None:
        """Record whether this runner claims nothing because its storage fails."""
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
        locale: language of the notes and failures of a job that names none.
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
        self._breaker = Breaker(clock, chance)
        self._table = Breaker(clock, chance)  # of claims that fail themselves
        self._is_paused = False
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
        with contextlib.suppress(StorageUnavailable):
            await STORE.run(self._note_places, 0.0)

    async def _consume(self) -> None:
        free = asyncio.Semaphore(self._options.jobs_per_replica)
        while True:
            await free.acquire()
            while (wait_s := max(self._breaker.wait_s, self._table.wait_s)) > 0:
                await self._sleep(wait_s)
            claim = None
            claiming = asyncio.ensure_future(STORE.run(self._store.claim, self._owner))
            try:
                claim = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                # the replica is going down, and the thread may just have claimed a job for it
                if (claim := await claiming) is not None:
                    await STORE.run(self._store.release, claim)
                raise
            except StorageUnavailable as error:
                self._table.fault(error)
                await self._report_pause()
                free.release()
                continue
            except Exception:
                logger.exception("claiming a job failed; trying again")
            else:
                if self._table.reason:
                    self._table.ended("")
                    await self._report_pause()
            if claim is None:
                if self._breaker.reason:
                    await self._try_storage()
                free.release()
                # jitter keeps the replicas from asking all at once
                await self._sleep(self._options.poll_interval_s * (0.5 + self._chance()))
                continue
            self._breaker.claimed()
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
                await self._through_outage(self._store.finish_cancel, claim)
                self._metrics.job_ended("cancelled")
                await self._discard(claim.job)
            elif ending is _Ending.SILENT:
                await self._through_outage(self._store.release, claim)
            elif ending is _Ending.LOST:
                await self._discard_claim(claim)
            else:
                await self._settle(claim, work)
        except asyncio.CancelledError:
            # the replica shuts down: no user has cancelled, and no attempt has failed
            lease.cancel()
            await _ended(work)
            with contextlib.suppress(LeaseLost, StorageUnavailable):  # else the lease runs out
                await STORE.run(self._store.release, claim)
            logger.info("job %s: handed back", job_id)
        except LeaseLost:
            logger.warning("job %s: another runner has it now", job_id)
            await self._discard_claim(claim)
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
        fault = None if error is None else storage_fault(error)
        if isinstance(fault, NoRoomYet):
            waited_s = await self._through_outage(self._store.since_start_s, claim)
            if waited_s >= self._options.room_wait_s:
                sentence = Sentence(
                    "After {hours:.0f} h there is still no room for the file: {reason}",
                    hours=waited_s / 3600.0,
                    reason=fault.detail,
                )
                error, fault = DownloadError(sentence), None
        if fault is not None:
            after_s = self._breaker.job_delay_s(job_id, fault)
            logger.warning("job %s: handed back for %.0f s: %s", job_id, after_s, fault.detail)
            if self._breaker.reason:
                await self._report_pause()
            await self._through_outage(self._store.release, claim, after_s=after_s)
            return
        if isinstance(error, LeaseLost):
            raise error
        if self._breaker.reason and error is None:
            self._breaker.ended(job_id)
            await self._report_pause()
        if error is None:
            await self._through_outage(self._store.complete, claim, work.result())
            status = "completed"
        else:
            expected = isinstance(error, ServeAppError)
            logger.warning("job %s: %r", job_id, error, exc_info=None if expected else error)
            request = claim.job.request
            failed = await self._through_outage(
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
            await self._discard(claim.job, keep_published=status == "completed")

    async def _through_outage(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `write(…)`, repeated until the job table is there: what is to be stored must not be lost."""
        num_faults = 0
        while True:
            try:
                return await STORE.run(write, *args, **kwargs)
            except StorageUnavailable:
                num_faults += 1
            await self._sleep(STORAGE_BACKOFF.delay_s(num_faults, self._chance()))

    async def _report_pause(self) -> None:
        """Tell the metrics, the log and the other processes whether this runner claims nothing, and why."""
        reason = self._table.reason or self._breaker.reason
        if bool(reason) != self._is_paused:
            logger.warning("no jobs are claimed: %s", reason) if reason else logger.warning("jobs are claimed again")
        self._is_paused = bool(reason)
        self._metrics.storage_paused(self._is_paused)
        for_s = max(self._breaker.wait_s, self._table.wait_s) + _PROBE_S if reason else 0.0
        with contextlib.suppress(StorageUnavailable):  # readiness asks the job table itself
            await STORE.run(self._store.note_pause, self._owner, reason, for_s)

    async def _try_storage(self) -> None:
        """End the pause where no job is there to show that the storage works again."""
        try:
            if (await STORE.run(self._store.queue_depth)).queued:
                return
            await FILES.run(self._media.check_disk)
            await FILES.run(self._media.check_store)
        except StorageUnavailable as error:
            self._breaker.fault(error)
        else:
            self._breaker.ended("")
        await self._report_pause()

    async def _run_steps(self, claim: Claim) -> JobResult:
        done = await STORE.run(self._store.steps, claim.job.job_id)
        done_seconds = await STORE.run(self._store.step_seconds, claim.job.job_id)
        steps = DurableSteps(self._store, claim, done, done_seconds, self._observe)
        request = claim.job.request
        return await self._flows[request.kind](replace(request, locale=request.locale or self._locale), steps)

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
            except Exception as error:
                known = isinstance(error, StorageUnavailable)
                logger.warning(
                    "job %s: renewing the lease failed: %s", claim.job.job_id, error, exc_info=None if known else error
                )
                if self._clock() - renewed_at > self._options.lease_s:
                    return _Ending.SILENT

    async def _discard(self, job: Job, *, keep_published: bool = False) -> bool:
        """Remove an ended job's files; return whether they are gone. Otherwise they are removed with the record."""
        try:
            await FILES.run(self._media.discard_job, job, keep_published=keep_published)
        except Exception:  # the job's end is stored already
            logger.exception("job %s: its artefacts could not be removed", job.job_id)
            return False
        return True

    async def _discard_claim(self, claim: Claim) -> None:
        """Remove what this runner wrote for a job that it has lost, but for what others read."""
        named = functools.partial(self._store.named_files, claim)
        try:
            await FILES.run(self._media.discard_claim, claim.job.number, claim.fence, named)
        except Exception:
            logger.exception("job %s: its files of a lost claim could not be removed", claim.job.job_id)

    async def _maintain(self) -> None:
        """Report this runner and the queue's depth, and remove jobs whose retention is over, with their files."""
        next_purge = self._clock() + self._chance() * _PURGE_EVERY_S
        while True:
            try:
                await STORE.run(self._note_places, _DEPTH_EVERY_S * _MISSED_REPORTS)
            except Exception:  # estimates then take the jobs in work for all places
                logger.exception("this runner's places could not be stored; trying again")
            await self._sleep(_DEPTH_EVERY_S)
            try:
                self._metrics.queue_depth(await STORE.run(self._store.queue_depth))
                if self._clock() >= next_purge:
                    next_purge = self._clock() + _PURGE_EVERY_S
                    await self._purge()
                    await FILES.run(self._media.sweep, self._retention_s, self._store.known)
            except Exception:
                logger.exception("maintenance failed; trying again")

    def _note_places(self, for_s: float) -> None:
        self._store.note_runner(self._owner, self._options.jobs_per_replica, for_s)

    async def _purge(self) -> None:
        """Remove jobs whose retention is over. A job whose files can't be removed stays for the next time."""
        while expired := await STORE.run(self._store.expired, self._retention_s):
            # first the files, so that none is left without a job
            removed = [job for job in expired if await self._discard(job)]
            for job in removed:
                with contextlib.suppress(JobNotFound):  # another runner was faster
                    await STORE.run(self._store.delete, job.job_id)
            if len(removed) < len(expired):
                return  # the others would be found again at once


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is over, however it ends."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
