"""`serve-app transcribe --jobs` over the real HTTP layer: a folder through the job queue."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.cli import main
from serve_app.client import Client
from serve_app.commands.calls import RetryingCalls
from serve_app.commands.transcribe import routes
from serve_app.commands.transcribe.batch import UNREADABLE, Failure, Fingerprint, Transcript, failures_path
from serve_app.commands.transcribe.routes import JobRoute, job_id_of
from serve_app.services import Services
from tests.unit.api.memory_services import RESULT, JobsOnTable, MemoryAnalysis, memory_services
from tests.unit.client.loopback import serving, until


class Runner:
    """Works jobs off, oldest first, as fast as they come; counts what waited together.

    Attributes:
        failing: names of files whose jobs fail.
        most_active: jobs that were not ended together.
    """

    def __init__(self, jobs: JobsOnTable) -> None:
        self.jobs = jobs
        self.failing: set[str] = set()
        self.most_active = 0
        self.num_run = 0
        self.paused = threading.Event()
        self._end = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _work(self) -> None:
        while not self._end.wait(0.002):
            active = [job for job in list(self.jobs.jobs.values()) if not job.status.is_final]
            self.most_active = max(self.most_active, len(active))
            if self.paused.is_set():
                continue
            for job in active:
                name = Path(job.request.video_url).name
                self.jobs.run_start(job.job_id)
                if name in self.failing:
                    self.jobs.run_fail(job.job_id, "DOWNLOAD_ERROR", "404 Not Found")
                else:
                    self.jobs.run_complete(job.job_id, {**RESULT, "text": f"this is {name}"})
                self.num_run += 1


class Batch:
    """A folder, and a service with its runner."""

    def __init__(self, root: Path, services: Services, url: str) -> None:
        self.folder = root / "calls"
        self.folder.mkdir()
        self.out = root / "results.json"
        assert isinstance(services.jobs, JobsOnTable)
        assert isinstance(services.analysis, MemoryAnalysis)
        self.jobs = services.jobs
        self.analysis = services.analysis
        self.runner = Runner(services.jobs)
        self.url = url

    def add(self, *names: str) -> None:
        for name in names:
            (self.folder / name).write_text(name)

    def run(self, *more: str) -> int | str | None:
        with pytest.raises(SystemExit) as caught:
            main(["transcribe", str(self.folder), "--out", str(self.out), "--url", self.url, "--jobs", *more])
        return caught.value.code

    def results(self) -> list[dict[str, object]]:
        return json.loads(self.out.read_text("utf-8"))


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    monkeypatch.setattr(routes, "_POLL_S", 0.02)
    services = memory_services(max_queued=1000)
    with serving(create_app(services, ApiSettings())) as port:
        batch = Batch(tmp_path, services, f"http://127.0.0.1:{port}")
        with batch.runner.running():
            yield batch


def test_a_folder_through_the_queue(batch: Batch) -> None:
    names = [f"{number:03}.wav" for number in range(100)]
    batch.add(*names)
    assert batch.run("--workers", "8", "--language", "ko") == 0
    assert batch.results() == [
        {"file": name, "text": f"this is {name}", "language": "ko", "duration": 120.5} for name in names
    ]
    assert batch.runner.most_active <= 8
    requests = [job.request for job in batch.jobs.jobs.values()]
    assert {request.video_url for request in requests} == {str(batch.folder / name) for name in names}
    assert {(request.language, request.emotion_detection) for request in requests} == {("ko", False)}


def test_speakers_of_jobs_and_of_uploads_are_told_alike(batch: Batch) -> None:
    batch.add("a.wav")
    told = [{"start": 1.5, "end": 3.2, "speaker": "SPEAKER_00", "text": "안녕하세요"}]
    expected = [{"file": "a.wav", "text": "안녕하세요", "language": "ko", "duration": 120.5, "segments": told}]
    assert batch.run("--diarize") == 0
    assert batch.results() == expected
    with pytest.raises(SystemExit) as caught:
        main(["transcribe", str(batch.folder), "--out", f"{batch.out}2", "--url", batch.url, "--diarize"])
    assert caught.value.code == 0
    assert json.loads(Path(f"{batch.out}2").read_text("utf-8")) == expected
    [asked] = batch.analysis.asked
    assert not asked.emotion_detection
    # the same command again has nothing to do, and one without speakers is another batch
    assert batch.run("--diarize") == 0
    assert batch.results() == expected
    assert batch.run() not in (0, None)
    assert batch.runner.num_run == 1


def test_lost_journal_finds_the_same_jobs(batch: Batch) -> None:
    batch.add("a.wav", "b.wav")
    assert batch.run() == 0
    assert batch.run("--start-over") == 0
    assert (len(batch.jobs.jobs), batch.runner.num_run) == (2, 2)


def test_changed_file_is_another_job(batch: Batch) -> None:
    batch.add("a.wav")
    assert batch.run() == 0
    (batch.folder / "a.wav").write_text("changed")
    assert batch.run() == 0
    assert len(batch.jobs.jobs) == 2


def test_failed_job_is_removed_and_run_again(batch: Batch) -> None:
    batch.add("a.wav", "b.wav")
    batch.runner.failing = {"b.wav"}
    assert batch.run() == 1
    [failure] = json.loads(failures_path(batch.out).read_text("utf-8"))
    assert (failure["file"], failure["error_code"]) == ("b.wav", "DOWNLOAD_ERROR")
    assert "404 Not Found" in failure["error"]
    assert batch.run() == 1
    assert batch.runner.num_run == 3
    batch.runner.failing = set()
    assert batch.run() == 0
    assert batch.runner.num_run == 4
    assert [entry["file"] for entry in batch.results()] == ["a.wav", "b.wav"]


def test_job_that_was_made_again_meanwhile_is_followed(batch: Batch) -> None:
    """A run that was killed after it submitted again leaves a failure in the journal, and a job that works."""
    batch.add("b.wav")
    batch.runner.failing = {"b.wav"}
    assert batch.run() == 1
    batch.runner.paused.set()
    [(job_id, job)] = batch.jobs.jobs.items()
    batch.jobs.store.delete(job_id)
    batch.jobs.store.submit(job.request, max_queued=None)
    batch.jobs.run_complete(job_id, {**RESULT, "text": "made meanwhile"})
    assert batch.run() == 0
    assert batch.results()[0]["text"] == "made meanwhile"
    assert batch.runner.num_run == 1


def test_cancelled_job_is_a_failure(batch: Batch) -> None:
    batch.runner.paused.set()
    batch.add("a.wav")

    def cancel() -> None:
        until(lambda: bool(batch.jobs.jobs), "job submitted")
        [job_id] = batch.jobs.jobs
        batch.jobs.store.cancel(job_id)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    assert batch.run() == 1
    canceller.join()
    [failure] = json.loads(failures_path(batch.out).read_text("utf-8"))
    assert (failure["error_code"], failure["error"]) == ("CANCELLED", "the job was cancelled")


def test_full_queue_is_waited_for_as_long_as_it_asks(tmp_path: Path) -> None:
    services = memory_services(max_queued=1)
    jobs = services.jobs
    assert isinstance(jobs, JobsOnTable)
    waits: list[float] = []
    with (
        serving(create_app(services, ApiSettings())) as port,
        Client(f"http://127.0.0.1:{port}") as client,
        ExitStack() as stack,
    ):

        def wait(seconds: float) -> bool:
            """Let the time of a client that waits pass: the other client's job is done meanwhile."""
            waits.append(seconds)
            stack.enter_context(Runner(jobs).running())
            until(lambda: jobs.jobs["before"].status.is_final, "the other client's job")
            return False

        client.submit("another client's", job_id="before")
        route = JobRoute(client, RetryingCalls(wait=wait), language="en", base_url=None)
        end = route.transcribe(FOLDER, NAME, PRINT, again=False)
    assert end == Transcript(f"this is {NAME}", "ko", 120.5)
    assert len(waits) == 1
    assert waits[0] >= 5
    assert list(jobs.jobs) == ["before", job_id_of(PATH, PRINT, "en")]


FOLDER, NAME = Path("/media/calls"), "a b#1.wav"
PATH = str(FOLDER / NAME)
PRINT = Fingerprint(1, 2, "ab" * 32)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (None, "/media/calls/a b#1.wav"),
        ("https://files.example/calls/", "https://files.example/calls/a%20b%231.wav"),
        ("s3://bucket/calls", "s3://bucket/calls/a b#1.wav"),
        ("/srv/media/calls", "/srv/media/calls/a b#1.wav"),
    ],
)
def test_where_the_service_finds_a_file(base_url: str | None, url: str) -> None:
    with Client() as client:
        assert JobRoute(client, RetryingCalls(), "en", base_url).video_url(FOLDER, NAME) == url


def test_name_that_is_no_utf8_can_be_sent_by_http_only() -> None:
    name = "caf\udce9.wav"
    with Client() as client:
        assert JobRoute(client, RetryingCalls(), "en", "http://files").video_url(FOLDER, name) == (
            "http://files/caf%E9.wav"
        )
        for base_url in (None, "s3://bucket"):
            end = JobRoute(client, RetryingCalls(), "en", base_url).transcribe(FOLDER, name, PRINT, again=False)
            assert isinstance(end, Failure)
            assert (end.code, "rename it" in end.detail) == (UNREADABLE, True)


def test_job_id_says_which_request_it_is() -> None:
    ids = [
        job_id_of("a", PRINT, "en"),
        job_id_of("b", PRINT, "en"),
        job_id_of("a", PRINT, "ko"),
        job_id_of("a", Fingerprint(1, 2, "cd" * 32), "en"),
    ]
    assert len({*ids, job_id_of("a", PRINT, "en", 0), job_id_of("a", PRINT, "en", 1)}) == 6
    assert job_id_of("a", Fingerprint(1, 99, "ab" * 32), "en") == ids[0]  # only touched
    assert all(len(job_id) <= 128 and job_id.replace("-", "").isalnum() for job_id in ids)
