"""The bar, on a terminal and in a log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from serve_app.commands.drums.progress import FilesBar, escaped, sentence
from serve_app.errors import AudioExtractionError, ServeAppError


def shown(*, is_terminal: bool) -> str:
    """Return what a run over two files prints, one of which fails."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=100, color_system=None)
    with FilesBar(console, 2) as bar:
        bar.begin(Path("one.wav"))
        bar.move(0.5)
        bar._progress.refresh()
        bar.say("one.wav: done")
        bar.end()
        bar.begin(Path("two [b].wav"))
        bar.move(7.0)  # nonsense moves it to the end of the file, not beyond
        bar._progress.refresh()
    return file.getvalue()


def test_terminal() -> None:
    text = shown(is_terminal=True)
    assert " 25%" in text
    assert "0/2" in text
    assert "100%" in text
    assert "two [b].wav" in text
    assert "one.wav: done" in text


def test_log_has_lines_only() -> None:
    assert shown(is_terminal=False) == "one.wav: done\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AudioExtractionError("no sound"), "no sound"),
        (ServeAppError(), "INTERNAL_ERROR"),
        (FileNotFoundError(2, "No such file or directory", "a.wav"), "No such file or directory"),
        (OSError("odd"), "odd"),
    ],
)
def test_failures(error: ServeAppError | OSError, told: str) -> None:
    assert sentence(error) == told


def test_names_do_a_terminal_no_harm() -> None:
    assert escaped(Path("[red]\x1b[2J.wav")) == "\\[red]\ufffd[2J.wav"
