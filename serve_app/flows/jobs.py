"""`StoredJobs`: jobs for the HTTP layer, and `EventWatcher`: their live events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from serve_app.flows.handles import Placed, require_deployed
from serve_app.flows.media_source import MediaSource
from serve_app.jobs.events import JobNews
from serve_app.jobs.record import ApiKey, Delivery, Job, JobEvent, JobPage, JobRequest, JobStatus, Scope, Visitor
from serve_app.jobs.store import JobStore, Quota
from serve_app.messages import JobKind
from serve_app.services import SubmittedJob
from serve_app.threads import FILES, STORE

logger = logging.getLogger("ray.serve")


class StoredJobs:
    """`services.JobService` (the methods are documented there) over the job store.

    Args:
        store: the job table.
        media: checks addresses of callbacks, and removes the files of deleted jobs.
        max_queued: jobs that may wait; more are refused.
        needed: by kind of job, the deployments without which it can't be done.
        tick_s: how often the table is read for events while a client follows a job.
    """

    def __init__(
        self,
        store: JobStore,
        media: MediaSource,
        max_queued: int,
        *,
        needed: Mapping[JobKind, Sequence[Placed[Any]]] = MappingProxyType({}),
        tick_s: float = 0.5,
    ) -> None:
        self._needed = needed
        self._store = store
        self._media = media
        self._max_queued = max_queued
        self._watcher = EventWatcher(store, tick_s)

    async def submit(
        self,
        request: JobRequest,
        visitor: Visitor | None = None,
        quota: Quota | None = None,
        *,
        key: ApiKey | None = None,
    ) -> SubmittedJob:
        self.require_deployed(request.kind)
        if request.callback is not None:
            await self._media.check_callback_base(request.callback)
        job = await STORE.run(
            self._store.submit, request, max_queued=self._max_queued, visitor=visitor, quota=quota, key=key
        )
        return SubmittedJob(job, await self.estimate_s(job.job_id))

    def require_deployed(self, kind: JobKind) -> None:
        """Raise ModelLoadingError with what to install where no job of this kind can be done."""
        require_deployed(self._needed.get(kind, ()))

    async def get(self, job_id: str) -> Job:
        return await STORE.run(self._store.get, job_id)

    async def status(self, job_id: str) -> JobStatus:
        return await STORE.run(self._store.status, job_id)

    async def steps(self, job_id: str) -> dict[str, Any]:
        """Return the results of the job's finished steps by name; none once it has ended."""
        return await STORE.run(self._store.steps, job_id)

    async def queue_position(self, job_id: str) -> int | None:
        return await STORE.run(self._store.queue_position, job_id)

    async def estimate_s(self, job_id: str) -> float | None:
        return await STORE.run(self._store.estimate_s, job_id)

    async def estimates_s(self, page: Sequence[Job]) -> dict[str, float]:
        return await STORE.run(self._store.estimates_s, page)

    async def page(
        self,
        status: JobStatus | None,
        limit: int,
        cursor: str | None,
        visitor: str | None = None,
        *,
        only_own: bool = False,
        key: ApiKey | None = None,
    ) -> JobPage:
        return await STORE.run(self._store.page, status, limit, cursor, visitor, only_own=only_own, key=key)

    async def require_visible(
        self, job_id: str, visitor: str | None, key: ApiKey | None = None, scope: Scope = Scope.READ
    ) -> None:
        await STORE.run(self._store.require_visible, job_id, visitor, key, scope)

    async def visitor_secret(self) -> str:
        return await STORE.run(self._store.secret, "visitors")

    async def cancel(self, job_id: str) -> Job:
        return await STORE.run(self._store.cancel, job_id)

    async def delete(self, job_id: str) -> None:
        job = await STORE.run(self._store.ended, job_id)
        # first the files: none is left without a job
        await FILES.run(self._media.discard_job, job)
        await STORE.run(self._store.delete, job_id)

    async def events(self, job_id: str, after_seq: int) -> AsyncIterator[JobEvent]:
        if after_seq > 0:
            # a number of another job, or of one whose id was used before, must not hide events
            from_it = (await STORE.run(self._store.events_after, {job_id: after_seq - 1})).get(job_id)
            if from_it is None or not from_it.events or from_it.events[0].seq != after_seq:
                after_seq = 0
        async for event in self._watcher.events(job_id, after_seq):
            yield event

    async def deliveries(self, job_id: str) -> list[Delivery]:
        return await STORE.run(self._store.deliveries, job_id)

    async def replay(self, job_id: str) -> int:
        return await STORE.run(self._store.replay, job_id)


class _Watcher:
    """A client that follows a job."""

    def __init__(self, job_id: str, number: int, after_seq: int) -> None:
        self.job_id = job_id
        self.number = number
        self.after_seq = after_seq
        self.news: asyncio.Queue[JobNews | None] = asyncio.Queue()

    def report(self, news: JobNews) -> None:
        """Queue the events that this client has not got yet."""
        unseen = tuple(event for event in news.events if event.seq > self.after_seq)
        if unseen or news.ended:
            self.after_seq = unseen[-1].seq if unseen else self.after_seq
            self.news.put_nowait(replace(news, events=unseen))


class EventWatcher:
    """Reads the events of all followed jobs from the job table, with one query every `tick_s`, none without clients."""

    def __init__(self, store: JobStore, tick_s: float) -> None:
        self._store = store
        self._tick_s = tick_s
        self._watchers: set[_Watcher] = set()
        self._following: asyncio.Task[None] | None = None

    async def events(self, job_id: str, after_seq: int) -> AsyncIterator[JobEvent]:
        """Yield the job's events with `seq > after_seq` as they are stored, until it has ended; JobNotFound."""
        watcher = _Watcher(job_id, await STORE.run(self._store.number, job_id), after_seq)
        self._watchers.add(watcher)
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        try:
            while (news := await watcher.news.get()) is not None:
                for event in news.events:
                    yield event
                if news.ended:
                    return
        finally:
            self._watchers.discard(watcher)

    async def _follow(self) -> None:
        while self._watchers:
            watchers = list(self._watchers)
            seen: dict[str, int] = {}
            for watcher in watchers:
                seen[watcher.job_id] = min(watcher.after_seq, seen.get(watcher.job_id, watcher.after_seq))
            try:
                news = await STORE.run(self._store.events_after, seen)
            except Exception:
                logger.exception("following jobs' events failed; trying again")
            else:
                for watcher in watchers:
                    of_id = news.get(watcher.job_id)
                    if of_id is not None and of_id.number == watcher.number:
                        watcher.report(of_id)
                    else:  # deleted meanwhile; a new job of its id may be another caller's
                        watcher.news.put_nowait(None)
            await asyncio.sleep(self._tick_s)
