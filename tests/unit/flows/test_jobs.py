from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from serve_app.errors import CallbackRefused, JobConflict, JobNotFound, Overloaded
from serve_app.flows.jobs import EventWatcher, StoredJobs
from serve_app.jobs.events import JobNews
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import DeliveryStatus, Job, JobStatus, VideoRequest
from serve_app.jobs.store import JobStore
from serve_app.messages import Stage
from tests.job_tables import make_job_table

TICK_S = 0.005


class CountingStore(JobStore):
    """A real store that counts the watcher's queries, and fails as often as a test says."""

    num_queries = 0
    num_faults = 0

    def events_after(self, after: Mapping[str, int]) -> dict[str, JobNews]:
        self.num_queries += 1
        if self.num_faults:
            self.num_faults -= 1
            raise ConnectionError("the database restarts")
        return super().events_after(after)


class Media:
    """Refuses one callback base, and notes whose files were removed."""

    def __init__(self) -> None:
        self.discarded: list[str] = []
        self.error: Exception | None = None

    async def check_callback_base(self, url: str) -> None:
        if url == "https://10.0.0.1":
            raise CallbackRefused("a private address")

    def discard_job(self, job: Job) -> None:
        if self.error is not None:
            raise self.error
        self.discarded.append(job.job_id)


@pytest.fixture
def store() -> CountingStore:
    return make_job_table(CountingStore)[0]


@pytest.fixture
def media() -> Media:
    return Media()


@pytest.fixture
def jobs(store: CountingStore, media: Media) -> StoredJobs:
    return StoredJobs(store, media, 2, tick_s=TICK_S)  # type: ignore[arg-type]


def submit_and_claim(store: JobStore, job_id: str) -> Claim:
    store.submit(request(job_id), max_queued=None)
    claim = store.claim("runner")
    assert claim is not None
    return claim


def request(job_id: str, **fields: str) -> VideoRequest:
    return VideoRequest(job_id=job_id, video_url="https://example.com/a.mp4", **fields)  # type: ignore[arg-type]


async def collect(watcher: EventWatcher, job_id: str, after_seq: int = 0) -> list[int]:
    return [event.payload["progress"] async for event in watcher.events(job_id, after_seq)]


def test_many_clients_share_one_query_a_tick(store: CountingStore) -> None:
    claim = submit_and_claim(store, "a")

    async def scenario() -> list[list[int]]:
        watcher = EventWatcher(store, 0.5)
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
        asyncio.run(collect(EventWatcher(store, TICK_S), "nobody"))


def test_a_deleted_job_ends_the_stream(store: CountingStore) -> None:
    claim = submit_and_claim(store, "a")

    async def scenario() -> list[int]:
        watcher = EventWatcher(store, TICK_S)
        client = asyncio.create_task(collect(watcher, "a", after_seq=99))
        while not store.num_queries:  # until it is followed
            await asyncio.sleep(0.001)
        store.complete(claim, {"text": ""})
        store.delete("a")
        return await client

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == []


def test_a_stream_does_not_go_on_with_a_new_job_of_the_same_id(store: CountingStore) -> None:
    """It may be another key's: who may follow was checked for the first one."""

    async def follow() -> list[int]:
        watcher = EventWatcher(store, 0.5)
        following = asyncio.create_task(collect(watcher, "a"))
        while not store.num_queries:
            await asyncio.sleep(TICK_S)
        store.cancel("a")
        store.delete("a")
        store.submit(VideoRequest(job_id="a", video_url="https://example.com/others.mp4"), max_queued=None)
        claim = store.claim("runner")
        assert claim is not None
        store.complete(claim, {"text": "another's"})
        return await asyncio.wait_for(following, 20)

    store.submit(VideoRequest(job_id="a", video_url="https://example.com/a.mp4"), max_queued=None)
    assert asyncio.run(follow()) == []


def test_without_watchers_nothing_is_asked(store: CountingStore) -> None:
    claim = submit_and_claim(store, "a")
    store.complete(claim, {"text": ""})

    async def scenario() -> int:
        watcher = EventWatcher(store, TICK_S)
        await collect(watcher, "a")
        following = watcher._following
        assert following is not None
        await following
        return store.num_queries

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == 1


def test_a_fault_of_the_database_passes(store: CountingStore, caplog: pytest.LogCaptureFixture) -> None:
    claim = submit_and_claim(store, "a")
    store.complete(claim, {"text": ""})
    store.num_faults = 2
    assert asyncio.run(asyncio.wait_for(collect(EventWatcher(store, TICK_S), "a"), 20)) == [100]
    assert caplog.text.count("following jobs' events failed; trying again") == 2


def test_a_client_that_leaves_is_followed_no_more(store: CountingStore) -> None:
    claim = submit_and_claim(store, "a")
    store.announce(claim, Stage.DOWNLOADED)

    async def scenario() -> None:
        watcher = EventWatcher(store, TICK_S)
        events = watcher.events("a", 0)
        assert (await anext(events)).payload["progress"] == 10
        following = watcher._following
        await events.aclose()  # type: ignore[attr-defined]
        assert following is not None
        await following  # nobody is left, so it ends by itself

    asyncio.run(asyncio.wait_for(scenario(), 20))


class TestStoredJobs:
    def test_a_job_is_stored_with_an_estimate(self, store: CountingStore, jobs: StoredJobs) -> None:
        first = asyncio.run(jobs.submit(request("a")))
        assert (first.job.status, first.estimated_s) == (JobStatus.QUEUED, None)
        claim = store.claim("runner")
        assert claim is not None
        store.complete(claim, {"text": "hello"})
        again = asyncio.run(jobs.submit(request("a")))
        assert (again.job.status, again.estimated_s) == (JobStatus.COMPLETED, 0.0)
        assert asyncio.run(jobs.get("a")).result == {"text": "hello"}

    def test_a_refused_callback_base_stores_nothing(self, jobs: StoredJobs) -> None:
        with pytest.raises(CallbackRefused):
            asyncio.run(jobs.submit(request("a", callback_base="https://10.0.0.1")))
        with pytest.raises(JobNotFound, match="No job has the id a"):
            asyncio.run(jobs.get("a"))

    def test_as_many_wait_as_the_setting_says(self, jobs: StoredJobs) -> None:
        asyncio.run(jobs.submit(request("a")))
        asyncio.run(jobs.submit(request("b")))
        with pytest.raises(Overloaded, match="2 jobs are waiting already; try again later"):
            asyncio.run(jobs.submit(request("c")))
        assert [asyncio.run(jobs.queue_position(job_id)) for job_id in "ab"] == [0, 1]
        page = asyncio.run(jobs.page(JobStatus.QUEUED, 1, None))
        assert [job.job_id for job in page.jobs] == ["b"]
        assert [job.job_id for job in asyncio.run(jobs.page(None, 1, page.next_cursor)).jobs] == ["a"]

    def test_a_deleted_jobs_files_go_and_an_active_ones_stay(self, jobs: StoredJobs, media: Media) -> None:
        asyncio.run(jobs.submit(request("a")))
        with pytest.raises(JobConflict, match="Job a is queued; cancel it first"):
            asyncio.run(jobs.delete("a"))
        assert media.discarded == []
        assert asyncio.run(jobs.cancel("a")).status == JobStatus.CANCELLED
        asyncio.run(jobs.delete("a"))
        assert media.discarded == ["a"]

    def test_a_job_stays_while_its_files_can_not_be_removed(self, jobs: StoredJobs, media: Media) -> None:
        asyncio.run(jobs.submit(request("a")))
        asyncio.run(jobs.cancel("a"))
        media.error = OSError("the store is down")
        with pytest.raises(OSError):
            asyncio.run(jobs.delete("a"))
        assert asyncio.run(jobs.get("a")).status == JobStatus.CANCELLED  # no file is left without a job

    def test_events_and_deliveries(self, store: CountingStore, jobs: StoredJobs) -> None:
        asyncio.run(jobs.submit(request("a", callback_base="https://backend.example")))
        claim = store.claim("runner")
        assert claim is not None
        store.announce(claim, Stage.DOWNLOADED)
        store.complete(claim, {"text": ""})

        async def seen() -> list[int]:
            return [event.seq async for event in jobs.events("a", 0)]

        assert asyncio.run(asyncio.wait_for(seen(), 20)) == [1, 2]
        [due] = store.claim_deliveries("courier", 10)
        store.record_delivered(due, status_code=200)
        states = [delivery.status for delivery in asyncio.run(jobs.deliveries("a"))]
        assert states == [DeliveryStatus.DELIVERED, DeliveryStatus.PENDING]
        assert asyncio.run(jobs.replay("a")) == 2
        states = [delivery.status for delivery in asyncio.run(jobs.deliveries("a"))]
        assert states == [DeliveryStatus.PENDING] * 2
