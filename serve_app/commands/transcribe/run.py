"""One run of a batch: what is left to do, workers that do it, and the thread that writes down what became of it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.commands.transcribe.journal import Journal
from serve_app.commands.transcribe.media_files import Fingerprint, MediaFile, compare, shown, take_fingerprint
from serve_app.commands.transcribe.outcome import UNREADABLE, Failure, Heard, Outcome
from serve_app.commands.transcribe.patience import PatientCalls, Stalled, Stopped
from serve_app.commands.transcribe.routes import FileFailed, Route
from serve_app.errors import InvalidRequest, ModelLoadingError, ServeAppError, Unavailable

_TICK_S = 0.25  # how often what is shown is renewed
_WRITE_EVERY_S = 30.0
# What is not the file's fault (a backend that is not there, a gateway that wants a password) will befall all of them:
# if nothing else comes of the first few, there is no use in sending a thousand.
_NOT_ABOUT_THE_FILE = frozenset({InvalidRequest.code, ModelLoadingError.code, ServeAppError.code})
_REFUSALS_THAT_STOP = 3


@dataclass(frozen=True, slots=True)
class Task:
    """A file that is to be done. `again`: the same content failed in an earlier run."""

    file: MediaFile
    again: bool = False


@dataclass(slots=True)
class Plan:
    """What a run has to do.

    Attributes:
        todo: files to be done, in order.
        num_done: files whose words are known already.
        num_failed: files that failed earlier and are not tried again.
    """

    todo: list[Task] = field(default_factory=list)
    num_done: int = 0
    num_failed: int = 0


class Observer(Protocol):
    """Shows a run to somebody. Called by the run's own thread only."""

    def ended(self, outcome: Outcome) -> None:
        """Show the end of a file, which is on the disk by now."""
        ...

    def tick(self, refusals: list[str]) -> None:
        """Show what the workers that wait were told last; called several times a second."""
        ...


def plan(files: Sequence[MediaFile], journal: Journal, *, skip_failed: bool) -> Plan:
    """Return what is left to do: what is new, changed, or failed.

    Args:
        files: of the folder.
        journal: of the batch; files that were only touched are recorded under their new time.
        skip_failed: whether a failure stands, as long as the file does not change.
    """
    made = Plan()
    touched = {}
    for file in files:
        entry = journal.entry(file.name)
        now = None if entry is None or entry.fingerprint is None else _compare(file, entry.fingerprint)
        if entry is not None and now is not None:
            if now != entry.fingerprint:
                touched[file.name] = now
            if entry.heard:
                made.num_done += 1
                continue
            if skip_failed:
                made.num_failed += 1
                continue
            made.todo.append(Task(file, again=True))
        else:
            journal.forget(file.name)
            made.todo.append(Task(file))
    if touched:
        journal.record(
            Outcome(old.name, touched[old.name], old.end) for old in journal.outcomes() if old.name in touched
        )
    return made


def _compare(file: MediaFile, known: Fingerprint) -> Fingerprint | None:
    try:
        return compare(file.path, known)
    except OSError:
        return None  # the worker that tries to send it tells why


class Run:
    """A run over what a plan left to do. Used once.

    Args:
        route: how a file is put into words.
        journal: where its end is written.
        calls: how the service is called; its `stop` is set when the run ends, however it ends.
        observer: who is shown.
        write_results: called now and then, and at the end.
        num_workers: files in work at once.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        route: Route,
        journal: Journal,
        calls: PatientCalls,
        observer: Observer,
        write_results: Callable[[], None],
        *,
        num_workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._route = route
        self._journal = journal
        self._calls = calls
        self._observer = observer
        self._write_results = write_results
        self._num_workers = num_workers
        self._clock = clock
        # a worker can't run ahead of what is on the disk by more than one file
        self._ended: queue.Queue[Outcome | BaseException] = queue.Queue(maxsize=num_workers)
        self._taking = threading.Lock()
        self._num_refused = 0
        self._any_accepted = False

    def work(self, todo: Sequence[Task], interrupted: threading.Event) -> None:
        """Do all tasks; one file's failure is not the others'.

        Args:
            todo: the tasks.
            interrupted: ends the run once it is set, without waiting for the files in work.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            Unavailable: the service refused everything for too long.
            InvalidRequest: it refuses what is asked of it, whatever the file.
            OSError: the journal or the results can't be written.
        """
        tasks = iter(todo)
        # daemons: an answer may take an hour, and who presses Ctrl-C does not wait for it
        workers = [
            threading.Thread(target=self._do_all, args=(tasks,), name=f"batch-{number}", daemon=True)
            for number in range(min(self._num_workers, len(todo)))
        ]
        left = len(todo)
        written_at_s = self._clock()
        try:
            for worker in workers:
                worker.start()
            while left:
                left -= self._record(self._collect())
                if interrupted.is_set():
                    raise KeyboardInterrupt
                self._observer.tick(self._calls.refusals)
                if self._clock() - written_at_s >= _WRITE_EVERY_S:
                    self._write_results()
                    written_at_s = self._clock()
        finally:
            self._calls.stop.set()
            self._record(self._arrived(), may_raise=False)
            self._write_results()

    def _collect(self) -> list[Outcome | BaseException]:
        """Wait a moment for the end of a file, and return all that have come: they share one write to the disk."""
        try:
            first = self._ended.get(timeout=_TICK_S)
        except queue.Empty:
            return []
        return [first, *self._arrived()]

    def _arrived(self) -> list[Outcome | BaseException]:
        """Return what waits in the queue; no more than it holds, for the workers go on filling it."""
        arrived = []
        with contextlib.suppress(queue.Empty):
            for _ in range(self._num_workers):
                arrived.append(self._ended.get_nowait())  # noqa: PERF401 - what came before the end is kept
        return arrived

    def _record(self, arrived: list[Outcome | BaseException], *, may_raise: bool = True) -> int:
        outcomes = [each for each in arrived if isinstance(each, Outcome)]
        if outcomes:
            self._journal.record(outcomes)
        for outcome in outcomes:
            self._observer.ended(outcome)
        if may_raise:
            for each in arrived:
                if isinstance(each, Stalled):
                    raise Unavailable(
                        f"the service has refused everything for too long ({shown(each.refusal.detail)});"
                        " run the same command again to go on"
                    ) from each
                if isinstance(each, BaseException):
                    raise each
            for outcome in outcomes:
                self._check_refusal(outcome.end)
        return len(outcomes)

    def _check_refusal(self, end: Heard | Failure) -> None:
        """Stop a run whose every request is refused as such."""
        if isinstance(end, Heard) or end.code not in {UNREADABLE, *_NOT_ABOUT_THE_FILE}:
            self._any_accepted = True
        elif end.code != UNREADABLE:
            self._num_refused += 1
        if self._num_refused >= _REFUSALS_THAT_STOP and not self._any_accepted and isinstance(end, Failure):
            raise InvalidRequest(f"the service refuses every file: {shown(end.detail)}")

    def _do_all(self, tasks: Iterator[Task]) -> None:
        try:
            while not self._calls.stop.is_set():
                with self._taking:
                    task = next(tasks, None)
                if task is None:
                    return
                self._ended.put(self._do(task))
        except Stopped:
            return
        except BaseException as error:  # a worker has nobody else to tell: the run ends with it
            self._ended.put(error)

    def _do(self, task: Task) -> Outcome:
        print_ = None
        try:
            print_ = take_fingerprint(task.file.path)
            if print_.num_bytes == 0:
                raise FileFailed(Failure(UNREADABLE, "the file is empty"))
            return Outcome(task.file.name, print_, self._route.hear(task.file, print_, self._calls, again=task.again))
        except FileFailed as error:
            return Outcome(task.file.name, print_, error.failure)
        except (ServeAppError, OSError) as error:
            return Outcome(task.file.name, print_, Failure.of(error))
