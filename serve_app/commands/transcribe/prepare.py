"""`serve-app transcribe`: finds the files, and prepares what a `Run` needs."""

from __future__ import annotations

import argparse
import signal
import tempfile
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from serve_app.client import Client
from serve_app.commands.calls import RetryingCalls
from serve_app.commands.terminal import echo
from serve_app.commands.transcribe.batch import Journal, failures_path, readable_name, write_results
from serve_app.commands.transcribe.command import ANALYSES_AT_ONCE, JOBS_AT_ONCE, UPLOADS_AT_ONCE
from serve_app.commands.transcribe.report import nothing_found, print_outcome, tell_passed_over
from serve_app.commands.transcribe.routes import JobRoute, UploadRoute
from serve_app.commands.transcribe.run import Run
from serve_app.commands.transcribe.search import find_files
from serve_app.errors import InvalidRequest, Overloaded, Unavailable
from serve_app.sentences import Sentence

_INTERRUPTED = 130  # as a shell counts Ctrl-C


def transcribe(arguments: argparse.Namespace) -> int:
    """Run the batch; return 0 if all files have transcripts, 1 if any failed, 130 if it was interrupted."""
    if arguments.jobs and arguments.backend:
        raise InvalidRequest(
            Sentence("--backend: video jobs use the backend that the service is configured for; leave it out")
        )
    if arguments.base_url and not arguments.jobs:
        raise InvalidRequest(Sentence("--base-url is for --jobs: without it, files are uploaded"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: a container that stops leaves results
    if arguments.out == "-":
        with tempfile.TemporaryDirectory(prefix="serve_app-") as folder:
            return _locked(arguments, Path(folder) / "results.json", to_stdout=True)
    out = Path(arguments.out).expanduser().resolve()
    if not out.parent.is_dir() or out.is_dir():
        raise InvalidRequest(Sentence("--out {name}: name a file in a folder that exists", name=arguments.out))
    return _locked(arguments, out, to_stdout=False)


def _locked(arguments: argparse.Namespace, out: Path, *, to_stdout: bool) -> int:
    """Run the batch; InvalidRequest where another run writes to `out`, or the disk fails."""
    try:
        with FileLock(f"{out}.lock", timeout=0):
            return _transcribe(arguments, out, to_stdout)
    except Timeout:
        raise InvalidRequest(
            Sentence("another run writes to {name}: wait for it, or name another --out", name=str(out))
        ) from None
    except OSError as error:
        # a full disk, or missing rights: a sentence, not a stack; the journal holds all that was recorded
        raise InvalidRequest(
            Sentence("{name}: {reason}", name=str(error.filename or out), reason=error.strerror or str(error))
        ) from error


def _transcribe(arguments: argparse.Namespace, out: Path, to_stdout: bool) -> int:
    journal_path = Path(f"{out}.journal")
    own_files = frozenset({out, journal_path, Path(f"{out}.lock"), failures_path(out)})
    found = find_files(arguments.sources, recursive=arguments.recursive, pattern=arguments.glob, leave_out=own_files)
    console = Console(stderr=True)
    if not found.names:
        tell_passed_over(console, found)
        raise InvalidRequest(nothing_found(found, arguments.glob, arguments.recursive))
    if arguments.start_over:
        journal_path.unlink(missing_ok=True)
    elif out.exists() and not journal_path.exists():
        raise InvalidRequest(
            Sentence(
                "{name} exists, and no journal lists its files: name another --out, or use --start-over", name=str(out)
            )
        )
    batch = {
        "folder": readable_name(str(found.folder)),
        "way": "jobs" if arguments.jobs else "upload",
        "language": arguments.language,
        "backend": arguments.backend,
        "base_url": arguments.base_url,
        "diarize": "true" if arguments.diarize else None,
        "audio_track": None if arguments.audio_track is None else str(arguments.audio_track),
    }
    calls = RetryingCalls()
    with Client(arguments.url) as client, Journal(journal_path, batch) as journal:
        route: UploadRoute | JobRoute
        options = {"diarize": arguments.diarize, "audio_track": arguments.audio_track}
        if arguments.jobs:
            route = JobRoute(client, calls, arguments.language, arguments.base_url, **options)
            at_once = JOBS_AT_ONCE
        else:
            route = UploadRoute(client, calls, arguments.language, arguments.backend, arguments.timeout, **options)
            at_once = ANALYSES_AT_ONCE if arguments.diarize else UPLOADS_AT_ONCE
        show = partial(print_outcome, as_text=found.is_one) if to_stdout else None
        run = Run(found, route, journal, skip_failed=arguments.skip_failed, show=show)
        try:
            if run.todo:
                _require_service(client)
            run.work(arguments.workers or at_once)
        except KeyboardInterrupt:
            jobs_go_on = " The submitted jobs go on." if arguments.jobs else ""
            again = "" if to_stdout else " The same command again goes on from here."
            echo(run.console, f"Stopped.{jobs_go_on}{again}")
            return _INTERRUPTED
        finally:
            write_results(out, list(journal.outcomes.values()))
        num_outcomes = len(journal.outcomes)
    run.summarise(None if to_stdout else out)
    if not num_outcomes:
        raise InvalidRequest(nothing_found(found, arguments.glob, arguments.recursive))
    return 1 if run.num_failed_before or run.failures else 0


def _require_service(client: Client) -> None:
    """Fail at once where nothing listens: a wrong --url is likelier than a restart."""
    try:
        client.health()
    except Overloaded as error:
        if isinstance(error, Unavailable) and error.__cause__ is not None:
            raise
