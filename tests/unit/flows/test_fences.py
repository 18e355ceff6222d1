"""Files of a claim that was lost: they overwrite nothing, nothing is left of them, and others go on with them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import LeaseLost
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import SpeechModels
from serve_app.flows.steps import DurableSteps
from serve_app.flows.video import VideoModels, VideoPipeline
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import VideoRequest
from serve_app.media.artifacts import claim_place, job_key
from serve_app.settings import Settings
from tests.job_tables import make_job_table
from tests.unit.flows.fakes import placed
from tests.unit.media.scripted_server import ScriptedServer, answer

LEASE_S = 15.0


class Analyzer:
    async def length_s(self, media: str) -> float | None:
        return 2.0


async def no_health() -> dict[str, str]:
    return {}


class World:
    def __init__(self, folder: Path, server: ScriptedServer) -> None:
        self.now_s = 1_800_000_000.0
        self.folder = folder
        self.server = server
        self.go_on = threading.Event()
        self.asked = threading.Event()
        self.store, _ = make_job_table(lease_s=LEASE_S, clock=lambda: self.now_s)
        settings = Settings.from_environment(
            {"SERVE_APP_STATE_DIR": str(folder), "SERVE_APP_ALLOWED_HOSTS": "127.0.0.1", "HOME": str(folder)}
        )
        self.media = MediaSource(settings)
        models = VideoModels(placed("A", Analyzer()), SpeechModels({}, {}), (), ())
        self.pipeline = VideoPipeline(models, self.media, 0.0, no_health)

    def claim(self, url: str, job_id: str = "talk") -> Claim:
        self.store.submit(VideoRequest(job_id=job_id, video_url=url), max_queued=None)
        return self.claim_again()

    def claim_again(self) -> Claim:
        claim = self.store.claim("runner")
        assert claim is not None
        return claim

    async def fetch(self, claim: Claim) -> Path:
        steps = DurableSteps(self.store, claim, self.store.steps(claim.job.job_id), {})
        request = claim.job.request
        assert isinstance(request, VideoRequest)
        return Path(str(await self.pipeline._fetch(request.video_url, f"jobs/{steps.place}", steps)))

    def lose(self, claim: Claim) -> None:
        """Do what a runner does once it knows that it has lost a job."""
        named = partial(self.store.named_files, claim)
        self.media.discard_claim(claim.job.number, claim.fence, named)

    def remove(self, job_id: str = "talk") -> None:
        self.store.cancel(job_id)
        self.media.discard_job(self.store.ended(job_id))
        self.store.delete(job_id)

    def files(self) -> list[str]:
        root = self.folder / "artifacts"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def slow(self, path: str, body: bytes) -> str:
        def reply(handler: Any) -> None:
            self.asked.set()
            self.go_on.wait(20)
            answer(200, body)(handler)

        return self.server.on(path, reply)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    server = ScriptedServer()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    world = World(tmp_path, server)
    yield world
    world.go_on.set()
    server.http.shutdown()
    server.http.server_close()
    thread.join(10)


@pytest.mark.parametrize("has_heir", [True, False])
def test_a_runner_left_over_from_a_deleted_job_touches_no_other(world: World, has_heir: bool) -> None:
    alice = world.slow("/alice.mp4", b"ALICE'S PRIVATE VIDEO")
    bob = world.server.on("/bob.mp4", answer(200, b"BOB'S VIDEO"))

    async def run() -> None:
        first = world.claim(alice)
        stale = asyncio.create_task(world.fetch(first))
        assert await asyncio.to_thread(world.asked.wait, 20)
        world.now_s += LEASE_S
        world.remove()
        kept = []
        if has_heir:
            source = await world.fetch(world.claim(bob))
            kept = world.files()
        world.go_on.set()
        with pytest.raises(LeaseLost):
            await stale
        if has_heir:
            assert source.read_bytes() == b"BOB'S VIDEO"
        world.lose(first)
        assert world.files() == kept

    asyncio.run(run())


def test_what_such_a_runner_left_when_it_died_is_swept_at_once(world: World) -> None:
    alice = world.slow("/alice.mp4", b"ALICE'S PRIVATE VIDEO")

    async def run() -> None:
        first = world.claim(alice)
        stale = asyncio.create_task(world.fetch(first))
        assert await asyncio.to_thread(world.asked.wait, 20)
        world.now_s += LEASE_S
        world.remove()
        world.go_on.set()
        with pytest.raises(LeaseLost):
            await stale

    asyncio.run(run())
    assert world.files() != []
    world.media.sweep(7 * 86400.0, world.store.known)
    assert world.files() == []


def test_a_takeover_goes_on_with_the_files_that_finished_steps_name(world: World) -> None:
    url = world.server.on("/talk.mp4", answer(200, b"VIDEO"))

    async def run() -> None:
        first = world.claim(url)
        source = await world.fetch(first)
        await world.media.put(f"jobs/{claim_place(first.job.number, first.fence)}/unfinished", b"x")
        world.now_s += LEASE_S
        second = world.claim_again()
        world.lose(first)  # it has just learned
        assert world.files() == [f"jobs/number=1/{first.fence}/media"]
        assert await world.fetch(second) == source
        assert len(world.server.requests) == 1
        job = world.store.complete(second, {"text": ""})
        world.media.discard_job(job)
        assert world.files() == []

    asyncio.run(run())


def test_what_a_result_names_stays(world: World) -> None:
    async def run() -> None:
        first = world.claim("x")
        key = f"published/{claim_place(first.job.number, first.fence)}/music.mp3"
        await world.media.put(key, b"x")
        world.store.commit_step(first, "encode", {"keys": {"music.mp3": key}}, seconds=1.0)
        world.now_s += LEASE_S
        world.store.complete(world.claim_again(), {"stored": {"music.mp3": key}})  # type: ignore[arg-type]
        world.lose(first)
        assert world.files() == [key]

    asyncio.run(run())


def test_a_job_that_a_version_without_fences_began_goes_on(world: World) -> None:
    url = world.server.on("/talk.mp4", answer(200, b"VIDEO"))

    async def run() -> None:
        first = world.claim(url)
        source = await world.media.fetch(url, job_key("talk"))
        kept = {"url": source.url, "num_bytes": source.num_bytes, "filename": source.filename}
        world.store.commit_step(first, "fetch", kept, seconds=1.0)
        world.now_s += LEASE_S
        second = world.claim_again()
        assert (await world.fetch(second)).read_bytes() == b"VIDEO"
        assert len(world.server.requests) == 1
        assert world.files() == ["jobs/talk/media"]
        world.media.discard_job(world.store.complete(second, {"text": ""}))
        assert world.files() == []

    asyncio.run(run())
