"""`sha256_of`: hashes of large files, kept in notes, so that an unchanged file is not read again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any


def sha256_of(path: Path, cache_dir: Path | None = None) -> str:
    """Return a file's SHA-256 in hexadecimal; a link stands for its target.

    Args:
        cache_dir: where hashes are kept between processes; None: nowhere.
    """
    path = path.resolve()
    status = path.stat()
    # the time of the last change of the inode cannot be set back, as that of the content can be
    state = [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    note = None
    if cache_dir is not None:
        note = cache_dir / "hashes" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        kept = read_note(note)
        if kept.get("state") == state and "sha256" in kept:
            return str(kept["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if note is not None:
        write_note(note, {"state": state, "sha256": digest})
    return digest


def combined_sha256(paths: Iterable[Path], cache_dir: Path | None = None) -> str:
    """Return one SHA-256 over the names and contents of several files, whatever their order and folder."""
    named = sorted((path.name, sha256_of(path, cache_dir)) for path in paths)
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file whole or not at all; where the disk refuses it, the next process works without it."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(content, file)
        os.replace(file.name, path)


def read_note(path: Path) -> dict[str, Any]:
    """Return a note's content; empty where there is none or it is damaged."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
