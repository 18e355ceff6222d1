"""Deployment: consumer of the durable job queue, and sender of its callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import random
import socket
import time
import uuid
from typing import Any

from ray import serve
from ray.util import metrics

from serve_app.analysis.result import AnalysisResult
from serve_app.deployments.replica.process import join_serve_log
from serve_app.errors import LeaseLost, ServeAppError
from serve_app.flows.deployments import Deployments
from serve_app.flows.health import GraphHealth
from serve_app.flows.media_source import MediaSource
from serve_app.flows.steps import DurableSteps
from serve_app.flows.video import VideoPipeline
from serve_app.jobs.delivery import Courier
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.retry import job_retry_after_s
from serve_app.jobs.store import JobStore
from serve_app.media.artifacts import job_key
from serve_app.messages import error_code, error_message
from serve_app.services import AnalysisRequest
from serve_app.settings import Settings
from serve_app.workers.options import RunnerOptions

logger = logging.getLogger("ray.serve")

# A full queue or a lost replica is waited out: the job has no caller who would try again.
_PATIENCE_S = 600.0
_RENEW_AT_MOST_EVERY_S = 2.0
_MAINTENANCE_EVERY_S = 600.0
_COURIER_GRACE_S = 5.0


class _Ending(enum.Enum):
    """Why a runner stops working on a job before it is done."""

    CANCELLED = "a user cancelled it"
    LOST = "its lease was lost"


@serve.deployment(name="JobRunner")
class JobRunner:
    """Claims jobs from the store, runs the video DAG with durable steps, and delivers the callbacks.

    It takes no requests: its work comes from the job table, which several replicas share. Serve therefore sees
    no ongoing request when it stops a replica; jobs in work are handed back then, without counting an attempt.

    Args:
        settings: of the whole graph.
        options: how one replica works.
        deployments: of the graph.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it: the loops start in the replica's own event loop
        self,
        settings: Settings,
        options: RunnerOptions,
        deployments: Deployments,
    ) -> None:
        join_serve_log()
        self._settings = settings
        self._options = options
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._store = JobStore(
            settings.database_url.get_secret_value(),
            lease_s=options.lease_s,
            max_attempts=options.max_attempts,
            locale=settings.locale,
        )
        await asyncio.to_thread(self._store.create_schema)
        self._media = MediaSource(settings)
        health = GraphHealth(serve.get_replica_context().app_name, deployments.names())
        self._pipeline = VideoPipeline(deployments.video, self._media, _PATIENCE_S, health.deployments)
        self._client = self._media.callback_client()
        self._courier = Courier(
            self._store, self._client, secrets=" ".join(settings.webhook_secret_values()), owner=self._owner
        )
        self._stop = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()
        self._jobs_ended = metrics.Counter(
            "serve_app_jobs_ended", "Jobs that this runner brought to an end", tag_keys=("status",)
        )
        self._stage_seconds = metrics.Histogram(
            "serve_app_stage_seconds",
            "Seconds of each finished stage",
            boundaries=[0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800],
            tag_keys=("stage",),
        )
        self._queue_gauge = metrics.Gauge("serve_app_jobs", "Jobs in the table", tag_keys=("status",))
        self._loops = [
            asyncio.create_task(self._consume(), name="consume"),
            asyncio.create_task(self._courier.run(self._stop), name="courier"),
            asyncio.create_task(self._maintain(), name="maintain"),
        ]
        logger.info("runner %s takes jobs", self._owner)

    def check_health(self) -> None:
        """Raise if one of the runner's loops has ended: Serve then replaces the replica."""
        for loop in self._loops:
            if loop.done() and not self._stop.is_set():
                raise RuntimeError(f"the {loop.get_name()} loop of the runner has ended")

    async def __del__(self) -> None:
        """Hand all jobs back, so that another runner goes on with them."""
        if not hasattr(self, "_loops"):
            return
        self._stop.set()  # the courier gives back what it holds by itself
        consume, courier, maintain = self._loops
        consume.cancel()
        maintain.cancel()
        await _ended(consume)  # it starts no job after this
        for job in self._jobs:
            job.cancel()
        await asyncio.wait({courier, maintain, *self._jobs}, timeout=_COURIER_GRACE_S)
        await asyncio.gather(*(_ended(task) for task in (courier, maintain, *self._jobs)))
        await self._client.aclose()
        await asyncio.to_thread(self._store.close)

    async def _consume(self) -> None:
        free = asyncio.Semaphore(self._options.jobs_per_replica)
        while True:
            await free.acquire()
            claim = None
            claiming = asyncio.ensure_future(asyncio.to_thread(self._store.claim, self._owner))
            try:
                claim = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                # the replica is going down, and the thread may just have claimed a job for it
                if (claim := await claiming) is not None:
                    await asyncio.to_thread(self._store.release, claim)
                raise
            except Exception:
                logger.exception("claiming a job failed; trying again")
            if claim is None:
                free.release()
                # jitter keeps the replicas from asking all at once
                await asyncio.sleep(self._options.poll_interval_s * random.uniform(0.5, 1.5))  # noqa: S311
                continue
            task = asyncio.create_task(self._work_on(claim), name=f"job {claim.job.job_id}")
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)
            task.add_done_callback(lambda task: free.release())

    async def _work_on(self, claim: Claim) -> None:
        """Bring one claimed job as far as possible; never raises."""
        job_id = claim.job.job_id
        logger.info("job %s: claimed (fence %d, attempt %d)", job_id, claim.fence, claim.job.attempts + 1)
        work = asyncio.create_task(self._analyze(claim))
        lease = asyncio.create_task(self._keep_lease(claim))
        try:
            await asyncio.wait({work, lease}, return_when=asyncio.FIRST_COMPLETED)
            ending = None if work.done() else lease.result()
            lease.cancel()
            if ending is not None:
                await _ended(work)
                logger.info("job %s: dropped: %s", job_id, ending.value)
            if ending is _Ending.CANCELLED:
                await asyncio.to_thread(self._store.finish_cancel, claim)
                self._jobs_ended.inc(tags={"status": "cancelled"})
                await self._discard(job_id)
            elif ending is None:
                await self._settle(claim, work)
        except asyncio.CancelledError:
            # the replica is going down: this is no user's cancel and no failed attempt
            lease.cancel()
            await _ended(work)
            with contextlib.suppress(LeaseLost):
                await asyncio.to_thread(self._store.release, claim)
            logger.info("job %s: handed back", job_id)
        except LeaseLost:
            logger.warning("job %s: another runner has it now", job_id)
        except Exception:
            # the lease runs out and another runner resumes after the last finished step
            logger.exception("job %s: its end could not be stored", job_id)
        finally:
            work.cancel()
            lease.cancel()
            self._courier.wake()

    async def _settle(self, claim: Claim, work: asyncio.Task[AnalysisResult]) -> None:
        """Store how the work ended."""
        job_id = claim.job.job_id
        error = work.exception()
        if error is None:
            await asyncio.to_thread(self._store.complete, claim, work.result())
            status = "completed"
        elif isinstance(error, LeaseLost):
            raise error
        else:
            expected = isinstance(error, ServeAppError)
            logger.warning("job %s: %r", job_id, error, exc_info=None if expected else error)
            failed = await asyncio.to_thread(
                self._store.fail,
                claim,
                error_code(error),
                error_message(error, self._settings.locale),
                retry_after_s=job_retry_after_s(error, claim.job.attempts, random.random()),  # noqa: S311 (jitter)
            )
            status = failed.status.value
        logger.info("job %s: %s", job_id, status)
        if status != "queued":
            self._jobs_ended.inc(tags={"status": status})
            await self._discard(job_id)

    async def _analyze(self, claim: Claim) -> AnalysisResult:
        done = await asyncio.to_thread(self._store.steps, claim.job.job_id)
        done_seconds = await asyncio.to_thread(self._store.step_seconds, claim.job.job_id)
        steps = DurableSteps(self._store, claim, done, done_seconds, self._observe)
        job = claim.job.request
        request = AnalysisRequest(job.video_url, **job.options())
        return await self._pipeline.analyze(request, job_key(claim.job.job_id), steps)

    def _observe(self, step: str, seconds: float) -> None:
        self._stage_seconds.observe(seconds, tags={"stage": step.partition("/")[0]})

    async def _keep_lease(self, claim: Claim) -> _Ending:
        """Renew the lease until the job must be dropped; return why."""
        every_s = min(self._options.lease_s / 3, _RENEW_AT_MOST_EVERY_S)
        renewed_at = time.monotonic()
        while True:
            await asyncio.sleep(every_s)
            try:
                if await asyncio.to_thread(self._store.renew, claim):
                    return _Ending.CANCELLED
                renewed_at = time.monotonic()
            except LeaseLost:
                return _Ending.LOST
            except Exception:
                logger.exception("job %s: renewing the lease failed", claim.job.job_id)
                if time.monotonic() - renewed_at > self._options.lease_s:
                    return _Ending.LOST

    async def _discard(self, job_id: str) -> None:
        """Remove an ended job's artefacts; what a fault leaves behind goes when the record does."""
        try:
            await asyncio.to_thread(self._media.discard, job_key(job_id))
        except Exception:  # object stores raise their own kinds; the job's end is stored already
            logger.exception("job %s: its artefacts could not be removed", job_id)

    async def _maintain(self) -> None:
        """Report the queue's depth, and remove jobs whose retention is over, with what is left of them."""
        next_purge = time.monotonic() + random.uniform(0, _MAINTENANCE_EVERY_S)  # noqa: S311
        while True:
            await asyncio.sleep(10.0)
            try:
                depth = await asyncio.to_thread(self._store.queue_depth)
                self._queue_gauge.set(depth.queued, tags={"status": "queued"})
                self._queue_gauge.set(depth.running, tags={"status": "processing"})
                if time.monotonic() >= next_purge:
                    next_purge = time.monotonic() + _MAINTENANCE_EVERY_S
                    while purged := await asyncio.to_thread(self._store.purge, self._settings.retention_s):
                        for job_id in purged:
                            await self._discard(job_id)
                    await asyncio.to_thread(self._media.sweep, self._settings.retention_s)
            except Exception:
                logger.exception("maintenance failed; trying again")


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is over, however it ends."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
