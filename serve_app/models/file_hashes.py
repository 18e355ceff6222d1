"""`sha256_of`: hashes of large files; a file of the same path, size and time of change is not read again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def sha256_of(path: Path, cache_dir: Path | None = None) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Args:
        path: of the file; a link stands for what it leads to.
        cache_dir: where hashes are kept between processes; None: nowhere.

    Raises:
        OSError: it can't be read.
    """
    path = path.resolve()
    status = path.stat()
    # the time of the last change of the inode cannot be set back, as that of the content can be
    state = [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    note = None
    if cache_dir is not None:
        note = cache_dir / "hashes" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):  # a note that can't be read is made again
            kept = json.loads(note.read_text("utf-8"))
            if kept["state"] == state:
                return str(kept["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if note is not None:
        _keep(note, {"state": state, "sha256": digest})
    return digest


def combined_sha256(paths: Iterable[Path], cache_dir: Path | None = None) -> str:
    """Return one SHA-256 over the names and contents of several files, whatever their order and folder."""
    named = sorted((path.name, sha256_of(path, cache_dir)) for path in paths)
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _keep(note: Path, content: dict[str, object]) -> None:
    """Write at once or not at all; a cache that can't be written only costs time."""
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, suffix=".tmp", delete=False) as file:
            json.dump(content, file)
        os.replace(file.name, note)
