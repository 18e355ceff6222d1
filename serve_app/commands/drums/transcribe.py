"""`serve-app drums`: files in, MIDI files, logs and pictures out, one after another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from serve_app.commands.drums.progress import FilesBar, escaped, sentence
from serve_app.commands.drums.routes import Route, Written
from serve_app.commands.transcribe.media_files import shown
from serve_app.errors import InvalidRequest, ServeAppError


@dataclass(frozen=True, slots=True)
class _Failure:
    path: Path
    sentence: str


def transcribe_files(files: Sequence[Path], out: Path, open_route: Callable[[], Route]) -> int:
    """Transcribe files into a folder; return 0, or 1 if any failed.

    Args:
        files: recordings.
        out: folder; made where it is not there.
        open_route: loads the model, or finds the server, once the arguments are known to make sense.

    Raises:
        ServeAppError: nothing can be done like this; says what to do.
    """
    files = list(dict.fromkeys(files))  # a file that is named twice is written once
    _check_names(files)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"--out {out}: {error.strerror or error}") from error
    console = Console(stderr=True)
    route = open_route()
    failures: list[_Failure] = []
    with FilesBar(console, len(files)) as bar:
        for path in files:
            bar.begin(path)
            try:
                written = route.transcribe(path, bar.move)
                _store(written, out, path.stem)
            except (ServeAppError, OSError) as error:
                failures.append(_Failure(path, sentence(error)))
                bar.say(f"[red]{escaped(path)}: {escape(shown(failures[-1].sentence))}[/red]")
            else:
                bar.say(_told(path, written))
            bar.end()
    console.print(
        f"{len(files) - len(failures)} transcribed, {len(failures)} failed: {escape(str(out))}", soft_wrap=True
    )
    return 1 if failures else 0


def _check_names(files: Sequence[Path]) -> None:
    """Refuse files that would be written over each other."""
    by_name: dict[str, Path] = {}
    for path in files:
        # as file systems that ignore case would
        other = by_name.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise InvalidRequest(
                f"{other} and {path} would both be written to {path.stem}.mid: rename one, or give them in two runs "
                "with different --out"
            )


def _store(written: Written, out: Path, stem: str) -> None:
    """Write the files of one recording; an interrupted run leaves whole ones only."""
    _replace(out / f"{stem}.txt", written.text_log.encode("utf-8", "replace"))
    if written.picture is not None:
        _replace(out / f"{stem}.png", written.picture)
    _replace(out / f"{stem}.mid", written.midi)


def _replace(path: Path, content: bytes) -> None:
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".drums-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _told(path: Path, written: Written) -> str:
    counts = ", ".join(f"{written.num_hits.get(drum, 0)} {drum}" for drum in ("kick", "snare", "hihat"))
    notes = "".join(f" ({escape(shown(note))})" for note in written.notes)
    return f"{escaped(path)}: {counts}, {written.bpm:.1f} BPM, {written.duration_s:.1f} s{notes}"
