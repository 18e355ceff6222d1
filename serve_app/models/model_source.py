"""`ModelSource`: where a catalog model's files come from, how a source fails, and which hosts gave no answer of late.

A host that gives no answer costs seconds. All replicas of a graph look for their models at the same time. Each notes a
silent host for the others, and for a minute none of them asks that host again.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from serve_app.models.catalog import CatalogFile
from serve_app.models.file_hashes import read_note, write_note
from serve_app.sentences import from_json, to_json

# (name of the download, bytes so far, bytes in all or None)
OnProgress = Callable[[str, int, int | None], None]

SILENCE_KEPT_S = 60.0
NUM_TRIES = 3  # of a download that breaks off; each goes on where the last one ended


class SourceFailed(Exception):
    """Raised when a source did not give a file.

    Args:
        reason: what was wrong; ends without a full stop.
        gave_nothing: False: it gave a wrong file, or the file did not fit the disk.
        is_silent: its host gave no answer.
    """

    def __init__(self, reason: str, *, gave_nothing: bool = True, is_silent: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.gave_nothing, self.is_silent = reason, gave_nothing, is_silent


class ModelSource(ABC):
    """A source of one model's files."""

    label: str  # in messages
    host: str  # common to all models of the source

    def needed_bytes(self, files: Sequence[CatalogFile]) -> int:
        """Return the disk space that fetching these files takes until it ends."""
        return sum(file.size_bytes or 0 for file in files)

    @abstractmethod
    def fetch(self, file: CatalogFile, path: Path) -> None:
        """Write a file, which the caller then checks; SourceFailed, or OSError where the disk is full."""


class Silences:
    """Hosts that gave no answer within the last minute, noted for all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, host: str) -> str | None:
        """Return why a host was given up within the last minute; None: it was not."""
        with suppress(KeyError, TypeError, ValueError):
            note = read_note(self._note(host))
            if 0.0 <= time.time() - note["at"] < SILENCE_KEPT_S:
                return from_json(note["reason"])
        return None

    def keep(self, host: str, reason: str) -> None:
        """Note that a host gave no answer."""
        write_note(self._note(host), {"at": time.time(), "reason": to_json(reason)})

    def forget(self) -> None:
        """Have every host asked again."""
        with suppress(OSError):
            for note in self._folder.glob("*.json"):
                note.unlink(missing_ok=True)

    def _note(self, host: str) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', host)}.json"


def growing_bytes(folder: Path, pattern: str) -> int:
    """Return the size of the largest file that matches while another program writes it; 0: there is none."""
    sizes = [0]
    for path in folder.rglob(pattern):
        with suppress(OSError):  # it was moved meanwhile
            sizes.append(path.stat().st_size)
    return max(sizes)
