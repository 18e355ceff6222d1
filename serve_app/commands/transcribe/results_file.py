"""The files that others read: the results in the form of the script that this replaces, and the failures beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serve_app.commands.transcribe.journal import Journal
from serve_app.commands.transcribe.media_files import readable_name
from serve_app.commands.transcribe.outcome import Failure, Heard


def failures_path(out: Path) -> Path:
    """Return where the failures of a batch are told."""
    return out.with_name(f"{out.name}.failures")


def write_results(out: Path, journal: Journal) -> None:
    """Replace both files at once each: readers see the old list or the new one, never half of it.

    `out` is a list of objects with exactly `file`, `text`, `language` and `duration` (seconds), sorted by file: those
    that read the old form need not know of failures. Where speakers were asked for, each has `segments` too. Failures
    are in `<out>.failures`, which exists only if there are any.
    """
    _replace(
        out,
        (
            {
                "file": file,
                "text": end.text,
                "language": end.language,
                "duration": end.duration_s,
                **({} if end.segments is None else {"segments": end.segments}),
            }
            for file, end in _ends(journal)
            if isinstance(end, Heard)
        ),
    )
    failed = [
        {"file": file, "error_code": end.code, "error": end.detail}
        for file, end in _ends(journal)
        if isinstance(end, Failure)
    ]
    if failed:
        _replace(failures_path(out), failed)
    else:
        failures_path(out).unlink(missing_ok=True)


def _ends(journal: Journal) -> Iterable[tuple[str, Heard | Failure]]:
    return ((readable_name(outcome.name), outcome.end) for outcome in journal.outcomes())


def _replace(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    part = path.with_name(f".{path.name}.part")  # one writer: the run holds the batch's lock
    with open(part, "w", encoding="utf-8") as file:
        separator = "[\n"
        for entry in entries:
            file.write(separator + json.dumps(entry, ensure_ascii=False, indent=2))
            separator = ",\n"
        file.write("\n]\n" if separator != "[\n" else "[]\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
