from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serve_app.errors import JobNotFound
from serve_app.flows.jobs import EventWatcher
from serve_app.jobs.record import JobRequest
from serve_app.jobs.store import JobStore
from serve_app.messages import Stage


class CountingStore(JobStore):
    """A real store that counts the watcher's queries."""

    num_queries = 0

    def events_after(self, after):
        self.num_queries += 1
        return super().events_after(after)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    store = CountingStore(f"sqlite:///{tmp_path / 'jobs.sqlite3'}")
    store.create_schema()
    return store


def submit_and_claim(store: JobStore, job_id: str):
    store.submit(JobRequest(job_id, "https://example.com/a.mp4"), max_queued=None)
    return store.claim("runner")


async def collect(watcher: EventWatcher, job_id: str, after_seq: int = 0) -> list[int]:
    return [event.payload["progress"] async for event in watcher.events(job_id, after_seq)]


def test_many_clients_share_one_query_a_tick(store: CountingStore) -> None:
    claim = submit_and_claim(store, "a")

    async def scenario() -> list[list[int]]:
        watcher = EventWatcher(store)
        clients = [asyncio.create_task(collect(watcher, "a")) for _ in range(20)]
        late = asyncio.create_task(collect(watcher, "a", after_seq=1))
        await asyncio.sleep(0)
        await asyncio.to_thread(store.announce, claim, Stage.DOWNLOADED, Stage.DETECTING_SPEECH)
        await asyncio.to_thread(store.complete, claim, {"text": ""})
        return await asyncio.gather(*clients, late)

    *seen, seen_late = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert seen == [[10, 25, 100]] * 20
    assert seen_late == [25, 100]
    assert store.num_queries <= 4


def test_an_unknown_job(store: CountingStore) -> None:
    with pytest.raises(JobNotFound):
        asyncio.run(collect(EventWatcher(store), "nobody"))


def test_a_deleted_job_ends_the_stream(store: CountingStore) -> None:
    claim = submit_and_claim(store, "a")

    async def scenario() -> list[int]:
        watcher = EventWatcher(store)
        client = asyncio.create_task(collect(watcher, "a", after_seq=99))
        await asyncio.sleep(0)
        store.complete(claim, {"text": ""})
        store.delete("a")
        return await client

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == []


def test_without_watchers_nothing_is_asked(store: CountingStore) -> None:
    claim = submit_and_claim(store, "a")
    store.complete(claim, {"text": ""})

    async def scenario() -> int:
        watcher = EventWatcher(store)
        await collect(watcher, "a")
        following = watcher._following
        assert following is not None
        await following
        return store.num_queries

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == 1
