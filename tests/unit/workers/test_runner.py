"""The runner over a real job table, with a pipeline, a courier and a time that the test holds in its hands."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from serve_app.errors import (
    AudioExtractionError,
    DownloadInterrupted,
    LeaseLost,
    Overloaded,
    StorageUnavailable,
    Unavailable,
)
from serve_app.flows.steps import Steps
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import Job, JobRequest, JobStatus, MusicRequest, VideoRequest, Visitor
from serve_app.jobs.store import JobStore, KnownJob, QueueDepth
from serve_app.jobs.tables import runners
from serve_app.media.artifacts import claim_place
from serve_app.messages import JobKind, Locale, Stage
from serve_app.workers.runner import Runner, RunnerOptions
from tests.job_tables import make_job_table

RESULT = {"text": "안녕하세요"}
LEASE_S, RENEW_S, POLL_S, DEPTH_S = 3.0, 1.0, 0.5, 10.0
RETENTION_S = 1000.0

Work = Callable[[VideoRequest, Steps], Awaitable[dict[str, Any]]]


class Time:
    """A clock that moves only when a test wakes one of the sleepers."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now_s

    def posix(self) -> float:
        return 1_800_000_000.0 + self.now_s

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((seconds, woken))
        await woken

    def num_asleep(self, seconds: float) -> int:
        return sum(wanted == seconds and not woken.done() for wanted, woken in self._sleepers)

    async def wake(self, seconds: float) -> None:
        """Wait until somebody sleeps for exactly so long, then let that time pass for them."""
        await until(lambda: self.num_asleep(seconds))
        woken = next(woken for wanted, woken in self._sleepers if wanted == seconds and not woken.done())
        self.now_s += seconds
        woken.set_result(None)


class Pipeline:
    """Does what the test says, and notes what it was asked and how it ended."""

    def __init__(self) -> None:
        self.asked: list[JobRequest] = []
        self.running = 0
        self.most_running = 0
        self.finish = asyncio.Event()
        self.work: Work | None = None

    async def run(self, request: VideoRequest, steps: Steps) -> dict[str, Any]:
        self.asked.append(request)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            if self.work is not None:
                return await self.work(request, steps)
            return RESULT
        finally:
            try:
                await asyncio.sleep(0)  # work that is stopped takes its time to end
            finally:
                self.running -= 1

    def hang(self) -> None:
        """Work on each job until `finish` is set."""

        async def work(request: VideoRequest, steps: Steps) -> dict[str, Any]:
            await self.finish.wait()
            return RESULT

        self.work = work

    def fail(self, *errors: BaseException) -> None:
        """Raise one error a call, then return the result."""
        left = list(errors)

        async def work(request: VideoRequest, steps: Steps) -> dict[str, Any]:
            if left:
                raise left.pop(0)
            return RESULT

        self.work = work


class Courier:
    def __init__(self) -> None:
        self.num_wakes = 0
        self.has_stopped = False
        self.dies = asyncio.Event()

    def wake(self) -> None:
        self.num_wakes += 1

    async def run(self, stop: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (stop, self.dies)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        self.has_stopped = True
        for wait in waits:
            wait.cancel()


class Artifacts:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.discarded: list[str] = []
        self.kept: list[str] = []  # ids of jobs whose published files stay
        self.swept: list[float] = []
        self.error: Exception | None = None
        self.lost: list[tuple[int, int]] = []  # numbers and fences of claims
        self.fault: StorageUnavailable | None = None
        self.num_checks = 0
        self.stuck: str | None = None  # id of the one job whose files can't be removed

    def discard_job(self, job: Job, *, keep_published: bool = False) -> None:
        job_id = job.job_id
        assert not self._pipeline.running, "the files were taken away from under the work"
        if self.error is not None:
            raise self.error
        if self.stuck == job_id:
            raise OSError("permission denied")
        self.discarded.append(job_id)
        if keep_published:
            self.kept.append(job_id)

    def discard_claim(self, number: int, fence: int, named: Callable[[Sequence[str]], set[str]]) -> None:
        assert not named([claim_place(number, fence)])
        self.lost.append((number, fence))

    def check_disk(self) -> None:
        if self.fault is not None:
            raise self.fault

    def check_store(self) -> None:
        self.num_checks += 1

    def sweep(self, older_than_s: float, jobs: Callable[[], Sequence[KnownJob]]) -> None:
        assert jobs() is not None
        self.swept.append(older_than_s)


class Metrics:
    def __init__(self) -> None:
        self.ended: list[str] = []
        self.steps: list[str] = []
        self.seconds: list[float] = []
        self.depths: list[QueueDepth] = []
        self.paused: list[bool] = []

    def storage_paused(self, is_paused: bool) -> None:
        self.paused.append(is_paused)

    def job_ended(self, status: str) -> None:
        self.ended.append(status)

    def step_finished(self, step: str, seconds: float) -> None:
        self.steps.append(step)
        self.seconds.append(seconds)

    def queue_depth(self, depth: QueueDepth) -> None:
        self.depths.append(depth)


class FaultyStore(JobStore):
    """The job store, whose methods raise as often as a test says, or wait until it lets them go on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.faults: dict[str, int] = {}
        self.num_faults = 0
        self.claiming = threading.Event()
        self.may_claim = threading.Event()
        self.may_claim.set()
        self.may_release: Callable[[], bool] = lambda: True

    def _fault(self, method: str) -> None:
        if self.faults.get(method, 0) > 0:
            self.faults[method] -= 1
            self.num_faults += 1
            raise ConnectionError(f"{method}: the database restarts")

    def claim(self, owner: str) -> Claim | None:
        self._fault("claim")
        claim = super().claim(owner)
        if claim is not None:
            self.claiming.set()
            assert self.may_claim.wait(20)
        return claim

    def renew(self, claim: Claim) -> bool:
        self._fault("renew")
        return super().renew(claim)

    def release(self, claim: Claim) -> Job:
        assert self.may_release(), "the job was handed back while it was worked on"
        return super().release(claim)

    def complete(self, claim: Claim, result: dict[str, Any]) -> Job:
        self._fault("complete")
        return super().complete(claim, result)

    def queue_depth(self) -> QueueDepth:
        self._fault("queue_depth")
        return super().queue_depth()


class World:
    """A runner, all that it works with, and another process's look at the same table."""

    def __init__(self) -> None:
        self.time = Time()
        self.store, url = make_job_table(FaultyStore, lease_s=LEASE_S, clock=self.time.posix)
        self.other = JobStore(url, lease_s=LEASE_S, clock=self.time.posix)
        self.pipeline = Pipeline()
        self.music = Pipeline()
        self.store.may_release = lambda: not self.pipeline.running
        self.courier = Courier()
        self.artifacts = Artifacts(self.pipeline)
        self.metrics = Metrics()
        self.runner = self.make_runner()

    def make_runner(self, *, jobs_per_replica: int = 1, locale: Locale = Locale.KO) -> Runner:
        self.runner = Runner(
            self.store,
            {JobKind.VIDEO: self.pipeline.run, JobKind.MUSIC: self.music.run},
            self.courier,  # type: ignore[arg-type]
            self.artifacts,  # type: ignore[arg-type]
            RunnerOptions(jobs_per_replica=jobs_per_replica, lease_s=LEASE_S, poll_interval_s=POLL_S),
            self.metrics,
            owner="ours",
            locale=locale,
            retention_s=RETENTION_S,
            clock=self.time.monotonic,
            sleep=self.time.sleep,
            chance=lambda: 0.5,  # polls exactly at their interval; retries after 3/4 of theirs
        )
        return self.runner

    def submit(self, *job_ids: str, **fields: Any) -> None:
        for job_id in job_ids:
            self.other.submit(
                VideoRequest(job_id=job_id, video_url="https://example.com/a.mp4", **fields), max_queued=None
            )

    def status(self, job_id: str = "a") -> JobStatus:
        return self.other.get(job_id).status

    @asynccontextmanager
    async def running(self) -> Any:
        self.runner.start()
        try:
            yield
        finally:
            async with asyncio.timeout(4.0):  # jobs are not kept for as long as the courier may take
                await self.runner.stop()


async def until(is_so: Callable[[], object]) -> None:
    """Give the event loop's other tasks and their threads their turns until something is true."""
    while not is_so():
        await asyncio.sleep(0.001)


def in_event_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **fixtures), 30))

    return run


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.store.close()
    world.other.close()


class TestEnds:
    @in_event_loop
    async def test_a_job_is_completed_with_what_the_pipeline_returns(self, world: World) -> None:
        world.submit("a", language="ko", num_speakers=2, enable_gpu=False, max_workers=3)
        async with world.running():
            await until(lambda: world.artifacts.discarded)
        job = world.other.get("a")
        assert (job.status, job.result, job.attempts) == (JobStatus.COMPLETED, RESULT, 0)
        assert world.pipeline.asked == [replace(job.request, locale=Locale.KO)]  # the operator's, as it names none
        assert isinstance(job.request, VideoRequest)
        assert (job.request.language, job.request.num_speakers, job.request.max_workers) == ("ko", 2, 3)
        assert world.metrics.ended == ["completed"]
        assert world.artifacts.discarded == world.artifacts.kept == ["a"]
        assert world.courier.num_wakes == 1

    @in_event_loop
    async def test_each_kind_of_job_has_its_flow_and_its_language(self, world: World) -> None:
        world.music.fail(DownloadInterrupted("404 Not Found"))
        world.submit("video")
        request = MusicRequest(job_id="music", image_url="https://example.com/a.jpg", locale=Locale.EN)
        world.other.submit(request, max_queued=None, visitor=Visitor("v"))
        async with world.running():
            await until(lambda: len(world.artifacts.discarded) == 2)
        assert [asked.job_id for asked in world.pipeline.asked] == ["video"]
        assert world.music.asked == [request]
        failed = world.other.get("music")
        assert failed.error_message == "The picture could not be downloaded: 404 Not Found"
        # a failed piece has nothing that may be fetched
        assert world.artifacts.kept == ["video"]

    @in_event_loop
    async def test_an_idle_runner_looks_again_after_its_interval(self, world: World) -> None:
        async with world.running():
            await until(lambda: world.time.num_asleep(POLL_S))
            world.submit("a")
            assert world.status() == JobStatus.QUEUED
            await world.time.wake(POLL_S)
            await until(lambda: world.status() == JobStatus.COMPLETED)

    @in_event_loop
    async def test_steps_are_measured_without_the_number_of_their_piece(self, world: World) -> None:
        async def work(request: VideoRequest, steps: Steps) -> dict[str, Any]:
            for name in ("fetch", "transcribe/00000", "transcribe/00001"):
                await steps.run(name, int, _one)
            return RESULT

        world.pipeline.work = work
        world.submit("a")
        async with world.running():
            await until(lambda: world.status() == JobStatus.COMPLETED)
        assert world.metrics.steps == ["fetch", "transcribe", "transcribe"]
        assert all(seconds >= 0 for seconds in world.metrics.seconds)

    @pytest.mark.parametrize(
        ("error", "locale", "code", "message"),
        [
            (
                AudioExtractionError("no audio track"),
                Locale.KO,
                "AUDIO_EXTRACTION_ERROR",
                "오디오 추출 실패: no audio track",
            ),
            (
                DownloadInterrupted("reset"),  # it passes, but fetching had its own tries
                Locale.EN,
                "DOWNLOAD_ERROR",
                "The video file could not be downloaded: reset",
            ),
        ],
    )
    @in_event_loop
    async def test_an_error_that_does_not_pass_ends_the_job_at_once(
        self, world: World, error: Exception, locale: Locale, code: str, message: str
    ) -> None:
        world.make_runner(locale=locale)
        world.pipeline.fail(error)
        world.submit("a")
        async with world.running():
            await until(lambda: world.artifacts.discarded)
        job = world.other.get("a")
        assert (job.status, job.attempts) == (JobStatus.FAILED, 1)
        assert (job.error_code, job.error_message) == (code, message)
        assert world.metrics.ended == ["failed"]

    @pytest.mark.parametrize(("error", "delay_s"), [(Unavailable("lost", 0.0), 1.5), (Overloaded("full", 20.0), 20.0)])
    @in_event_loop
    async def test_an_error_that_may_pass_is_tried_again_later_after_the_kept_steps(
        self, world: World, error: Exception, delay_s: float
    ) -> None:
        fetched = 0
        errors = [error]

        async def fetch() -> str:
            nonlocal fetched
            fetched += 1
            return "file"

        async def work(request: VideoRequest, steps: Steps) -> dict[str, Any]:
            text = await steps.run("fetch", str, fetch)
            if errors:
                raise errors.pop()
            return {"text": text}

        world.pipeline.work = work
        world.submit("a")
        async with world.running():
            await until(lambda: world.other.get("a").attempts)
            assert world.status() == JobStatus.QUEUED
            await until(lambda: world.courier.num_wakes)  # the first attempt is over
            assert world.artifacts.discarded == []
            assert world.metrics.ended == []
            world.time.now_s += delay_s - POLL_S - 0.1
            await world.time.wake(POLL_S)  # too early
            await until(lambda: world.time.num_asleep(POLL_S))
            assert world.status() == JobStatus.QUEUED
            await world.time.wake(POLL_S)
            await until(lambda: world.metrics.ended)
        job = world.other.get("a")
        assert (job.status, job.attempts, job.result) == (JobStatus.COMPLETED, 1, {"text": "file"})
        assert fetched == 1

    @in_event_loop
    async def test_an_unknown_error_uses_up_the_attempts_and_its_text_stays_in_the_log(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.pipeline.fail(*[RuntimeError("secret at /srv")] * 3)
        world.submit("a")
        async with world.running():
            for attempt, delay_s in ((1, 1.5), (2, 3.0)):
                await until(lambda attempt=attempt: world.courier.num_wakes == attempt)
                world.time.now_s += delay_s - POLL_S - 0.1
                await world.time.wake(POLL_S)  # too early
                await until(lambda: world.time.num_asleep(POLL_S))
                assert world.other.get("a").attempts == len(world.pipeline.asked) == attempt
                await world.time.wake(POLL_S)
            await until(lambda: world.metrics.ended)
        job = world.other.get("a")
        assert (job.status, job.error_code) == (JobStatus.FAILED, "PROCESSING_ERROR")
        assert job.error_message == "처리 중 오류가 발생했습니다: RuntimeError"
        assert len(world.pipeline.asked) == 3
        assert world.metrics.ended == ["failed"]
        assert "secret at /srv" in caplog.text
        assert "Traceback" in caplog.text

    @in_event_loop
    async def test_an_end_that_can_not_be_stored_is_made_up_for_after_the_lease(self, world: World) -> None:
        world.store.faults["complete"] = 1
        world.submit("a")
        async with world.running():
            await until(lambda: world.courier.num_wakes)
            assert world.status() == JobStatus.PROCESSING
            assert (world.metrics.ended, world.artifacts.discarded) == ([], [])
            world.time.now_s += LEASE_S
            await world.time.wake(POLL_S)
            await until(lambda: world.metrics.ended)
        job = world.other.get("a")
        assert (job.status, job.attempts) == (JobStatus.COMPLETED, 0)

    @in_event_loop
    async def test_files_that_can_not_be_removed_do_not_undo_the_end(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.artifacts.error = OSError("the object store is away")
        world.submit("a", "b")
        async with world.running():
            await until(lambda: world.courier.num_wakes == 2)
        assert (world.status("a"), world.status("b")) == (JobStatus.COMPLETED, JobStatus.COMPLETED)
        assert "job a: its artefacts could not be removed" in caplog.text


class TestPlaces:
    @in_event_loop
    async def test_no_more_jobs_at_once_than_places(self, world: World) -> None:
        world.make_runner(jobs_per_replica=2)
        world.pipeline.hang()
        world.submit("a", "b", "c")
        async with world.running():
            await until(lambda: world.pipeline.running == 2)
            assert world.other.queue_depth() == QueueDepth(queued=1, running=2)
            world.pipeline.finish.set()
            await until(lambda: world.courier.num_wakes == 3)
        assert world.pipeline.most_running == 2
        assert world.metrics.ended == ["completed"] * 3

    @in_event_loop
    async def test_a_claim_that_fails_is_tried_again(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.store.faults["claim"] = 2
        world.submit("a")
        async with world.running():
            await world.time.wake(POLL_S)
            await world.time.wake(POLL_S)
            await until(lambda: world.status() == JobStatus.COMPLETED)
            world.runner.check_health()
        assert caplog.text.count("claiming a job failed; trying again") == 2


class TestLease:
    @in_event_loop
    async def test_a_users_cancel_stops_the_work_and_then_removes_its_files(self, world: World) -> None:
        world.pipeline.hang()
        world.submit("a")
        async with world.running():
            await until(lambda: world.pipeline.running)
            assert world.other.cancel("a").status == JobStatus.PROCESSING
            await world.time.wake(RENEW_S)
            await until(lambda: world.artifacts.discarded)
        assert world.status() == JobStatus.CANCELLED
        assert world.pipeline.running == 0
        assert world.metrics.ended == ["cancelled"]
        assert world.artifacts.discarded == ["a"]

    @in_event_loop
    async def test_a_cancel_that_comes_too_late_is_passed_over(self, world: World) -> None:
        world.pipeline.hang()
        world.submit("a")
        async with world.running():
            await until(lambda: world.pipeline.running)
            world.other.cancel("a")
            world.pipeline.finish.set()
            await until(lambda: world.metrics.ended)
        assert world.status() == JobStatus.COMPLETED

    @in_event_loop
    async def test_a_lease_is_kept_as_long_as_the_work_takes(self, world: World) -> None:
        world.pipeline.hang()
        world.submit("a")
        async with world.running():
            await until(lambda: world.pipeline.running)
            for _ in range(6):
                await world.time.wake(RENEW_S)
                await until(lambda: world.time.num_asleep(RENEW_S))
                assert world.other.claim("other") is None
            world.pipeline.finish.set()
            await until(lambda: world.status() == JobStatus.COMPLETED)

    @in_event_loop
    async def test_a_job_that_another_runner_took_is_dropped_with_its_files_in_place(self, world: World) -> None:
        world.pipeline.hang()
        world.submit("a", "b")
        async with world.running():
            await until(lambda: world.pipeline.running)
            world.time.now_s += LEASE_S
            taken = world.other.claim("other")
            assert taken is not None
            assert taken.job.job_id == "a"
            await world.time.wake(RENEW_S)
            await until(lambda: len(world.pipeline.asked) == 2)  # the place is free for the next job
            assert world.pipeline.most_running == 1
        assert (world.metrics.ended, world.artifacts.discarded) == ([], [])
        assert world.other.complete(taken, RESULT).attempts == 0

    @in_event_loop
    async def test_work_that_notices_the_loss_itself_is_dropped(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work(request: VideoRequest, steps: Steps) -> dict[str, Any]:
            world.time.now_s += LEASE_S
            assert await asyncio.to_thread(world.other.claim, "other") is not None
            with pytest.raises(LeaseLost):
                await steps.run("fetch", int, _one)
            raise LeaseLost("drop this work")

        world.pipeline.work = work
        world.submit("a")
        async with world.running():
            await until(lambda: world.courier.num_wakes)
            await until(lambda: world.time.num_asleep(POLL_S))
        job = world.other.get("a")
        assert (job.status, job.attempts) == (JobStatus.PROCESSING, 0)
        assert (world.metrics.ended, world.artifacts.discarded) == ([], [])
        assert world.other.steps("a") == {}
        assert "job a: another runner has it now" in caplog.text

    @in_event_loop
    async def test_renewals_may_fail_for_as_long_as_the_lease(self, world: World) -> None:
        world.pipeline.hang()
        world.submit("a")
        async with world.running():
            await until(lambda: world.pipeline.running)
            await world.time.wake(RENEW_S)
            await until(lambda: world.time.num_asleep(RENEW_S))
            world.store.faults["renew"] = 3  # 1 s, 2 s, 3 s after the last: the lease is 3 s
            for _ in range(4):
                await world.time.wake(RENEW_S)
            await until(lambda: world.time.num_asleep(RENEW_S))
            assert world.store.num_faults == 3
            assert (world.pipeline.running, len(world.pipeline.asked)) == (1, 1)
            world.pipeline.finish.set()
            await until(lambda: world.status() == JobStatus.COMPLETED)

    @in_event_loop
    async def test_work_stops_once_renewing_failed_for_longer_than_the_lease(self, world: World) -> None:
        world.pipeline.hang()
        world.store.faults["renew"] = 4
        world.submit("a")
        async with world.running():
            await until(lambda: world.pipeline.running)
            for _ in range(4):
                await world.time.wake(RENEW_S)
            await until(lambda: len(world.pipeline.asked) == 2)  # the database is back: a takeover, here by itself
            assert world.pipeline.most_running == 1
            assert (world.metrics.ended, world.artifacts.discarded) == ([], [])
            assert world.other.get("a").attempts == 0


class TestShutdown:
    @in_event_loop
    async def test_jobs_in_work_are_handed_back_without_counting_an_attempt(self, world: World) -> None:
        world.make_runner(jobs_per_replica=2)

        async def work(request: VideoRequest, steps: Steps) -> dict[str, Any]:
            await steps.run("fetch", int, _one, announce=(Stage.DOWNLOADED,))
            await world.pipeline.finish.wait()
            return RESULT

        world.pipeline.work = work
        world.submit("a", "b", "c")
        async with world.running():
            await until(lambda: world.other.steps("a") and world.other.steps("b"))
        assert world.pipeline.running == 0
        assert world.courier.has_stopped
        for job_id in ("a", "b"):
            job = world.other.get(job_id)
            assert (job.status, job.attempts, job.progress) == (JobStatus.QUEUED, 0, 10)
            assert not job.cancel_requested
            assert world.other.steps(job_id) == {"fetch": 1}
        assert len(world.pipeline.asked) == 2, "a job was begun during the shutdown"
        assert (world.metrics.ended, world.artifacts.discarded) == ([], [])
        again = world.other.claim("other")
        assert again is not None
        assert again.job.job_id == "a"  # it keeps its place in the queue, and waits for no lease

    @in_event_loop
    async def test_a_job_whose_end_a_user_asked_for_ends_when_it_is_handed_back(self, world: World) -> None:
        world.pipeline.hang()
        world.submit("a")
        async with world.running():
            await until(lambda: world.pipeline.running)
            world.other.cancel("a")
        assert world.status() == JobStatus.CANCELLED

    @in_event_loop
    async def test_a_job_that_another_runner_took_meanwhile_is_left_to_it(self, world: World) -> None:
        world.pipeline.hang()
        world.submit("a")
        async with world.running():
            await until(lambda: world.pipeline.running)
            world.time.now_s += LEASE_S
            taken = world.other.claim("other")
            assert taken is not None
        assert world.other.renew(taken) is False
        assert world.pipeline.running == 0

    @in_event_loop
    async def test_a_claim_that_is_just_being_made_is_given_back(self, world: World) -> None:
        world.store.may_claim.clear()
        world.submit("a")
        world.runner.start()
        await asyncio.to_thread(world.store.claiming.wait, 20)
        assert world.status() == JobStatus.PROCESSING
        stopping = asyncio.create_task(world.runner.stop())
        await asyncio.sleep(0)
        world.store.may_claim.set()
        await stopping
        job = world.other.get("a")
        assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
        assert world.pipeline.asked == []

    @in_event_loop
    async def test_an_idle_runner_stops(self, world: World) -> None:
        async with world.running():
            await until(lambda: world.time.num_asleep(POLL_S))
        assert world.courier.has_stopped


def _places(store: JobStore) -> int:
    """Return for how many jobs at once there are runners."""
    with store._db.read() as connection:
        return int(connection.execute(select(func.coalesce(func.sum(runners.c.places), 0))).scalar_one())


class TestMaintenance:
    @in_event_loop
    async def test_its_places_are_known_while_it_lives(self, world: World) -> None:
        world.make_runner(jobs_per_replica=3)
        async with world.running():
            await until(lambda: _places(world.other) == 3)
        assert _places(world.other) == 0

    @in_event_loop
    async def test_depth_is_measured_and_a_fault_passes(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.pipeline.hang()
        world.store.faults["queue_depth"] = 1
        world.submit("a", "b", "c")
        async with world.running():
            await until(lambda: world.pipeline.running)
            await world.time.wake(DEPTH_S)
            await world.time.wake(DEPTH_S)
            await until(lambda: world.metrics.depths)
        assert world.metrics.depths == [QueueDepth(queued=2, running=1)]
        assert "maintenance failed; trying again" in caplog.text

    @in_event_loop
    async def test_old_jobs_go_with_their_files_some_minutes_after_the_start(self, world: World) -> None:
        world.submit("a", "b")
        async with world.running():
            await until(lambda: world.courier.num_wakes == 2)
            world.other.delete("b")
            world.time.now_s += 299.0 - DEPTH_S  # the first look comes after half of ten minutes, by chance 0.5
            await world.time.wake(DEPTH_S)
            await until(lambda: world.time.num_asleep(DEPTH_S))
            assert world.artifacts.swept == []
            world.time.now_s += RETENTION_S
            world.artifacts.discarded.clear()
            await world.time.wake(DEPTH_S)
            await until(lambda: world.artifacts.swept)
            assert world.artifacts.swept == [RETENTION_S]
            assert world.artifacts.discarded == ["a"]
            assert world.other.page(None, 10, None).jobs == ()
            await world.time.wake(DEPTH_S)  # the next look at old jobs is ten minutes away
            await until(lambda: world.time.num_asleep(DEPTH_S))
            assert world.artifacts.swept == [RETENTION_S]

    @in_event_loop
    async def test_a_job_whose_files_can_not_be_removed_stays_for_the_next_time(self, world: World) -> None:
        world.submit("a")
        async with world.running():
            await until(lambda: world.courier.num_wakes == 1)
            world.time.now_s += 299.0 - DEPTH_S + RETENTION_S
            world.artifacts.error = OSError("the store is down")
            await world.time.wake(DEPTH_S)
            await until(lambda: world.time.num_asleep(DEPTH_S))
            assert world.status() == JobStatus.COMPLETED
            world.artifacts.error = None
            world.time.now_s += 600.0
            await world.time.wake(DEPTH_S)
            await until(lambda: not world.other.page(None, 10, None).jobs)

    @in_event_loop
    async def test_files_that_can_not_be_removed_hold_up_no_other_job(self, world: World) -> None:
        world.submit("a", "b")
        async with world.running():
            await until(lambda: world.courier.num_wakes == 2)
            world.artifacts.stuck = "a"
            world.time.now_s += 299.0 - DEPTH_S + RETENTION_S
            await world.time.wake(DEPTH_S)
            await until(lambda: world.artifacts.swept)
            assert [job.job_id for job in world.other.known()] == ["a"]


class TestHealth:
    @in_event_loop
    async def test_a_runner_without_one_of_its_loops_is_ill(self, world: World) -> None:
        async with world.running():
            world.runner.check_health()
            world.courier.dies.set()
            await until(lambda: world.courier.has_stopped)
            with pytest.raises(RuntimeError, match="the courier loop of the runner has ended"):
                world.runner.check_health()

    @in_event_loop
    async def test_a_stopped_runner_is_not_ill(self, world: World) -> None:
        async with world.running():
            pass
        world.runner.check_health()


async def _one() -> int:
    return 1
