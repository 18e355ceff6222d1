"""`serve-app transcribe` over real HTTP: what it writes, what it does again, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.responses import Response
from filelock import FileLock

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.cli import main
from serve_app.commands import calls
from serve_app.commands.transcribe import run
from serve_app.commands.transcribe.batch import failures_path
from serve_app.commands.transcribe.routes import UploadRoute
from tests.unit.api.memory_services import MemorySpeech, memory_services
from tests.unit.client.loopback import serving, until
from tests.unit.commands.transcribe.stand_in import StandIn, refused
from tests.unit.media.media_files import tone, wav

PROJECT = Path(__file__).parents[4]
START_S = 120.0  # a process of its own imports for a second of CPU time, which a busy machine may take long to find
NO_AUDIO = "AUDIO_EXTRACTION_ERROR"


class Batch:
    """A folder, an out file, and a service."""

    def __init__(self, root: Path, service: StandIn, url: str) -> None:
        self.folder = root / "calls"
        self.folder.mkdir()
        self.out = root / "results.json"
        self.journal = root / "results.json.journal"
        self.service = service
        self.url = url

    def add(self, *names: str) -> None:
        """Make files that say their names."""
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"this is {name}")

    def arguments(self, *more: str) -> list[str]:
        return ["transcribe", str(self.folder), "--out", str(self.out), "--url", self.url, *more]

    def run(self, *more: str) -> int | str | None:
        """Run the command here and return what it exits with."""
        with pytest.raises(SystemExit) as caught:
            main(self.arguments(*more))
        return caught.value.code

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start the command as a process of its own."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "serve_app", *self.arguments(*more)],
            cwd=PROJECT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def results(self) -> dict[str, str]:
        return {entry["file"]: entry["text"] for entry in json.loads(self.out.read_text("utf-8"))}

    def failures(self) -> dict[str, str]:
        return {entry["file"]: entry["error_code"] for entry in json.loads(failures_path(self.out).read_text("utf-8"))}

    def recorded(self) -> list[str]:
        """Return the files that the journal holds by now, in the order of their ends."""
        if not self.journal.exists():
            return []
        whole = [line for line in self.journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return [json.loads(line)["name"] for line in whole[1:]]


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    service = StandIn()
    with serving(service.app) as port:
        yield Batch(tmp_path, service, f"http://127.0.0.1:{port}")
        service.open.set()


def peak_memory_kib(pid: int) -> int:
    """Return the largest resident size so far of what a process runs; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) if found else 0


class TestWhatItWrites:
    def test_old_form_sorted_by_file(self, batch: Batch) -> None:
        batch.add("c.wav", "나.mp3", "a b.wav", "sub/d.wav")
        assert batch.run("--language", "ko", "--backend", "openai-whisper", "--recursive") == 0
        assert json.loads(batch.out.read_text("utf-8")) == [
            {"file": name, "text": f"this is {name}", "language": "ko", "duration": 2.0}
            for name in ["a b.wav", "c.wav", "sub/d.wav", "나.mp3"]
        ]
        assert batch.service.fields == {"language": "ko", "backend": "openai-whisper"}
        assert batch.service.sent == {"a b.wav": 1, "c.wav": 1, "d.wav": 1, "나.mp3": 1}
        assert not failures_path(batch.out).exists()

    def test_without_a_backend_none_is_sent(self, batch: Batch) -> None:
        batch.add("a.wav")
        assert batch.run() == 0
        assert batch.service.fields == {"language": "auto", "backend": None}

    def test_against_the_real_http_layer(self, batch: Batch) -> None:
        batch.add("a.wav", "b.wav")
        services = memory_services()
        with serving(create_app(services, ApiSettings())) as port:
            batch.url = f"http://127.0.0.1:{port}"
            assert batch.run("--language", "en", "--backend", "transformers") == 0
        speech = services.speech
        assert isinstance(speech, MemorySpeech)
        assert sorted(speech.contents) == [b"this is a.wav", b"this is b.wav"]
        assert {(asked.language, asked.backend) for asked in speech.asked} == {("en", "transformers")}
        words = [word for segment in speech.transcript.segments for word in segment.text.split()]
        assert {name: text.split() for name, text in batch.results().items()} == {"a.wav": words, "b.wav": words}

    def test_pattern(self, batch: Batch) -> None:
        batch.add("a.wav", "b.mp3", "c.raw")
        assert batch.run("--glob", "*.raw") == 0
        assert set(batch.results()) == {"c.raw"}

    def test_the_content_decides_and_the_rest_is_listed(self, batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
        (batch.folder / "sub").mkdir()
        (batch.folder / "sub" / "talk").write_bytes(wav(tone(0.1)))
        (batch.folder / "minutes.wav.txt").write_text("what was said")
        (batch.folder / ".DS_Store").write_bytes(b"x")
        (batch.folder / "away.wav").symlink_to(batch.folder / "gone.wav")
        assert "--recursive" in str(batch.run())
        batch.out.unlink()
        assert batch.run("--recursive", "--start-over") == 0
        assert set(batch.results()) == {"sub/talk"}
        told = capsys.readouterr().err
        assert "minutes.wav.txt: The file is not media" in told
        assert "away.wav: a link that leads nowhere" in told
        assert "Hidden files and folders, left out: 1" in told
        assert batch.run("--recursive") == 0
        assert batch.service.sent == {"talk": 1}  # resumes; what was passed over is told again
        assert "minutes.wav.txt: " in capsys.readouterr().err

    def test_standard_output(self, batch: Batch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        batch.add("가.wav", "b.mp3", "b.wav", "bad.wav")
        batch.service.answer = lambda name, content: refused(422, NO_AUDIO, "no sound") if name == "bad.wav" else None
        name = unicodedata.normalize("NFD", "가.wav")
        (batch.folder / name).write_text("composed otherwise")

        def run(*sources: str) -> tuple[object, bytes]:
            with pytest.raises(SystemExit) as caught:
                main(["transcribe", *sources, "--output", "-", "--url", batch.url])
            return caught.value.code, capfdbinary.readouterr().out

        code, out = run(str(batch.folder))
        entries = [json.loads(line) for line in out.decode().splitlines()]
        assert code == 1
        assert {entry["file"]: entry.get("text", entry.get("error_code")) for entry in entries} == {
            "b.mp3": "this is b.mp3",
            "b.wav": "this is b.wav",
            "bad.wav": NO_AUDIO,
            "가.wav": "this is 가.wav",
            name: "composed otherwise",
        }
        assert len(entries) == 5
        assert run(str(batch.folder / "b.wav")) == (0, b"this is b.wav\n")
        assert run(str(batch.folder / "bad.wav")) == (1, b"")
        code, out = run(str(batch.folder / "b.wav"), str(batch.folder / "b.mp3"), str(batch.folder / "b.wav"))
        assert (code, len(out.splitlines())) == (0, 2)
        assert sorted(path.name for path in batch.folder.parent.iterdir()) == ["calls"]

    def test_the_audio_track_is_sent(self, batch: Batch) -> None:
        batch.add("a.wav")
        assert batch.run("--audio-track", "1") == 0
        assert batch.service.fields["audio_track"] == 1
        assert "was begun with audio_track '1', not None" in str(batch.run())

    def test_no_more_at_once_than_workers(self, batch: Batch) -> None:
        batch.add(*(f"{number:02}.wav" for number in range(30)))
        assert batch.run("--workers", "3") == 0
        assert 1 <= batch.service.most_at_once <= 3

    def test_one_failure_is_not_the_others(self, batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
        batch.add(*(f"{number}.wav" for number in range(6)))
        (batch.folder / "empty.wav").write_bytes(b"")
        (batch.folder / "\x1b[31mred.wav").write_text("noise")

        def answer(name: str, content: bytes) -> Response | None:
            if name == "3.wav":
                return refused(500, "PROCESSING_ERROR", "the model \x1b[2J failed")
            return refused(422, NO_AUDIO, "no audio track") if content == b"noise" else None

        batch.service.answer = answer
        assert batch.run() == 1
        assert set(batch.results()) == {"0.wav", "1.wav", "2.wav", "4.wav", "5.wav"}
        assert batch.failures() == {
            "3.wav": "PROCESSING_ERROR",
            "\x1b[31mred.wav": NO_AUDIO,
            "empty.wav": "FILE_UNREADABLE",
        }
        assert "empty.wav" not in batch.service.sent
        told = capsys.readouterr().err
        assert "5 transcribed, 3 failed" in told
        assert "no audio track" in told
        assert "\x1b[2J" not in told
        assert "\x1b[31m" not in told

    def test_long_list_of_failures_is_cut_and_names_the_file_with_the_rest(
        self, batch: Batch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = [f"{number:02}.wav" for number in range(30)]
        batch.add(*names)
        batch.service.answer = lambda name, content: refused(422, NO_AUDIO, "[red]no[/red]")
        assert batch.run("--workers", "8") == 1
        err = capsys.readouterr().err
        assert sum(f"{name}: " in err for name in names) == 20
        assert f"All failures are in {failures_path(batch.out)}" in err
        assert "[red]no[/red]" in err

    def test_log_says_now_and_then_how_far_it_is(
        self, batch: Batch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run, "_LOG_EVERY_S", 0.0)
        batch.add("a.wav", "b.wav")
        batch.service.answer = lambda name, content: (
            refused(429, "OVERLOADED", "queue \x1b[2J[bold]full", retry_after="1")
            if name == "b.wav" and batch.service.sent[name] == 1
            else None
        )
        assert batch.run("--workers", "1") == 0
        err = capsys.readouterr().err
        assert re.search(r"^1/2: 2 s of audio, \d+\.\d s a second; waiting: queue \ufffd\[2J\[bold\]full$", err, re.M)
        assert "2 transcribed, 0 failed; 4 s of audio" in err

    def test_names_of_any_bytes(self, batch: Batch) -> None:
        for raw in (b"caf\xe9.wav", b'q"uote\n.wav'):
            Path(os.fsdecode(os.fsencode(batch.folder) + b"/" + raw)).write_text("x")
        assert batch.run() == 0
        assert batch.results() == {"caf\\xe9.wav": "x", 'q"uote\n.wav': "x"}
        assert sum(batch.service.sent.values()) == 2

    @pytest.mark.slow
    def test_thousand_files(self, batch: Batch) -> None:
        """Memory does not grow with the files: the process's peak is that of its libraries."""
        names = [f"{number:04}.wav" for number in range(1000)]
        batch.add(*names)
        process = batch.start("--workers", "8")
        # not wait4's ru_maxrss: that begins with this process's own size, from which the other was forked
        peak_kib = 0
        while process.poll() is None:
            peak_kib = max(peak_kib, peak_memory_kib(process.pid))
            time.sleep(0.02)
        assert process.returncode == 0, process.communicate()[1]
        process.communicate()
        assert list(batch.results()) == names
        assert batch.service.sent == dict.fromkeys(names, 1)
        assert 10_000 < peak_kib < 120_000


class TestGoingOn:
    def test_what_is_done_is_not_sent_again(self, batch: Batch) -> None:
        batch.add("a.wav", "b.wav")
        assert batch.run() == 0
        before = batch.out.read_bytes()
        batch.out.unlink()
        assert batch.run() == 0
        assert batch.service.sent == {"a.wav": 1, "b.wav": 1}
        assert batch.out.read_bytes() == before

    def test_new_and_changed_files_are_sent_touched_ones_are_not(self, batch: Batch) -> None:
        batch.add("same.wav", "touched.wav", "changed.wav", "gone.wav")
        assert batch.run() == 0
        (batch.folder / "changed.wav").write_text("THIS IS changed.wav")  # of the same size
        os.utime(batch.folder / "changed.wav", ns=(1, 1))
        os.utime(batch.folder / "touched.wav", ns=(1, 1))
        (batch.folder / "gone.wav").unlink()
        batch.add("new.wav")
        assert batch.run() == 0
        assert batch.service.sent == {"same.wav": 1, "touched.wav": 1, "changed.wav": 2, "gone.wav": 1, "new.wav": 1}
        assert batch.results() == {
            "changed.wav": "THIS IS changed.wav",
            "gone.wav": "this is gone.wav",  # what was heard stays heard
            "new.wav": "this is new.wav",
            "same.wav": "this is same.wav",
            "touched.wav": "this is touched.wav",
        }

    def test_failures_are_tried_again_unless_told_otherwise(self, batch: Batch) -> None:
        batch.add("a.wav", "b.wav")
        batch.service.answer = lambda name, content: refused(422, NO_AUDIO, "x") if name == "b.wav" else None
        assert batch.run() == 1
        assert batch.run("--skip-failed") == 1  # it is not done, after all
        assert batch.service.sent == {"a.wav": 1, "b.wav": 1}
        (batch.folder / "b.wav").write_text("changed: new work")
        assert batch.run("--skip-failed") == 1
        assert batch.service.sent == {"a.wav": 1, "b.wav": 2}
        batch.service.answer = lambda name, content: None
        assert batch.run() == 0
        assert batch.service.sent == {"a.wav": 1, "b.wav": 3}
        assert not failures_path(batch.out).exists()

    def test_start_over(self, batch: Batch) -> None:
        batch.add("a.wav")
        assert batch.run() == 0
        assert batch.run("--start-over", "--language", "ko") == 0
        assert batch.service.sent == {"a.wav": 2}

    @pytest.mark.parametrize(("num_before", "flowing"), [(1, False), (20, False), (30, True)])
    def test_kill_9_in_the_middle(self, batch: Batch, num_before: int, flowing: bool) -> None:
        """Nothing that was recorded is sent again, nothing is lost, whenever the process dies.

        It dies while it waits for answers, or while they come in and are written down.
        """
        num_workers = 4
        names = [f"{number:03}.wav" for number in range(300 if flowing else 24)]
        batch.add(*names)
        answered = threading.Semaphore(len(names) if flowing else num_before)

        def answer(name: str, content: bytes) -> None:
            answered.acquire(timeout=60)

        batch.service.answer = answer  # type: ignore[assignment]
        process = batch.start("--workers", str(num_workers))
        try:
            until(lambda: len(batch.recorded()) >= num_before, "some files recorded", within_s=START_S)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        recorded = set(batch.recorded())
        assert num_before <= len(recorded) < len(names)
        batch.service.answer = lambda name, content: None
        answered.release(100)
        assert batch.run("--workers", str(num_workers)) == 0
        assert batch.results() == {name: f"this is {name}" for name in names}
        assert {name: batch.service.sent[name] for name in recorded} == dict.fromkeys(recorded, 1)
        assert all(1 <= batch.service.sent[name] <= 2 for name in names)
        assert sum(batch.service.sent.values()) - len(names) <= num_workers  # what was in work, and nothing else

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c(self, batch: Batch, signal_number: int) -> None:
        names = [f"{number}.wav" for number in range(8)]
        batch.add(*names)
        gate = threading.Event()

        def answer(name: str, content: bytes) -> None:
            if name not in ("0.wav", "1.wav"):
                gate.wait(60)

        batch.service.answer = answer  # type: ignore[assignment]
        process = batch.start("--workers", "2")
        try:
            until(lambda: len(batch.recorded()) == 2, "two files recorded", within_s=START_S)
            process.send_signal(signal_number)
            _, told = process.communicate(timeout=START_S)  # uploads in flight are not waited for
        finally:
            process.kill()
            gate.set()
        assert process.returncode == 130, told
        assert "goes on from here" in told
        assert set(batch.results()) == {"0.wav", "1.wav"}
        batch.service.answer = lambda name, content: None
        assert batch.run() == 0
        assert set(batch.results()) == set(names)
        assert (batch.service.sent["0.wav"], batch.service.sent["1.wav"]) == (1, 1)


class TestRefusals:
    def test_retry_after_is_waited_for(self, batch: Batch) -> None:
        batch.add("a.wav", "b.wav")
        batch.service.answer = lambda name, content: (
            refused(503, "PROCESSING_ERROR", "busy", retry_after="1") if batch.service.sent[name] == 1 else None
        )
        assert batch.run() == 0
        assert batch.service.sent == {"a.wav": 2, "b.wav": 2}

    def test_what_is_no_files_fault_stops_the_run(self, batch: Batch) -> None:
        batch.add(*(f"{number:02}.wav" for number in range(50)))
        batch.service.answer = lambda name, content: refused(422, "INVALID_REQUEST", "deployed: faster-whisper")
        told = batch.run("--backend", "none-such", "--workers", "2")
        assert "refuses every file: deployed: faster-whisper" in str(told)
        assert sum(batch.service.sent.values()) < 10
        assert batch.results() == {}

    @pytest.mark.parametrize(
        ("status", "code"), [(503, "MODEL_LOADING_ERROR"), (401, "UNAUTHORIZED"), (422, "INVALID_REQUEST")]
    )
    def test_refusals_among_answers_are_those_files_own(self, batch: Batch, status: int, code: str) -> None:
        batch.add(*(f"{number}.wav" for number in range(9)))
        batch.service.answer = lambda name, content: refused(status, code, "x") if name != "0.wav" else None
        assert batch.run("--workers", "1") == 1
        assert (len(batch.results()), len(batch.failures())) == (1, 8)

    def test_bad_files_first_do_not_look_like_a_bad_request(self, batch: Batch) -> None:
        batch.add(*(f"{number}.wav" for number in range(9)))
        batch.service.answer = lambda name, content: (
            refused(422, NO_AUDIO, "x") if name < "5" else refused(422, "INVALID_REQUEST", "x")
        )
        assert batch.run("--workers", "1") == 1
        assert len(batch.failures()) == 9

    def test_service_that_refuses_everything_ends_the_run(self, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calls, "_MAX_SILENCE_S", 0.2)
        batch.add(*(f"{number}.wav" for number in range(9)))
        batch.service.answer = lambda name, content: (
            refused(503, "PROCESSING_ERROR", "starting", retry_after="0") if name != "0.wav" else None
        )
        message = str(batch.run("--workers", "1"))
        assert "starting" in message
        assert "same command again" in message
        assert set(batch.results()) == {"0.wav"}
        batch.service.answer = lambda name, content: None
        assert batch.run() == 0
        assert batch.service.sent["0.wav"] == 1

    def test_file_that_goes_away_meanwhile_fails_alone(self, batch: Batch) -> None:
        batch.add("a.wav", "b.wav", "c.wav")

        def answer(name: str, content: bytes) -> None:
            (batch.folder / "b.wav").unlink(missing_ok=True)

        batch.service.answer = answer  # type: ignore[assignment]
        assert batch.run("--workers", "1") == 1
        assert set(batch.results()) == {"a.wav", "c.wav"}
        assert batch.failures() == {"b.wav": "FILE_UNREADABLE"}

    def test_bug_of_ours_ends_the_run(self, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        batch.add("a.wav", "b.wav")
        monkeypatch.setattr(UploadRoute, "transcribe", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(batch.arguments())

    def test_nobody_listens(self, batch: Batch) -> None:
        batch.add("a.wav")
        batch.url = "http://127.0.0.1:9"
        assert "can't be reached" in str(batch.run())

    def test_one_run_at_a_time(self, batch: Batch) -> None:
        batch.add("a.wav")
        with FileLock(batch.out.with_name("results.json.lock")):
            assert "another run writes to" in str(batch.run())
        assert batch.service.sent == {}
        assert batch.run() == 0

    def test_file_that_is_not_ours_is_not_overwritten(self, batch: Batch) -> None:
        batch.add("a.wav")
        batch.out.write_text('[{"file": "precious"}]')
        assert "no journal lists its files" in str(batch.run())
        assert "precious" in batch.out.read_text()
        assert batch.run("--start-over") == 0
        assert set(batch.results()) == {"a.wav"}

    def test_other_options_on_the_same_out(self, batch: Batch) -> None:
        batch.add("a.wav")
        assert batch.run() == 0
        assert "begun with language 'auto', not 'ko'" in str(batch.run("--language", "ko"))
        shutil.copytree(batch.folder, batch.folder.with_name("other"))
        batch.folder = batch.folder.with_name("other")
        assert "begun with folder" in str(batch.run())

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--workers", "0"], 2),
            (["--workers", "65"], 2),
            (["--timeout", "0"], 2),
            (["--timeout", "nan"], 2),
            (["--base-url", "http://x"], "--base-url is for --jobs"),
            (["--jobs", "--backend", "x"], "leave it out"),
            (["--glob", "*.none"], "no file that matches"),
            (["--out", "/nowhere/r.json"], "a folder that exists"),
        ],
    )
    def test_wrong_calls(self, batch: Batch, options: list[str], told: str | int) -> None:
        batch.add("a.wav")
        exit_code = batch.run(*options)
        assert exit_code == told if isinstance(told, int) else told in str(exit_code)
        assert batch.service.sent == {}

    def test_not_a_folder_and_an_empty_one(self, batch: Batch) -> None:
        assert "--recursive" in str(batch.run())
        batch.folder.rmdir()
        assert "is not a folder" in str(batch.run())
