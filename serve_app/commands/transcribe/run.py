"""`Run`: transcribes the files of a batch, with a bar and a summary."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from serve_app.commands.calls import is_refusal
from serve_app.commands.terminal import echo, files_progress, printable, reason
from serve_app.commands.transcribe.batch import (
    UNREADABLE,
    Failure,
    Fingerprint,
    Journal,
    Outcome,
    Transcript,
    failures_path,
)
from serve_app.commands.transcribe.report import tell_passed_over
from serve_app.commands.transcribe.routes import JobRoute, UploadRoute
from serve_app.commands.transcribe.search import Found, why_passed_over
from serve_app.errors import InvalidRequest, ModelLoadingError, ServeAppError, Unavailable
from serve_app.sentences import Sentence

_TICK_S = 0.25
_LOG_EVERY_S = 30.0  # where there is no terminal for a bar
_MAX_FAILURES_SHOWN = 20
# The service refuses some requests whatever the file (no such backend, a gateway without its password): if the first
# few failures are of this kind alone, there is no use in sending a thousand.
_NOT_ABOUT_THE_FILE = frozenset({InvalidRequest.code, ModelLoadingError.code, ServeAppError.code})
_REFUSALS_THAT_STOP = 3


@dataclass(frozen=True, slots=True)
class _PassedOver:
    name: str
    why: str


class Run:
    """One run over the files without a transcript in the journal: new, changed and failed ones.

    `route.calls` stop when the run ends, however it ends. With `skip_failed` a failed file is left alone until it
    changes. `show` gets each outcome as it is made.
    """

    def __init__(
        self,
        found: Found,
        route: UploadRoute | JobRoute,
        journal: Journal,
        *,
        skip_failed: bool,
        show: Callable[[Outcome], None] | None = None,
    ) -> None:
        self._found, self._route, self._calls, self._journal = found, route, route.calls, journal
        self._show = show
        self.console = Console(stderr=True)
        self.todo: list[str] = []
        self.failures: list[Failure] = []
        self.num_failed_before = self._num_done_before = self._num_transcribed = 0
        self._failed_before: set[str] = set()
        self._audio_s = 0.0
        self._began_s = time.monotonic()
        self._num_passed_over = 0
        self._ended: queue.SimpleQueue[Outcome | _PassedOver | BaseException] = queue.SimpleQueue()
        self._recording = threading.Lock()
        for name in found.names:
            known = journal.outcomes.get(name)
            if known is None or known.fingerprint is None or not known.fingerprint.matches(found.folder / name):
                journal.outcomes.pop(name, None)  # the results must not show what the file held before
                self.todo.append(name)
            elif isinstance(known.end, Transcript):
                self._num_done_before += 1
            elif skip_failed:
                self.num_failed_before += 1
            else:
                self._failed_before.add(name)
                self.todo.append(name)

    def work(self, num_workers: int) -> None:
        """Transcribe all files; one file's failure is not the others'. An interrupt does not wait for files in work.

        Raises:
            Unavailable: the service refused everything for too long.
            InvalidRequest: the service refuses the request, whatever the file.
        """
        tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in self.todo:
            tasks.put(name)
        # daemons, unlike an executor's threads: Ctrl-C must not wait an hour for an answer
        for number in range(min(num_workers, len(self.todo))):
            threading.Thread(target=self._work_off, args=(tasks,), name=f"batch-{number}", daemon=True).start()
        logged_at_s = time.monotonic()
        with files_progress(self.console) as progress:
            bar = progress.add_task("", total=len(self.todo))
            try:
                while (num_ended := self._num_ended()) < len(self.todo):
                    facts = self._facts()
                    progress.update(bar, completed=num_ended, description=facts)
                    if not self.console.is_terminal and time.monotonic() - logged_at_s >= _LOG_EVERY_S:
                        logged_at_s = time.monotonic()
                        echo(self.console, f"{num_ended}/{len(self.todo)}: {facts}")
                    with contextlib.suppress(queue.Empty):
                        self._count(self._ended.get(timeout=_TICK_S))
            finally:
                with self._recording:  # no worker records anything from here on
                    self._calls.stop.set()

    def _num_ended(self) -> int:
        return self._num_transcribed + len(self.failures) + self._num_passed_over

    def summarise(self, out: Path | None) -> None:
        """Say what was done; `out` is where the results are, None where they went to standard output."""
        tell_passed_over(self.console, self._found)
        done_before = f", {self._num_done_before} were done already" if self._num_done_before else ""
        num_failed = self.num_failed_before + len(self.failures)
        echo(self.console, f"{self._num_transcribed} transcribed{done_before}, {num_failed} failed; {self._speed()}")
        if out is None:
            return
        if self.failures:
            echo(self.console, f"All failures are in {failures_path(out)}; the same command tries them again")
        echo(self.console, f"Results: {out}")

    def _facts(self) -> str:
        failed = f"{len(self.failures)} failed, " if self.failures else ""
        waiting = f"; waiting: {printable(self._calls.refusal)}" if self._calls.refusal else ""
        return f"{failed}{self._speed()}{waiting}"

    def _speed(self) -> str:
        took_s = max(time.monotonic() - self._began_s, 1e-3)
        return f"{self._audio_s:.0f} s of audio, {self._audio_s / took_s:.1f} s a second"

    def _work_off(self, tasks: queue.SimpleQueue[str]) -> None:
        try:
            with contextlib.suppress(queue.Empty, CancelledError):
                while True:
                    outcome = self._outcome(tasks.get_nowait())
                    with self._recording:  # here, where no Ctrl-C interrupts it
                        if self._calls.stop.is_set():
                            return
                        if isinstance(outcome, Outcome):
                            self._journal.record(outcome)
                            if self._show is not None:
                                self._show(outcome)
                    self._ended.put(outcome)
        except BaseException as error:  # ends the run
            self._ended.put(error)

    def _outcome(self, name: str) -> Outcome | _PassedOver:
        fingerprint, path = None, self._found.folder / name
        try:
            if name not in self._found.asked and (why := why_passed_over(path)) is not None:
                return _PassedOver(name, why)
            fingerprint = Fingerprint.of(path)
            if fingerprint.num_bytes == 0:
                return Outcome(name, fingerprint, Failure(UNREADABLE, "the file is empty"))
            end = self._route.transcribe(self._found.folder, name, fingerprint, again=name in self._failed_before)
            return Outcome(name, fingerprint, end)
        except ServeAppError as error:
            if is_refusal(error):
                raise Unavailable(
                    Sentence(
                        "the service refused everything for too long ({reason}); run the same command again to go on",
                        reason=printable(reason(error)),
                    )
                ) from error
            return Outcome(name, fingerprint, Failure(error.code, reason(error)))
        except OSError as error:
            return Outcome(name, fingerprint, Failure(UNREADABLE, f"the file can't be read: {reason(error)}"))

    def _count(self, ended: Outcome | _PassedOver | BaseException) -> None:
        if isinstance(ended, BaseException):
            raise ended
        if isinstance(ended, _PassedOver):
            self._num_passed_over += 1
            self._found.passed_over[ended.name] = ended.why
            return
        if isinstance(ended.end, Transcript):
            self._num_transcribed += 1
            self._audio_s += ended.end.duration_s
            return
        self.failures.append(ended.end)
        if len(self.failures) <= _MAX_FAILURES_SHOWN:
            echo(self.console, f"{ended.name}: {ended.end.detail} ({ended.end.code})", style="red")
        if self._num_transcribed:
            return
        codes = [failure.code for failure in self.failures if failure.code != UNREADABLE]
        if len(codes) >= _REFUSALS_THAT_STOP and _NOT_ABOUT_THE_FILE.issuperset(codes):
            raise InvalidRequest(
                Sentence("the service refuses every file: {reason}", reason=printable(ended.end.detail))
            )
