"""How far a run over files is, on a terminal, and how a failure is told."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from serve_app.commands.transcribe.media_files import shown
from serve_app.errors import ServeAppError


class FilesBar:
    """How far the files are; where nothing can move, the lines that are said are all."""

    def __init__(self, console: Console, num_files: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._num_files = num_files
        self._done = 0
        self._task = self._progress.add_task("", total=num_files, count=f"0/{num_files}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def begin(self, path: Path) -> None:
        """Turn to a file."""
        self._progress.update(self._task, description=escaped(path))

    def move(self, fraction: float) -> None:
        """Show how much of the file is done, 0 to 1."""
        self._progress.update(self._task, completed=self._done + min(max(fraction, 0.0), 1.0))

    def end(self) -> None:
        """Count a file, however it went."""
        self._done += 1
        self._progress.update(self._task, completed=self._done, count=f"{self._done}/{self._num_files}")

    def say(self, markup: str) -> None:
        """Print a line above the bar."""
        self._console.print(markup, highlight=False, soft_wrap=True)


def sentence(error: ServeAppError | OSError) -> str:
    """Return what a failure is told by."""
    if isinstance(error, ServeAppError):
        return error.detail or error.code
    return error.strerror or str(error)


def escaped(path: Path) -> str:
    """Return a path for rich's markup that can do a terminal no harm."""
    return escape(shown(str(path)))
