"""`serve-app music`: pictures in, music out, one after another."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from serve_app.client import Client
from serve_app.commands.each_file import OnProgress, check_names, for_each, make_folder
from serve_app.commands.music.routes import LocalRoute, Order, ServerRoute
from serve_app.commands.terminal import echo
from serve_app.commands.whole_file import replace_file
from serve_app.errors import InvalidRequest
from serve_app.messages import Locale
from serve_app.results import MAX_MUSIC_S, MIN_MUSIC_S
from serve_app.settings import Settings


def make(arguments: argparse.Namespace) -> int:
    """Make a piece for each picture; return 0, or 1 if any failed."""
    settings = Settings.from_environment()
    order = _order(arguments, settings)
    pictures = list(dict.fromkeys(arguments.pictures))  # a file that is named twice is written once
    check_names(pictures, ".mp3")
    out: Path = arguments.out
    make_folder(out)
    console = Console(stderr=True)
    with ExitStack() as stack:
        route: LocalRoute | ServerRoute = (
            ServerRoute(stack.enter_context(Client(arguments.url)), order)
            if arguments.url
            else LocalRoute(order, settings)
        )

        def make_one(picture: Path, on_progress: OnProgress) -> None:
            piece = route.make(picture, out, on_progress)
            midi = out / f"{picture.stem}.mid"
            if midi not in piece.files:  # an earlier piece's
                midi.unlink(missing_ok=True)
            facts = out / f"{picture.stem}.json"
            replace_file(facts, (json.dumps(piece.facts, ensure_ascii=False, indent=1) + "\n").encode())
            echo(
                console,
                f"{picture}: {piece.caption(order.locale)}",
                piece.summary(order.locale),
                "  ".join(str(path) for path in (*piece.files, facts)),
            )

        failures = for_each(pictures, make_one, console)
    echo(console, f"{len(pictures) - len(failures)} made, {len(failures)} failed: {out}")
    return 1 if failures else 0


def _order(arguments: argparse.Namespace, settings: Settings) -> Order:
    """Check the options before the first picture is read; InvalidRequest."""
    if not MIN_MUSIC_S <= arguments.duration <= MAX_MUSIC_S:
        raise InvalidRequest(f"--duration must be {MIN_MUSIC_S:g} to {MAX_MUSIC_S:g} seconds, not {arguments.duration}")
    if arguments.soundfont is not None:
        if arguments.url:
            raise InvalidRequest("--soundfont is for this machine: a server has its own, so leave out --url")
        if not arguments.soundfont.is_file():
            raise InvalidRequest(f"--soundfont {arguments.soundfont}: there is no such file")
    return Order(
        duration_s=arguments.duration,
        prompt=arguments.prompt,
        seed=arguments.seed,
        locale=Locale(arguments.locale) if arguments.locale else settings.locale,
        soundfont=arguments.soundfont,
    )
