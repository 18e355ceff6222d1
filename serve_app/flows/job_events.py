"""Live events of jobs: one query a tick, however many clients watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from serve_app.jobs.events import JobNews
from serve_app.jobs.record import JobEvent
from serve_app.jobs.store import JobStore

logger = logging.getLogger("ray.serve")

_TICK_S = 0.5


class _Watcher:
    """One client that watches one job."""

    def __init__(self, job_id: str, after_seq: int) -> None:
        self.job_id = job_id
        self.after_seq = after_seq
        self.news: asyncio.Queue[JobNews | None] = asyncio.Queue()

    def tell(self, news: JobNews) -> None:
        """Pass on what this client has not seen yet."""
        unseen = tuple(event for event in news.events if event.seq > self.after_seq)
        if unseen or news.ended:
            self.after_seq = unseen[-1].seq if unseen else self.after_seq
            self.news.put_nowait(JobNews(unseen, news.ended))


class EventWatcher:
    """Follows the jobs that somebody watches, all with one query a tick; rests while nobody does."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._watchers: set[_Watcher] = set()
        self._following: asyncio.Task[None] | None = None

    async def events(self, job_id: str, after_seq: int) -> AsyncIterator[JobEvent]:
        """Yield the job's events with `seq > after_seq` as they come, until it has ended; JobNotFound."""
        await asyncio.to_thread(self._store.get, job_id)
        watcher = _Watcher(job_id, after_seq)
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
                news = await asyncio.to_thread(self._store.events_after, seen)
            except Exception:
                logger.exception("following jobs' events failed; trying again")
            else:
                for watcher in watchers:
                    if watcher.job_id in news:
                        watcher.tell(news[watcher.job_id])
                    else:  # deleted meanwhile
                        watcher.news.put_nowait(None)
            await asyncio.sleep(_TICK_S)
