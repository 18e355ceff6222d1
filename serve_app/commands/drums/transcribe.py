"""`serve-app drums`: files in, MIDI files, logs and pictures out, one after another."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from serve_app.client import Client
from serve_app.commands.drums.routes import LocalRoute, OnProgress, ServerRoute
from serve_app.commands.terminal import echo, files_progress, reason
from serve_app.commands.whole_file import replace_file
from serve_app.errors import InvalidRequest, ServeAppError


def transcribe(arguments: argparse.Namespace) -> int:
    """Transcribe files into a folder; return 0, or 1 if any failed."""
    if arguments.url and (arguments.model or arguments.device):
        raise InvalidRequest("--model and --device are for this machine: a server has its own, so leave out --url")
    files = list(dict.fromkeys(arguments.files))  # a file that is named twice is written once
    _check_names(files)
    out: Path = arguments.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"--out {out}: {reason(error)}") from error
    console = Console(stderr=True)
    with ExitStack() as stack:
        route: LocalRoute | ServerRoute = (
            ServerRoute(stack.enter_context(Client(arguments.url)), arguments)
            if arguments.url
            else LocalRoute(arguments)
        )

        def transcribe_one(path: Path, on_progress: OnProgress) -> None:
            drums = route.transcribe(path, on_progress)
            replace_file(out / f"{path.stem}.txt", drums.log.encode("utf-8", "replace"))
            if drums.picture is not None:
                replace_file(out / f"{path.stem}.png", drums.picture)
            replace_file(out / f"{path.stem}.mid", drums.midi)
            echo(console, f"{path}: {drums.summary}")

        failures = for_each(files, transcribe_one, console)
    echo(console, f"{len(files) - len(failures)} transcribed, {len(failures)} failed: {out}")
    return 1 if failures else 0


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


def _check_names(files: Sequence[Path]) -> None:
    """Refuse files whose results would overwrite each other."""
    by_name: dict[str, Path] = {}
    for path in files:
        # as file systems that ignore case would
        other = by_name.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise InvalidRequest(
                f"{other} and {path} would both be written to {path.stem}.mid: rename one, or give them in two runs "
                "with different --out"
            )
