"""A minute without a disk, an artefact store or a job table: no job pays for it, and all goes on by itself."""

from __future__ import annotations

import asyncio
import errno
import heapq
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.errors import NoRoomYet, StorageUnavailable
from serve_app.flows import steps as steps_module
from serve_app.flows.media_source import MediaSource
from serve_app.flows.steps import Steps
from serve_app.jobs.record import JobStatus, VideoRequest
from serve_app.jobs.store import JobStore
from serve_app.media import artifacts
from serve_app.messages import JobKind, Locale
from serve_app.results import AudioSource
from serve_app.settings import Settings
from serve_app.threads import ThreadGroup
from serve_app.workers.runner import Runner, RunnerOptions
from tests.job_tables import make_job_table
from tests.unit.workers.test_runner import Courier, Metrics

OUTAGE_S = 60.0
NUM_JOBS = 30


class Time:
    """Time that goes on to the next sleeper as soon as nothing else is to do."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self.num_calls = 0  # in threads

    def monotonic(self) -> float:
        return self.now_s

    def posix(self) -> float:
        return 1_800_000_000.0 + self.now_s

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now_s + seconds, self._count, woken))
        await woken

    async def go_on(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            if self.num_calls:
                continue
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if self._sleepers:
                at_s, _, woken = heapq.heappop(self._sleepers)
                self.now_s = max(self.now_s, at_s)
                woken.set_result(None)


class World:
    def __init__(self, folder: Path) -> None:
        self.time = Time()
        self.store, _ = make_job_table(lease_s=15.0, clock=self.time.posix)
        settings = Settings.from_environment(
            {"SERVE_APP_STATE_DIR": str(folder), "SERVE_APP_MEDIA_ROOT": str(folder), "HOME": str(folder)}
        )
        self.media = MediaSource(settings)
        (folder / "talk.wav").write_bytes(b"RIFF" * 1000)
        self.metrics = Metrics()
        self.tried_at: list[float] = []
        self.reasons: set[str] = set()
        note_pause = self.store.note_pause

        def noted(owner: str, reason: str, for_s: float) -> None:
            note_pause(owner, reason, for_s)
            self.reasons.update(self.store.paused())

        self.store.note_pause = noted  # type: ignore[method-assign]
        self.flow: Callable[[VideoRequest, Steps], Awaitable[Any]] = self.fetch

    @property
    def is_out(self) -> bool:
        return self.time.now_s < OUTAGE_S

    async def fetch(self, request: VideoRequest, steps: Steps) -> dict[str, Any]:
        self.tried_at.append(self.time.now_s)
        await steps.run("choose_backend", str, _name)
        await steps.run("fetch", AudioSource, lambda: self.media.fetch(request.video_url, f"jobs/{steps.place}"))
        return {"text": ""}

    def run(self, until: Callable[[], bool]) -> None:
        async def run() -> None:
            runner = Runner(
                self.store,
                {JobKind.VIDEO: self.flow},
                Courier(),  # type: ignore[arg-type]
                self.media,
                RunnerOptions(jobs_per_replica=2),
                self.metrics,
                owner="ours",
                locale=Locale.EN,
                retention_s=1e6,
                clock=self.time.monotonic,
                sleep=self.time.sleep,
                chance=lambda: 0.5,
            )
            runner.start()
            ticking = asyncio.create_task(self.time.go_on())
            try:
                async with asyncio.timeout(25):
                    while not until():
                        await asyncio.sleep(0.005)
            finally:
                await runner.stop()
                ticking.cancel()

        asyncio.run(run())


async def _name() -> str:
    return "whisper"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    run_within = ThreadGroup.run_within

    async def counted(*args: Any, **options: Any) -> Any:
        world.time.num_calls += 1
        try:
            return await run_within(*args, **options)
        finally:
            world.time.num_calls -= 1

    monkeypatch.setattr(ThreadGroup, "run_within", counted)
    return world


def _full_disk(world: World, patch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage

    def disk_usage(folder: Any) -> Any:
        return SimpleNamespace(total=10**9, free=10**3) if world.is_out else usage(folder)

    patch.setattr(shutil, "disk_usage", disk_usage)


def _failing_store(error: Callable[[], Exception]) -> Callable[[World, pytest.MonkeyPatch], None]:
    def patch_store(world: World, patch: pytest.MonkeyPatch) -> None:
        move = artifacts._move

        def fails(source: Path, target: Path) -> None:
            if world.is_out:
                raise error()
            move(source, target)

        patch.setattr(artifacts, "_move", fails)

    return patch_store


def _job_table(world: World, patch: pytest.MonkeyPatch) -> None:
    commit = JobStore.commit_step

    def commit_step(store: JobStore, *args: Any, **options: Any) -> None:
        if world.is_out:
            raise StorageUnavailable("The job table fails (OperationalError)")
        commit(store, *args, **options)

    patch.setattr(JobStore, "commit_step", commit_step)
    patch.setattr(steps_module, "_OUTAGE_S", 0.0)


class EndpointConnectionError(Exception):
    """As botocore's: no OSError."""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_full_disk, "No space is left on the disk"),
        (_failing_store(lambda: OSError(errno.EIO, "SlowDown")), "The artefact store fails: Input/output error"),
        (_failing_store(lambda: EndpointConnectionError("https://key:secret@s3")), "EndpointConnectionError"),
        (_failing_store(lambda: FileNotFoundError("The specified bucket does not exist")), "The artefact store fails"),
        (_job_table, "The job table fails"),
    ],
)
def test_every_queued_job_ends_well(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[World, pytest.MonkeyPatch], None],
    words: str,
) -> None:
    fault(world, monkeypatch)
    for number in range(NUM_JOBS):
        world.store.submit(VideoRequest(job_id=f"j{number}", video_url="talk.wav"), max_queued=None)
    world.run(lambda: len(world.metrics.ended) == NUM_JOBS and not world.store.paused())
    jobs = world.store.page(None, 100, None).jobs
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}
    assert {job.attempts for job in jobs} == {0}
    # pauses of 0.75, 1.5, 3, … s: two jobs before the first, then one after each
    assert len([at for at in world.tried_at if at < OUTAGE_S]) <= 12
    assert any(words in reason for reason in world.reasons), world.reasons
    assert not any("secret" in reason for reason in world.reasons)
    assert (world.metrics.paused[0], world.metrics.paused[-1]) == (True, False)


def test_an_idle_runner_finds_out_that_the_disk_is_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_disk(world, monkeypatch)
    world.store.submit(VideoRequest(job_id="a", video_url="talk.wav"), max_queued=None)

    def is_over() -> bool:
        if world.metrics.paused and not world.store.page(JobStatus.CANCELLED, 1, None).jobs:
            world.store.cancel("a")
        return bool(world.metrics.paused) and not world.metrics.paused[-1] and not world.store.paused()

    world.run(is_over)
    assert world.time.now_s >= OUTAGE_S


@pytest.mark.parametrize(("locale", "told"), [(None, "After 24 h there is still no room"), (Locale.KO, "24시간")])
def test_a_file_that_never_fits_fails_after_a_day(world: World, locale: Locale | None, told: str) -> None:
    async def flow(request: VideoRequest, steps: Steps) -> dict[str, Any]:
        world.tried_at.append(world.time.now_s)
        raise NoRoomYet("the disk has 1 GiB free, and the file has 3")

    world.flow = flow
    began_s = world.time.now_s
    world.store.submit(VideoRequest(job_id="large", video_url="talk.wav", locale=locale), max_queued=None)

    def is_over() -> bool:
        if len(world.tried_at) == 3:
            world.time.now_s = max(world.time.now_s, began_s + 86_390.0)  # the same file, all day
        return bool(world.metrics.ended)

    world.run(is_over)
    large = world.store.get("large")
    assert (large.status, large.error_code, large.attempts) == (JobStatus.FAILED, "DOWNLOAD_ERROR", 1)
    assert told in str(large.error_message)
    assert "the disk has 1 GiB free, and the file has 3" in str(large.error_message)
    assert world.time.now_s - began_s < 86_400.0 + 120.0


def test_a_file_that_does_not_fit_holds_up_no_other(world: World) -> None:
    async def flow(request: VideoRequest, steps: Steps) -> dict[str, Any]:
        if request.job_id == "large":
            raise NoRoomYet("the disk has 1 GiB free, and the file has 3")
        return {"text": ""}

    world.flow = flow
    world.store.submit(VideoRequest(job_id="large", video_url="talk.wav"), max_queued=None)
    for number in range(5):
        world.store.submit(VideoRequest(job_id=f"j{number}", video_url="talk.wav"), max_queued=None)
    world.run(lambda: len(world.metrics.ended) == 5)
    large = world.store.get("large")
    assert (large.status in (JobStatus.QUEUED, JobStatus.PROCESSING), large.attempts) == (True, 0)
    assert world.metrics.paused == []
