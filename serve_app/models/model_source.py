"""`SourceFailed`, `Silences`: how sources of a catalog model fail, and which of them gave no answer of late.

A host that gives no answer costs seconds. All replicas of a graph look for their models at the same time, so that what
one of them learned is left for the others: for a minute they do not ask that host again.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# (what is being downloaded, bytes so far, bytes in all or None)
OnProgress = Callable[[str, int, int | None], None]

SILENCE_KEPT_S = 60.0
NUM_TRIES = 3  # of a download that breaks off; each goes on where the last one ended


class SourceFailed(Exception):
    """Raised when a source did not give a file.

    Args:
        reason: what it said, or what was wrong; ends without a full stop.
        gave_nothing: False: it gave a file that was wrong, or the file did not fit the disk.
        is_silent: its host gave no answer.
    """

    def __init__(self, reason: str, *, gave_nothing: bool = True, is_silent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.gave_nothing = gave_nothing
        self.is_silent = is_silent


class Silences:
    """Which hosts gave no answer within the last minute, told between processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, host: str) -> str | None:
        """Return why a host was given up within the last minute; None: it was not."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads((self._folder / f"{_plain(host)}.json").read_text("utf-8"))
            if 0.0 <= time.time() - note["at"] < SILENCE_KEPT_S:
                return str(note["reason"])
        return None

    def keep(self, host: str, reason: str) -> None:
        """Note that a host gave no answer."""
        with suppress(OSError):  # it only spares others the wait
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".tmp", delete=False) as file:
                json.dump({"at": time.time(), "reason": reason}, file)
            os.replace(file.name, self._folder / f"{_plain(host)}.json")

    def forget(self) -> None:
        """Have every host asked again."""
        with suppress(OSError):
            for note in self._folder.glob("*.json"):
                note.unlink(missing_ok=True)


def _plain(host: str) -> str:
    return re.sub(r"[^\w-]", "_", host, flags=re.ASCII)
