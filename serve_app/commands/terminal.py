"""Terminal output of the commands: safe text, unwrapped lines, and a bar that counts files."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from serve_app.errors import ServeAppError


def printable(text: str) -> str:
    """Replace control, direction and other invisible characters, which could change what a terminal shows."""
    return "".join("\ufffd" if unicodedata.category(char)[0] == "C" else char for char in text)


def echo(console: Console, *lines: str, style: str | None = None) -> None:
    """Print lines without markup, and unwrapped so that a script can read them."""
    for line in lines:
        console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)


def stdout_console() -> Console:
    """Return the console of standard output; wide where that is no terminal: a script must not read cut tables."""
    return Console() if sys.stdout.isatty() else Console(width=240)


def short_path(path: Path) -> str:
    """Return a path with `~` for the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def reason(error: ServeAppError | OSError) -> str:
    """Return the sentence that explains a failure."""
    if isinstance(error, ServeAppError):
        return error.detail or error.code
    return error.strerror or str(error)


def files_progress(console: Console) -> Progress:
    """Return a bar that counts files; it draws nothing where there is no terminal."""
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
