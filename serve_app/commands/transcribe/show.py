"""A run on a terminal: a bar while it works, and why it waits, then what failed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.table import Table
from rich.text import Text

from serve_app.commands.transcribe.media_files import shown
from serve_app.commands.transcribe.outcome import Failure, Heard, Outcome
from serve_app.commands.transcribe.run import Plan

_MAX_SHOWN_FAILURES = 20
_SAY_EVERY_S = 30.0  # where nothing can move: a log


class RunDisplay:
    """Shows a run; use it as a context manager.

    Args:
        console: where to; on standard error, so that what a script reads stays clean.
        made: what the run has to do.
    """

    def __init__(self, console: Console, made: Plan) -> None:
        self._console = console
        self._total = len(made.todo)
        self._failures: list[Outcome] = []
        self._num_heard = 0
        self._audio_s = 0.0
        self._began_s = self._said_s = time.monotonic()
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeLeftColumn(),
            console=console,
        )
        self._bar: TaskID = self._progress.add_task("", total=self._total, facts="")
        self._waiting = Text(style="yellow", no_wrap=True, overflow="ellipsis")
        self._live = Live(Group(self._progress, self._waiting), console=console)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.plain = ""
        if self._live.is_started:
            self._live.stop()

    @property
    def num_failed(self) -> int:
        """Files that failed in this run."""
        return len(self._failures)

    def ended(self, outcome: Outcome) -> None:
        """Count a file."""
        if isinstance(outcome.end, Heard):
            self._num_heard += 1
            self._audio_s += outcome.end.duration_s
        else:
            self._failures.append(outcome)
        self._progress.update(self._bar, advance=1, facts=self._facts())

    def tick(self, refusals: list[str]) -> None:
        """Show why workers wait; in a log, say now and then how far the run is."""
        self._waiting.plain = _told(refusals)
        if not self._live.is_started and time.monotonic() - self._said_s >= _SAY_EVERY_S:
            self._said_s = time.monotonic()
            done = self._num_heard + self.num_failed
            self._say("; ".join(filter(None, [f"{done}/{self._total}: {self._facts()}", _told(refusals)])))

    def summarise(self, out: Path, made: Plan, failures_file: Path) -> None:
        """Say what was done, and what failed and why."""
        self._say(
            f"{self._num_heard} transcribed{f', {made.num_done} were done already' if made.num_done else ''},"
            f" {self.num_failed + made.num_failed} failed; {self._speed()}"
        )
        if self._failures:
            self._console.print(self._table())
            more = self.num_failed - _MAX_SHOWN_FAILURES
            self._say(f"{f'… and {more} more; all are' if more > 0 else 'They are'} in {failures_file}")
        self._say(f"Results: {out}")

    def _facts(self) -> str:
        return f"{self.num_failed} failed, {self._speed()}" if self.num_failed else self._speed()

    def _speed(self) -> str:
        took_s = max(time.monotonic() - self._began_s, 1e-3)
        return f"{self._audio_s:.0f} s of audio, {self._audio_s / took_s:.1f} s a second"

    def _table(self) -> Table:
        table = Table("file", "error", "why")
        for outcome in sorted(self._failures, key=lambda each: each.name)[:_MAX_SHOWN_FAILURES]:
            if isinstance(outcome.end, Failure):
                table.add_row(*(escape(shown(text)) for text in (outcome.name, outcome.end.code, outcome.end.detail)))
        return table

    def _say(self, text: str) -> None:
        self._console.print(escape(shown(text)), highlight=False, soft_wrap=True)


def _told(refusals: Sequence[str]) -> str:
    """Return what most of the workers that wait were told."""
    if not refusals:
        return ""
    [(told, _)] = Counter(refusals).most_common(1)
    return f"{len(refusals)} waiting: {shown(told)}"
