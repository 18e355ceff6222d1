"""`serve-app drums`: files in, MIDI files, logs and pictures out, one after another."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from serve_app.client import Client
from serve_app.commands.drums.routes import LocalRoute, ServerRoute
from serve_app.commands.each_file import OnProgress, check_names, for_each, make_folder
from serve_app.commands.terminal import echo
from serve_app.commands.whole_file import replace_file
from serve_app.errors import InvalidRequest


def transcribe(arguments: argparse.Namespace) -> int:
    """Transcribe files into a folder; return 0, or 1 if any failed."""
    if arguments.url and (arguments.model or arguments.device):
        raise InvalidRequest("--model and --device are for this machine: a server has its own, so leave out --url")
    files = list(dict.fromkeys(arguments.files))  # a file that is named twice is written once
    check_names(files, ".mid")
    out: Path = arguments.out
    make_folder(out)
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
