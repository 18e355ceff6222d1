"""Terminal output: text can do a terminal no harm, and the bar counts files."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from serve_app.commands.terminal import echo, files_progress, printable, reason
from serve_app.errors import AudioExtractionError, ServeAppError


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[2Jclear", "\ufffd[2Jclear"),
        ("a\nb\tc", "a\ufffdb\ufffdc"),
        ("safe\u202egpj.exe", "safe\ufffdgpj.exe"),
        ("\x9b31m", "\ufffd31m"),
        ("노래 été.wav", "노래 été.wav"),
        (os.fsdecode(b"\xff"), "\ufffd"),
    ],
)
def test_terminal_is_safe(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_lines_are_neither_wrapped_nor_read_as_markup() -> None:
    file = io.StringIO()
    line = "[red]x[/red] " * 20 + "\x1b[31m"
    echo(Console(file=file, width=40, force_terminal=True, color_system=None), line, "two")
    assert file.getvalue() == line.replace("\x1b", "\ufffd") + "\ntwo\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bar_counts_files_on_a_terminal_only(is_terminal: bool) -> None:
    file = io.StringIO()
    with files_progress(Console(file=file, force_terminal=is_terminal, width=100, color_system=None)) as progress:
        bar = progress.add_task("two [b].wav", total=3)
        progress.update(bar, completed=1.5)
        progress.refresh()
        written = file.getvalue()
    assert ("1/3" in written) == ("two [b].wav" in written) == is_terminal
    assert bool(file.getvalue()) == is_terminal


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AudioExtractionError("no sound"), "no sound"),
        (ServeAppError(), "INTERNAL_ERROR"),
        (FileNotFoundError(2, "No such file or directory", "a.wav"), "No such file or directory"),
        (OSError("odd"), "odd"),
    ],
)
def test_reasons(error: ServeAppError | OSError, sentence: str) -> None:
    assert reason(error) == sentence
