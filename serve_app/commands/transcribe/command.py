"""`serve-app transcribe FOLDER --out results.json`: its arguments, and its parts put together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_app.client import Client

# The rest is imported where it is used: every command builds this parser, and most need neither HTTP nor rich.

_UPLOADS_AT_ONCE = 4
_ANALYSES_AT_ONCE = 2  # what one ingress takes by default (args.ingress.max_direct_analyses)
_JOBS_AT_ONCE = 32
_MAX_AT_ONCE = 64
_INTERRUPTED = 130  # as a shell counts Ctrl-C

_DESCRIPTION = """Put every recording of a folder into words.

The results are a JSON list of {"file", "text", "language", "duration"}, sorted by file; with --diarize each has
"segments" of {"start", "end", "speaker", "text"} too. What fails is told in OUT.failures. OUT.journal remembers what
was done: the same command again does only what is new, changed or failed.
Ends with 0 if all files have words, 1 if any failed or the run was given up, 130 after Ctrl-C or SIGTERM."""


def add_command(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the sub-command to the parser of `serve-app`.

    Args:
        commands: what `add_subparsers` returned.
        parents: parsers whose arguments it shares: `--url`.
    """
    parser = commands.add_parser(
        "transcribe",
        parents=parents,
        help="put every recording of a folder into words; goes on where it stopped",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="results.json")
    parser.add_argument("--backend", help="faster-whisper, transformers, …; default: the first healthy one")
    parser.add_argument("--language", default="auto", help="auto (default), or a two-letter code")
    parser.add_argument("--diarize", action="store_true", help="also tell who said what, in segments")
    parser.add_argument("--recursive", action="store_true", help="folders below it too")
    parser.add_argument("--glob", metavar="PATTERN", help="e.g. '*.wav'; default: all common media suffixes")
    parser.add_argument(
        "--workers",
        type=_num_workers,
        metavar="N",
        help=f"files in work at once (default: {_UPLOADS_AT_ONCE}; with --diarize {_ANALYSES_AT_ONCE}; with --jobs"
        f" {_JOBS_AT_ONCE})",
    )
    parser.add_argument("--timeout", type=_seconds, default=3600.0, metavar="S", help="limit of one upload's answer")
    parser.add_argument("--skip-failed", action="store_true", help="do not try again what failed before")
    parser.add_argument("--start-over", action="store_true", help="throw away what OUT and OUT.journal hold")
    parser.add_argument(
        "--jobs", action="store_true", help="submit video jobs instead of uploading: the service must find the files"
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="with --jobs: where the service finds the folder (https://…, s3://bucket/prefix, a folder under its media"
        " root); default: where it is here",
    )
    parser.set_defaults(command=transcribe)


def transcribe(arguments: argparse.Namespace) -> int:
    """Run the batch.

    Raises:
        ServeAppError: it can't be run like this, or was given up; says what to do.
    """
    from serve_app.errors import InvalidRequest

    folder = arguments.folder.expanduser().resolve()
    out = arguments.out.expanduser().resolve()
    if not folder.is_dir():
        raise InvalidRequest(f"{arguments.folder} is not a folder")
    if not out.parent.is_dir() or out.is_dir():
        raise InvalidRequest(f"--out {arguments.out}: name a file in a folder that exists")
    if arguments.jobs and arguments.backend:
        raise InvalidRequest("--backend: video jobs use the backend that the service is configured for; leave it out")
    if arguments.base_url and not arguments.jobs:
        raise InvalidRequest("--base-url is for --jobs: without it, files are uploaded")
    try:
        return _transcribe_locked(arguments, folder, out)
    except OSError as error:
        # full disks and missing rights: a sentence, not a stack; the journal holds all that was recorded
        raise InvalidRequest(f"{error.filename or out}: {error.strerror or error}") from error


def _transcribe_locked(arguments: argparse.Namespace, folder: Path, out: Path) -> int:
    from filelock import FileLock, Timeout

    from serve_app.errors import InvalidRequest

    lock = FileLock(_beside(out, "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InvalidRequest(f"another run writes to {out}: wait for it, or name another --out") from None
    try:
        return _transcribe(arguments, folder, out)
    finally:
        lock.release()


def _transcribe(arguments: argparse.Namespace, folder: Path, out: Path) -> int:
    from rich.console import Console

    from serve_app.client import Client
    from serve_app.commands.transcribe.interruption import interruptions
    from serve_app.commands.transcribe.journal import Journal
    from serve_app.commands.transcribe.media_files import find_media, readable_name
    from serve_app.commands.transcribe.patience import PatientCalls
    from serve_app.commands.transcribe.results_file import failures_path, write_results
    from serve_app.commands.transcribe.routes import JobRoute, Route, UploadRoute
    from serve_app.commands.transcribe.run import Run, plan
    from serve_app.commands.transcribe.show import RunDisplay
    from serve_app.errors import InvalidRequest

    journal_path = _beside(out, "journal")
    own = frozenset({out, journal_path, _beside(out, "lock"), failures_path(out)})
    files = find_media(folder, recursive=arguments.recursive, pattern=arguments.glob, leave_out=own)
    if not files:
        what = f"that matches {arguments.glob}" if arguments.glob else "with a media suffix"
        hint = "" if arguments.recursive else "; --recursive searches its folders too"
        raise InvalidRequest(f"{folder} holds no file {what}{hint}")
    if arguments.start_over:
        journal_path.unlink(missing_ok=True)
    elif out.exists() and not journal_path.exists():
        raise InvalidRequest(f"{out} exists, and no journal says where it is from: name another --out, or --start-over")
    batch = {
        "folder": readable_name(str(folder)),
        "way": "jobs" if arguments.jobs else "upload",
        "language": arguments.language,
        "backend": arguments.backend,
        "base_url": arguments.base_url,
        "diarize": "true" if arguments.diarize else None,
    }
    console = Console(stderr=True)
    with Client(arguments.url) as client, Journal(journal_path, batch) as journal:
        route: Route
        if arguments.jobs:
            at_once = _JOBS_AT_ONCE
            route = JobRoute(
                client, language=arguments.language, base_url=arguments.base_url, diarize=arguments.diarize
            )
        else:
            at_once = _ANALYSES_AT_ONCE if arguments.diarize else _UPLOADS_AT_ONCE
            route = UploadRoute(
                client,
                language=arguments.language,
                backend=arguments.backend,
                timeout_s=arguments.timeout,
                diarize=arguments.diarize,
            )
        made = plan(files, journal, skip_failed=arguments.skip_failed)
        with interruptions() as interrupted, RunDisplay(console, made) as display:
            run = Run(
                route,
                journal,
                PatientCalls(),
                display,
                lambda: write_results(out, journal),
                num_workers=arguments.workers or at_once,
            )
            try:
                if made.todo:
                    _require_service(client)
                run.work(made.todo, interrupted)
            except KeyboardInterrupt:
                going_on = "; jobs that were submitted go on" if arguments.jobs else ""
                console.print(f"Stopped. The same command again goes on from here{going_on}.", highlight=False)
                return _INTERRUPTED
        display.summarise(out, made, failures_path(out))
    return 1 if display.num_failed or made.num_failed else 0


def _require_service(client: Client) -> None:
    """Fail at once where nothing listens: a wrong --url is likelier than a restart that is worth waiting for."""
    from serve_app.errors import Overloaded, Unavailable

    try:
        client.health()
    except Overloaded as error:
        if isinstance(error, Unavailable) and error.__cause__ is not None:
            raise


def _beside(out: Path, kind: str) -> Path:
    return out.with_name(f"{out.name}.{kind}")


def _num_workers(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MAX_AT_ONCE:
        raise argparse.ArgumentTypeError(f"write a number from 1 to {_MAX_AT_ONCE}")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("write a number of seconds above 0")
    return seconds
