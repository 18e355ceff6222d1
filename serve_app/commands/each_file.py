"""`for_each`: one file after another, with a bar; and checks of a command's files and its folder for results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from serve_app.commands.terminal import echo, files_progress, reason
from serve_app.errors import InvalidRequest, ServeAppError

OnProgress = Callable[[float], None]
"""Gets the share of a file's work that is done, between 0 and 1."""


def for_each(files: Sequence[Path], act: Callable[[Path, OnProgress], None], console: Console) -> Mapping[Path, str]:
    """Call `act` with each file, and show a bar; return and print the reasons of failures."""
    failures = {}
    with files_progress(console) as progress:
        bar = progress.add_task("", total=len(files))
        for number, path in enumerate(files):
            progress.update(bar, completed=number, description=path.name)
            try:
                act(path, lambda share: progress.update(bar, completed=number + min(share, 1.0)))  # noqa: B023
            except (ServeAppError, OSError) as error:
                failures[path] = reason(error)
                echo(console, f"{path}: {failures[path]}", style="red")
    return failures


def check_names(files: Sequence[Path], suffix: str) -> None:
    """Refuse files whose results, named after them with this suffix, would overwrite each other; InvalidRequest."""
    by_name: dict[str, Path] = {}
    for path in files:
        # as file systems that ignore case would
        other = by_name.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise InvalidRequest(
                f"{other} and {path} would both be written to {path.stem}{suffix}: rename one, or give them in two "
                "runs with different --out"
            )


def make_folder(out: Path) -> None:
    """Make the folder that `--out` names, unless it is there; InvalidRequest."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"--out {out}: {reason(error)}") from error
