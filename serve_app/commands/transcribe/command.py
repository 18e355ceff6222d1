"""The arguments of `serve-app transcribe`."""

from __future__ import annotations

import argparse
from typing import Any

UPLOADS_AT_ONCE = 4
ANALYSES_AT_ONCE = 2  # what one ingress takes by default (args.ingress.max_direct_analyses)
JOBS_AT_ONCE = 32

_DESCRIPTION = """Transcribe every recording of a folder, or of several folders, files and patterns.

A recording is what the service can open: the content decides, not the name. What is passed over is listed at the end,
with the reason.
The results are a JSON list of {"file", "text", "language", "duration"}, sorted by file; with --diarize each has
"segments" of {"start", "end", "speaker", "text"} too. OUT.failures lists the files that failed. OUT.journal lists what
was done: the same command again transcribes only new, changed and failed files.
With --output - each outcome goes to standard output as it is made, one such object a line, or {"file", "error_code",
"error"}; of a single file named here, its text alone.
Ends with 0 if all files were transcribed, 1 if any failed or the run was given up, 130 after Ctrl-C or SIGTERM."""


def add_command(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to `commands`, which `add_subparsers` returned; `parents` have `--url`."""
    parser = commands.add_parser(
        "transcribe",
        parents=parents,
        help="transcribe every recording of a folder; goes on where it stopped",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="FOLDER", help="a folder, a file, or a pattern: 'calls/**/*.ogg'")
    parser.add_argument(
        "--out", "--output", "-o", required=True, metavar="results.json", help="- writes to standard output"
    )
    parser.add_argument("--backend", help="faster-whisper, transformers, …; default: the first healthy one")
    parser.add_argument("--language", default="auto", help="auto (default), or a two-letter code")
    parser.add_argument("--diarize", action="store_true", help="also separate speakers, in segments")
    parser.add_argument("--recursive", action="store_true", help="folders below it too")
    parser.add_argument("--glob", metavar="PATTERN", help="e.g. '*.wav', or '**/*.wav' with the folders below")
    parser.add_argument("--audio-track", type=_track, metavar="N", help="of files with several audio tracks; from 0")
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, 65),
        metavar="N",
        help=f"files in work at once (default: {UPLOADS_AT_ONCE}; with --diarize {ANALYSES_AT_ONCE}; with --jobs"
        f" {JOBS_AT_ONCE})",
    )
    parser.add_argument("--timeout", type=_seconds, default=3600.0, metavar="S", help="limit of one upload's answer")
    parser.add_argument("--skip-failed", action="store_true", help="do not repeat files that failed before")
    parser.add_argument("--start-over", action="store_true", help="discard OUT and OUT.journal")
    parser.add_argument(
        "--jobs", action="store_true", help="submit video jobs instead of uploading: the service must find the files"
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="with --jobs: where the service finds the folder (https://…, s3://bucket/prefix, a folder under its media"
        " root); default: where it is here",
    )
    parser.set_defaults(command="serve_app.commands.transcribe.prepare:transcribe")


def _track(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 255:
        raise argparse.ArgumentTypeError("write a number from 0 to 255")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("write a number of seconds above 0")
    return seconds
