"""The arguments of `serve-app music`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from serve_app.results import MAX_MUSIC_S, MIN_MUSIC_S

_DESCRIPTION = """Make pieces of music from pictures.

For each picture DIR gets NAME.mp3, NAME.flac, NAME.mid and NAME.json (caption, plan, engine, measurements), named after
it. The picture is described by its measured light, colour and texture, and the composer that comes with serve-app plays
the piece: both run on this machine, without a server and without weights. With --url, a server's captioner and engines
do it; engines that make no notes leave no .mid.
A piece that fails its checks is made once more, with another seed. A picture that fails does not stop the others.
Ends with 0 if all pieces were made, 1 if any failed, 130 after Ctrl-C."""


def add_command(commands: Any) -> None:
    """Add the command to `commands`, which `add_subparsers` returned."""
    music = commands.add_parser(
        "music",
        help="make pieces of music from pictures",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    music.add_argument(
        "pictures", type=Path, nargs="+", metavar="PICTURE", help="JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
    )
    music.add_argument("--out", type=Path, required=True, metavar="DIR", help="is created if it is missing")
    music.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of every random choice; default: made from the picture's file, so that the same picture gives the same "
        "piece",
    )
    music.add_argument(
        "--duration",
        type=float,
        default=30.0,
        metavar="S",
        help=f"length in seconds, {MIN_MUSIC_S:g} to {MAX_MUSIC_S:g}; default: 30",
    )
    music.add_argument(
        "--prompt", default="", metavar="TEXT", help="what you want to hear, in Korean or English: `sad`, `no drums`"
    )
    music.add_argument("--locale", choices=["ko", "en"], help="of what is printed; default: SERVE_APP_LOCALE, else ko")
    music.add_argument(
        "--soundfont",
        type=Path,
        metavar="FILE",
        help="an .sf2 file whose instruments play the piece; default: serve-app's own synthesiser",
    )
    music.add_argument("--url", help="make the pieces on this server instead")
    music.set_defaults(command="serve_app.commands.music.make:make")
