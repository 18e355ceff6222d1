"""The run's own rules, with a route of the test's making."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app import errors
from serve_app.commands.transcribe.journal import Journal
from serve_app.commands.transcribe.media_files import Fingerprint, MediaFile
from serve_app.commands.transcribe.outcome import Failure, Heard, Outcome
from serve_app.commands.transcribe.patience import PatientCalls, Stalled, Stopped
from serve_app.commands.transcribe.run import Run, Task, plan
from tests.unit.client.loopback import until

HEARD = Heard("words", "en", 1.0)


class ScriptedRoute:
    """Hears by a function of the file's name."""

    def __init__(self, act: Callable[[str, PatientCalls], Heard]) -> None:
        self.act = act
        self.asked: list[tuple[str, bool]] = []

    def hear(self, file: MediaFile, print_: Fingerprint, calls: PatientCalls, *, again: bool) -> Heard:
        self.asked.append((file.name, again))
        return self.act(file.name, calls)


class Watcher:
    """Notes what it is shown."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def ended(self, outcome: Outcome) -> None:
        self.seen.append(outcome.name)

    def tick(self, refusals: list[str]) -> None:
        pass


class Bench:
    """A run over real files with a scripted route."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self.root = root
        self.journal = journal
        self.calls = PatientCalls()
        self.watcher = Watcher()
        self.num_written = 0
        self.interrupted = threading.Event()
        self.clock_s = 0.0

    def files(self, *names: str) -> list[MediaFile]:
        for name in names:
            (self.root / name).write_text(name)
        return [MediaFile(self.root / name, name) for name in names]

    def run(
        self, names: list[str], act: Callable[[str, PatientCalls], Heard], *, num_workers: int = 2
    ) -> ScriptedRoute:
        route = ScriptedRoute(act)
        run = Run(
            route,
            self.journal,
            self.calls,
            self.watcher,
            self._write,
            num_workers=num_workers,
            clock=lambda: self.clock_s,
        )
        run.work([Task(file) for file in self.files(*names)], self.interrupted)
        return route

    def _write(self) -> None:
        self.num_written += 1

    def ends(self) -> dict[str, Heard | Failure]:
        return {outcome.name: outcome.end for outcome in self.journal.outcomes()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    with Journal(tmp_path / "journal", {}) as journal:
        yield Bench(tmp_path, journal)


def answer(_: str, __: PatientCalls) -> Heard:
    return HEARD


def test_every_end_is_recorded_and_shown(bench: Bench) -> None:
    names = [f"{number:02}" for number in range(20)]
    route = bench.run(names, answer, num_workers=3)
    assert bench.ends() == dict.fromkeys(names, HEARD)
    assert sorted(bench.watcher.seen) == names
    assert sorted(route.asked) == [(name, False) for name in names]
    assert bench.calls.stop.is_set()


def test_nothing_to_do_still_writes(bench: Bench) -> None:
    bench.run([], answer)
    assert bench.num_written == 1


def test_file_that_went_away(bench: Bench) -> None:
    def act(name: str, calls: PatientCalls) -> Heard:
        (bench.root / "b").unlink(missing_ok=True)
        return HEARD

    bench.run(["a", "b", "c"], act, num_workers=1)
    ends = bench.ends()
    assert ends["a"] == ends["c"] == HEARD
    assert ends["b"] == Failure("FILE_UNREADABLE", "the file can't be read: No such file or directory")


def test_results_are_written_at_regular_times(bench: Bench) -> None:
    def act(name: str, calls: PatientCalls) -> Heard:
        bench.clock_s += 31
        return HEARD

    bench.run(["a", "b", "c"], act, num_workers=1)
    assert bench.num_written >= 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.InvalidRequest("no such backend"), "refuses every file: no such backend"),
        (errors.ModelLoadingError("weights gone"), "refuses every file: weights gone"),
        (errors.ServeAppError("answered 401\x1b[2J"), "refuses every file: answered 401\ufffd"),
    ],
)
def test_run_ends_where_every_request_is_refused(bench: Bench, error: errors.ServeAppError, told: str) -> None:
    def act(name: str, calls: PatientCalls) -> Heard:
        raise error

    with pytest.raises(errors.InvalidRequest) as caught:
        bench.run([f"{number:02}" for number in range(40)], act)
    assert told in caught.value.detail
    assert 3 <= len(bench.ends()) <= 7
    assert bench.num_written == 1


def test_refusals_among_answers_are_those_files_own(bench: Bench) -> None:
    def act(name: str, calls: PatientCalls) -> Heard:
        if name == "0":
            return HEARD
        raise errors.InvalidRequest("this one is strange")

    names = [str(number) for number in range(9)]
    bench.run(names, act, num_workers=1)
    assert set(bench.ends()) == set(names)


def test_bad_files_first_do_not_look_like_a_bad_request(bench: Bench) -> None:
    def act(name: str, calls: PatientCalls) -> Heard:
        raise errors.AudioExtractionError("no audio") if name < "5" else errors.InvalidRequest("x")

    names = [str(number) for number in range(9)]
    bench.run(names, act, num_workers=1)
    assert set(bench.ends()) == set(names)


def test_stalled_service_gives_the_run_up(bench: Bench) -> None:
    def act(name: str, calls: PatientCalls) -> Heard:
        if name == "a":
            return HEARD
        raise Stalled(errors.Unavailable("starting"))

    with pytest.raises(errors.Unavailable, match=r"starting.*same command again"):
        bench.run(["a", "b", "c"], act, num_workers=1)
    assert bench.ends() == {"a": HEARD}
    assert bench.num_written == 1


def test_fault_of_our_own_is_not_swallowed(bench: Bench) -> None:
    def act(name: str, calls: PatientCalls) -> Heard:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.run(["a", "b"], act)


def test_interruption_waits_for_nobody_and_keeps_what_has_come(bench: Bench) -> None:
    release = threading.Event()
    stopped = []

    def act(name: str, calls: PatientCalls) -> Heard:
        if name == "a":
            return HEARD
        bench.interrupted.set()
        try:
            calls.pause(60)
        except Stopped:
            stopped.append(name)
            raise
        return HEARD

    with pytest.raises(KeyboardInterrupt):
        bench.run(["a", "b", "c", "d"], act, num_workers=1)
    release.set()
    until(lambda: stopped == ["b"], "the waiting worker let go")
    assert bench.ends() == {"a": HEARD}
    assert bench.num_written == 1


def test_workers_do_not_run_ahead_of_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one write hangs, workers fill the queue and then wait: memory is bounded, and a crash's loss."""
    held, go = threading.Event(), threading.Event()
    real = bench.journal.record

    def slow(outcomes: list[Outcome]) -> None:
        held.set()
        assert go.wait(20)
        real(outcomes)

    monkeypatch.setattr(bench.journal, "record", slow)
    route_done: list[str] = []

    def act(name: str, calls: PatientCalls) -> Heard:
        route_done.append(name)
        return HEARD

    def let_go() -> None:
        held.wait(20)
        until(lambda: len(route_done) >= 5, "the workers went on while the disk did not")
        threading.Event().wait(0.05)  # time to run ahead, if they could
        seen.append(len(route_done))
        go.set()

    seen: list[int] = []
    watcher = threading.Thread(target=let_go)
    watcher.start()
    bench.run([f"{number:02}" for number in range(40)], act, num_workers=2)
    watcher.join()
    assert seen[0] <= 8  # taken by the write: up to 3; in the queue: 2; in the workers' hands: 2
    assert len(bench.ends()) == 40


class TestPlan:
    def test_failures_of_changed_files_are_new_work(self, bench: Bench) -> None:
        def act(name: str, calls: PatientCalls) -> Heard:
            if name == "good":
                return HEARD
            raise errors.ProcessingError("x")

        bench.run(["good", "bad", "changed"], act)
        (bench.root / "changed").write_text("another content")
        files = [MediaFile(bench.root / name, name) for name in ("good", "bad", "changed", "new")]
        (bench.root / "new").write_text("new")
        again = plan(files, bench.journal, skip_failed=False)
        assert [(task.file.name, task.again) for task in again.todo] == [
            ("bad", True),
            ("changed", False),
            ("new", False),
        ]
        assert (again.num_done, again.num_failed) == (1, 0)
        assert "changed" not in bench.ends()

    def test_skip_failed(self, bench: Bench) -> None:
        def act(name: str, calls: PatientCalls) -> Heard:
            raise errors.ProcessingError("x")

        bench.run(["bad"], act)
        made = plan([MediaFile(bench.root / "bad", "bad")], bench.journal, skip_failed=True)
        assert (made.todo, made.num_done, made.num_failed) == ([], 0, 1)

    def test_file_that_can_not_be_read_now_is_left_to_its_worker(self, bench: Bench) -> None:
        bench.run(["a"], answer)
        (bench.root / "a").unlink()
        made = plan([MediaFile(bench.root / "a", "a")], bench.journal, skip_failed=True)
        assert [task.file.name for task in made.todo] == ["a"]
