"""The music flow over a real job table and artefact store, with plain objects in the place of the deployments."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serve_app.errors import (
    CallbackRefused,
    GpuMemoryError,
    ImageUnreadable,
    JobConflict,
    JobNotFound,
    ModelLoadingError,
    MusicFileMissing,
    MusicRefused,
    ProcessingError,
    QuotaExceeded,
    StorageError,
    Unavailable,
    shown_reason,
)
from serve_app.flows.jobs import StoredJobs
from serve_app.flows.media_source import MediaSource
from serve_app.flows.music import MusicModels, MusicPipeline
from serve_app.flows.music_jobs import MusicFlow
from serve_app.flows.steps import DurableSteps
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import Job, JobStatus, MusicRequest, VideoRequest, Visitor
from serve_app.jobs.store import JobStore, Quota
from serve_app.media.artifacts import number_folder
from serve_app.models.captions.embedded import describe_picture
from serve_app.models.captions.picture import prepare_picture
from serve_app.results import (
    Caption,
    EncodedMusic,
    MasteredMusic,
    MusicPiece,
    MusicPlan,
    PictureFeatures,
    PreparedPicture,
    RenderedMusic,
)
from serve_app.services import MusicFile, SubmittedJob
from serve_app.settings import Settings
from tests.job_tables import make_job_table
from tests.unit.flows.fakes import placed

ANNA, BEN = Visitor("anna"), Visitor("ben")


class Captioner:
    """The real picture code, and a caption that a test chooses."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def prepare(self, image: bytes) -> PreparedPicture:
        self.calls.append("prepare")
        return prepare_picture(image, max_pixels=10_000_000)

    async def caption(self, jpeg: bytes, features: PictureFeatures) -> Caption:
        self.calls.append("caption")
        return describe_picture(jpeg, features)


@dataclass
class Generator:
    """Engines whose pieces, faults and failures a test chooses; its audio names the engine and the seed."""

    failures: dict[str, list[Exception]] = field(default_factory=dict)
    faults: list[tuple[str, ...]] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    shares: tuple[float, ...] = ()
    calls: list[Any] = field(default_factory=list)

    async def start(self, engine: str, plan: MusicPlan) -> str | None:
        if engine in self.tasks:
            self.calls.append(("start", engine))
        return self.tasks.get(engine)

    async def render(
        self, engine: str, plan: MusicPlan, task: str | None = None
    ) -> AsyncIterator[float | RenderedMusic]:
        self.calls.append(("render", engine, plan.seed, task))
        for share in self.shares:
            yield share
        if self.failures.get(engine):
            raise self.failures[engine].pop(0)
        midi = b"MThd" if engine == "composer" else None
        yield RenderedMusic(f"{engine} {plan.seed}".encode(), midi, engine, f"{engine}-1", "free", (f"by {engine}",))

    async def master(self, audio: bytes, plan: MusicPlan) -> MasteredMusic:
        self.calls.append(("master", audio))
        faults = self.faults.pop(0) if self.faults else ()
        return MasteredMusic(b"mastered " + audio, plan.duration_s, {"loudness_lufs": -14.0}, faults)

    async def encode(self, audio: bytes) -> EncodedMusic:
        self.calls.append(("encode", audio))
        return EncodedMusic(b"mp3 " + audio, b"flac " + audio)

    def asked(self, method: str) -> list[Any]:
        return [call for call in self.calls if call[0] == method]


class World:
    """A job table, an artefact store, and the two halves of the flow."""

    def __init__(self, folder: Path, engines: tuple[str, ...] = ("composer",)) -> None:
        settings = Settings.from_environment(
            {"SERVE_APP_STATE_DIR": str(folder), "SERVE_APP_MEDIA_ROOT": str(folder), "HOME": str(folder)}
        )
        self.folder = folder
        self.claim: Claim | None = None
        self.media = MediaSource(settings)
        self.store, _ = make_job_table(JobStore)
        self.captioner = Captioner()
        self.generator = Generator()
        models = MusicModels([placed("Captioner", self.captioner)], placed("MusicGenerator", self.generator), engines)
        self.pipeline = MusicPipeline(models, self.media, patience_s=0.0)
        self.flow = self.make_flow(Quota(active=2, per_hour=5))

    def make_flow(self, quota: Quota) -> MusicFlow:
        return MusicFlow(StoredJobs(self.store, self.media, 10), self.media, quota=quota, max_pixels=1_000_000)

    def submit(self, job_id: str = "m", picture: bytes | None = None, visitor: Visitor = ANNA, **fields: Any) -> Any:
        request = MusicRequest(job_id=job_id, **fields)
        upload = io.BytesIO(picture or a_picture()) if "image_url" not in fields else None
        return asyncio.run(self.flow.submit(request, upload, visitor))

    def run(self, claim: Claim | None = None) -> dict[str, Any]:
        """Run a claimed job's steps as a runner does, without ending it."""
        self.claim = claim = claim or self.store.claim("r")
        assert claim is not None
        request = claim.job.request
        assert isinstance(request, MusicRequest)
        steps = DurableSteps(
            self.store, claim, self.store.steps(request.job_id), self.store.step_seconds(request.job_id)
        )
        return asyncio.run(self.pipeline.make(request, steps))

    def complete(self, job_id: str = "m", **fields: Any) -> Job:
        self.submit(job_id, **fields)
        claim = self.store.claim("r")
        assert claim is not None
        return self.store.complete(claim, self.run(claim))

    def published(self, job_id: str = "m") -> dict[str, bytes]:
        """The files that the finished steps of the job name."""
        return {path.name: path.read_bytes() for path in self.files("published", job_id) if path.is_file()}

    def working_files(self, job_id: str = "m") -> set[str]:
        return {path.name for top in ("jobs", "uploads") for path in self.files(top, job_id)}

    def files(self, top: str, job_id: str) -> list[Path]:
        folders = {job_id} | {number_folder(job.number) for job in self.store.known() if job.job_id == job_id}
        root = self.folder / "artifacts" / top
        return [path for name in folders for path in (root / name).rglob("*") if path.is_file()]


def a_picture(color: tuple[int, int, int] = (240, 200, 30), size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_piece_is_made_and_published(world: World) -> None:
    world.submit(duration_s=12.0, seed=7, prompt="calm piano")
    result = world.run()
    assert result["engine_used"] == "composer"
    assert (result["fallback_reason"], result["license"], result["engine_version"]) == (None, "free", "composer-1")
    assert (result["plan"]["seed"], result["plan"]["duration_s"], result["duration"]) == (7, 12.0, 12.0)
    assert result["caption"]["captioner"] == "features"
    assert result["notes"][-1] == "by composer"
    files = world.published()
    assert {name: len(content) for name, content in files.items()} == result["files"]
    assert files["music.mp3"] == b"mp3 mastered composer 7"
    assert files["music.mid"] == b"MThd"
    assert json.loads(files["plan.json"]) == result["plan"]
    assert json.loads(files["caption.json"])["caption_ko"] == result["caption"]["caption_ko"]
    assert set(result["stage_seconds"]) == {"ingest", "caption", "plan", "music", "master", "encode", "publish"}
    progress = [event.payload["progress"] for event in world.store.events("m")]
    assert progress == [5, 10, 25, 30, 80, 90, 95]
    assert json.loads(json.dumps(result)) == result


def test_the_result_has_the_documented_form(world: World) -> None:
    from pydantic import TypeAdapter

    job = world.complete()
    stored = world.store.get(job.job_id).result
    piece = TypeAdapter(MusicPiece).validate_python(stored)
    assert piece.audio_url == "/music/m/audio"


def test_without_a_seed_the_jobs_id_chooses(world: World, tmp_path: Path) -> None:
    world.submit()
    first = world.run()["plan"]["seed"]
    again = World(tmp_path / "again")
    again.submit()
    assert again.run()["plan"]["seed"] == first
    other = World(tmp_path / "other")
    other.submit("n")
    assert other.run()["plan"]["seed"] != first


def test_progress_moves_while_an_engine_works(world: World) -> None:
    world.generator.shares = (0.0, 0.05, 0.2, 0.3, 0.31, 0.8, 0.99, 1.0)
    world.submit()
    world.run()
    progress = [event.payload["progress"] for event in world.store.events("m")]
    assert progress == [5, 10, 25, 30, 40, 45, 70, 79, 80, 90, 95]


class TestDurability:
    STEPS = ("ingest", "caption", "plan", "music/1/start", "music/1", "master/1", "encode", "publish")

    @pytest.mark.parametrize("last", STEPS)
    def test_a_runner_that_dies_after_a_step_leaves_it_done(
        self, world: World, monkeypatch: pytest.MonkeyPatch, last: str
    ) -> None:
        world.submit(seed=3)
        commit = JobStore.commit_step

        class Killed(BaseException):
            pass

        def die(store: JobStore, claim: Claim, name: str, *args: Any, **options: Any) -> None:
            commit(store, claim, name, *args, **options)
            if name == last:
                raise Killed

        monkeypatch.setattr(JobStore, "commit_step", die)
        with pytest.raises(Killed):
            world.run()
        monkeypatch.setattr(JobStore, "commit_step", commit)
        before = list(world.captioner.calls), list(world.generator.calls)
        assert set(world.store.steps("m")) == set(self.STEPS[: self.STEPS.index(last) + 1])
        assert world.claim is not None
        assert world.store.release(world.claim).status == JobStatus.QUEUED
        result = world.run()
        calls = world.captioner.calls + [call[0] for call in world.generator.calls]
        assert calls == ["prepare", "caption", "render", "master", "encode"], before
        assert {name: len(content) for name, content in world.published().items()} == result["files"]

    @pytest.mark.parametrize("emptied", ["published/picture.jpg", "jobs/raw-1.flac", "jobs/mastered-1.flac"])
    def test_a_file_that_is_gone_is_made_again(self, world: World, emptied: str) -> None:
        world.submit(seed=3)
        claim = world.store.claim("r")
        world.run(claim)
        top, name = emptied.split("/")
        [file] = [path for path in world.files(top, "m") if path.name == name]
        file.unlink()
        assert world.run(claim)["files"]["music.mp3"] == len(b"mp3 mastered composer 3")
        assert file.exists()

    def test_an_upload_that_is_gone_is_worth_another_try_and_says_what_is_missing(self, world: World) -> None:
        world.submit()
        [upload] = world.files("uploads", "m")
        upload.unlink()
        with pytest.raises(StorageError, match="gone from the artefact store"):
            world.run()

    def test_a_remote_task_is_asked_for_again_not_begun_again(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("acestep",))
        world.generator.tasks["acestep"] = "task-9"
        world.generator.failures["acestep"] = [Unavailable("the replica is gone")]
        world.submit(seed=1)
        claim = world.store.claim("r")
        with pytest.raises(Unavailable):
            world.run(claim)
        world.run(claim)
        assert world.generator.asked("start") == [("start", "acestep")]
        assert world.generator.asked("render") == [("render", "acestep", 1, "task-9")] * 2


class TestFallBack:
    def test_a_failing_engine_hands_over_to_the_next_and_it_is_told(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("musicgen", "composer"))
        world.generator.failures["musicgen"] = [GpuMemoryError("out of memory")]
        world.submit(seed=3)
        result = world.run()
        assert result["engine_used"] == "composer"
        assert result["fallback_reason"] == "musicgen failed: out of memory"
        assert result["plan"]["seed"] == 3

    def test_a_poor_piece_gets_one_more_seed(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("musicgen", "composer"))
        world.generator.faults = [("it is silent for 20 s",)]
        world.submit(seed=3)
        result = world.run()
        assert result["engine_used"] == "musicgen"
        assert result["plan"]["seed"] != 3
        assert result["fallback_reason"] == "musicgen's piece with seed 3 was rejected: it is silent for 20 s"
        assert world.published()["music.mp3"].decode() == f"mp3 mastered musicgen {result['plan']['seed']}"
        assert "music.mid" not in world.published()

    def test_two_poor_pieces_are_followed_by_the_composers(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("musicgen", "vertex", "composer"))
        world.generator.faults = [("noise",), ("noise",)]
        world.submit()
        assert world.run()["engine_used"] == "composer"
        assert [call[1] for call in world.generator.asked("render")] == ["musicgen", "musicgen", "composer"]

    def test_a_remote_engine_that_is_down_hands_over(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("acestep", "composer"))
        down = ProcessingError("ACE-Step can't be reached")
        down.transient = True  # as of `models.remote_http`, which has tried often enough
        world.generator.failures["acestep"] = [down]
        world.submit()
        assert world.run()["fallback_reason"] == "acestep failed: ACE-Step can't be reached"

    def test_a_failure_is_not_tried_again_by_the_next_runner(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("musicgen", "composer"))
        world.generator.failures = {"musicgen": [MusicRefused("no")], "composer": [Unavailable("gone")]}
        world.submit()
        claim = world.store.claim("r")
        with pytest.raises(Unavailable):
            world.run(claim)
        assert world.run(claim)["fallback_reason"] == "musicgen failed: no"
        assert [call[1] for call in world.generator.asked("render")] == ["musicgen", "composer", "composer"]

    @pytest.mark.parametrize("error", [GpuMemoryError("full"), ModelLoadingError("no weights"), ProcessingError("bug")])
    def test_without_another_engine_the_job_fails_with_the_engines_code(self, tmp_path: Path, error: Any) -> None:
        world = World(tmp_path, ("musicgen",))
        world.generator.failures["musicgen"] = [error]
        world.submit()
        with pytest.raises(type(error), match=f"no engine made a piece: musicgen failed: {shown_reason(error)}"):
            world.run()

    def test_poor_pieces_alone_fail_the_job(self, world: World) -> None:
        world.generator.faults = [("noise",), ("too short",)]
        world.submit(seed=3)
        with pytest.raises(ProcessingError, match=r"seed 3 was rejected: noise; composer's piece .* too short"):
            world.run()

    def test_what_may_pass_is_left_to_the_next_attempt(self, world: World) -> None:
        world.generator.failures["composer"] = [StorageError("disk full")]
        world.submit()
        with pytest.raises(StorageError):
            world.run()
        assert "music/1" not in world.store.steps("m")


class TestPictures:
    def test_an_address_is_fetched(self, world: World) -> None:
        (world.folder / "sun.png").write_bytes(a_picture())
        world.submit(image_url=str(world.folder / "sun.png"))
        assert world.run()["files"]["picture.jpg"] > 0

    def test_another_picture_under_the_same_id_is_a_conflict_and_replaces_nothing(self, world: World) -> None:
        world.submit(picture=a_picture())
        with pytest.raises(JobConflict):
            world.submit(picture=a_picture((1, 2, 3)))
        kept = world.working_files()
        assert world.submit(picture=a_picture()).job.job_id == "m"
        assert world.working_files() == kept
        assert len(kept) == 1
        world.run()

    def test_a_refused_job_leaves_no_upload(self, world: World) -> None:
        with pytest.raises(CallbackRefused):
            world.submit("n", callback_base="http://127.0.0.1:1")
        for job_id in ("a", "b"):
            world.submit(job_id)
        with pytest.raises(QuotaExceeded):
            world.submit("c")
        assert (world.working_files("n"), world.working_files("c")) == (set(), set())

    def test_the_same_picture_under_a_refused_request_stays_with_its_job(self, world: World) -> None:
        world.submit()
        with pytest.raises(JobConflict):
            world.submit(prompt="another request with the same picture")
        assert len(world.working_files()) == 1

    def test_a_request_that_is_repeated_after_the_end_leaves_no_upload(self, world: World) -> None:
        world.complete()
        world.media.discard_job(world.store.get("m"), keep_published=True)  # as the runner does
        assert world.submit().job.status == JobStatus.COMPLETED
        assert world.working_files() == set()

    def test_a_refused_request_takes_no_other_ones_upload(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another request with the same id and picture is refused between this one's upload and its job."""
        submit = JobStore.submit

        def second_first(store: JobStore, *args: Any, **options: Any) -> Job:
            monkeypatch.setattr(JobStore, "submit", submit)
            full = world.make_flow(Quota(active=0, per_hour=1))
            with pytest.raises(QuotaExceeded):
                asyncio.run(full.submit(MusicRequest(job_id="m"), io.BytesIO(a_picture()), BEN))
            return submit(store, *args, **options)

        monkeypatch.setattr(JobStore, "submit", second_first)
        world.submit()
        world.run()

    def test_what_is_no_picture_is_refused_at_once(self, world: World) -> None:
        with pytest.raises(ImageUnreadable):
            world.submit(picture=b"not a picture")
        assert world.working_files() == set()
        assert world.store.queue_depth().queued == 0


class TestPieces:
    def call(self, work: Callable[..., Any], *args: Any) -> Any:
        return asyncio.run(work(*args))

    def test_a_visitor_sees_its_own_alone(self, world: World) -> None:
        world.complete("a")
        world.submit("b", visitor=BEN)
        assert [job.job_id for job in self.call(world.flow.pieces, "anna", 10, None).jobs] == ["a"]
        assert self.call(world.flow.get, "a", "anna").result["engine_used"] == "composer"
        for visitor in ("ben", None):
            for method in (world.flow.get, world.flow.delete):
                with pytest.raises(JobNotFound):
                    self.call(method, "a", visitor)
            with pytest.raises(JobNotFound):
                self.call(world.flow.open, "a", MusicFile.MP3, visitor)
        with pytest.raises(JobNotFound):
            self.call(world.flow.another_version, "a", BEN)

    def test_a_video_job_is_no_piece(self, world: World) -> None:
        world.store.submit(VideoRequest(job_id="v", video_url="https://example.com/v.mp4"), max_queued=None)
        with pytest.raises(JobNotFound, match="No piece of music has the id v"):
            self.call(world.flow.get, "v", "anna")

    def test_files_are_there_once_the_piece_is(self, world: World) -> None:
        world.submit()
        with pytest.raises(JobConflict, match="once it has completed"):
            self.call(world.flow.open, "m", MusicFile.MP3, "anna")
        claim = world.store.claim("r")
        assert claim is not None
        result = world.run(claim)
        # the picture is shown while the music is made
        assert self.call(world.flow.open, "m", MusicFile.PICTURE, "anna").num_bytes == result["files"]["picture.jpg"]
        world.store.complete(claim, result)

        async def read() -> bytes:
            file = await world.flow.open("m", MusicFile.FLAC, "anna")
            return b"".join([chunk async for chunk in file.read(5, file.num_bytes)])

        assert asyncio.run(read()).startswith(b"mastered composer")

    def test_a_piece_without_notes_has_no_midi(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("musicgen",))
        world.complete()
        with pytest.raises(MusicFileMissing, match=r"has no music\.mid"):
            self.call(world.flow.open, "m", MusicFile.MIDI, "anna")

    def test_another_version_has_the_picture_and_another_seed(self, world: World) -> None:
        world.complete(duration_s=9.0, seed=3, prompt="soft")
        again: SubmittedJob = self.call(world.flow.another_version, "m", ANNA)
        request = again.job.request
        assert isinstance(request, MusicRequest)
        assert (request.duration_s, request.prompt, request.version_of) == (9.0, "soft", "m")
        assert request.seed not in (None, 3)
        result = world.run()
        first = world.store.get("m").result
        assert first is not None
        assert result["plan"]["seed"] == request.seed
        assert (result["plan"]["key"], result["plan"]["seed"]) != (first["plan"]["key"], first["plan"]["seed"])  # type: ignore[typeddict-item]

    def test_a_strangers_version_does_not_call_the_first_ones_backend(self, world: World) -> None:
        backend = Visitor("backend", is_known=False)
        world.media.check_callback_base = _allow  # type: ignore[method-assign,assignment]
        world.complete(visitor=backend, callback_base="https://backend.example")
        strangers = self.call(world.flow.another_version, "m", Visitor("stranger", is_known=False))
        assert strangers.job.request.callback_base is None
        own = self.call(world.flow.another_version, "m", Visitor("backend"))
        assert own.job.request.callback_base == "https://backend.example"

    def test_the_next_job_of_an_id_shows_nothing_of_the_one_before(self, world: World) -> None:
        world.complete()
        (left := world.folder / "artifacts" / "published" / "n").mkdir()
        for name in ("picture.jpg", "music.mid"):
            (left / name).write_bytes(b"of another visitor")
        world.submit("n")
        with pytest.raises(MusicFileMissing):
            self.call(world.flow.open, "n", MusicFile.PICTURE, "anna")

    def test_the_record_stays_until_the_files_are_gone(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.complete()

        def fail(*args: Any, **options: Any) -> None:
            raise OSError("the store is down")

        monkeypatch.setattr(world.media, "discard_job", fail)
        with pytest.raises(OSError):
            self.call(world.flow.delete, "m", "anna")
        assert self.call(world.flow.get, "m", "anna").status == JobStatus.COMPLETED

    def test_deleting_removes_record_and_files(self, world: World) -> None:
        world.complete()
        self.call(world.flow.delete, "m", "anna")
        assert (world.published(), world.working_files()) == ({}, set())
        with pytest.raises(JobNotFound):
            self.call(world.flow.get, "m", "anna")

    def test_deleting_what_waits_cancels_it(self, world: World) -> None:
        world.submit()
        self.call(world.flow.delete, "m", "anna")
        assert world.store.claim("r") is None
        assert world.working_files() == set()

    def test_deleting_what_is_in_work_waits_for_its_runner(self, world: World) -> None:
        world.submit()
        claim = world.store.claim("r")
        assert claim is not None

        async def delete() -> None:
            deleting = asyncio.create_task(world.flow.delete("m", "anna"))
            while not await asyncio.to_thread(world.store.renew, claim):
                await asyncio.sleep(0.01)
            assert not deleting.done()
            await asyncio.to_thread(world.store.finish_cancel, claim)
            await deleting

        asyncio.run(delete())
        with pytest.raises(JobNotFound):
            world.store.get("m")


async def _allow(url: str) -> None:
    """Take any callback base: names are not resolved here."""


def test_requests_differ_by_their_options(world: World) -> None:
    job = world.submit(seed=3).job
    assert replace(job.request, seed=4) != job.request
