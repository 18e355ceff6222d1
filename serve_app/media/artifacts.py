"""`ArtifactStore`: keeps large things of a job until it ends, in a folder or any object store that fsspec knows."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

# lower case only: a file system that ignores case must not confuse two ids
_SAFE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]*(/[A-Za-z0-9_][A-Za-z0-9._=-]*)*")  # no part may begin with a dot


def job_key(job_id: str, *parts: str) -> str:
    """Return the key of a file that a job needs until it ends: `jobs/<id>/<parts>`."""
    return "/".join(("jobs", _folder(job_id), *parts))


def published_key(job_id: str, *parts: str) -> str:
    """Return the key of a file that callers may fetch as long as the job is kept: `published/<id>/<parts>`."""
    return "/".join(("published", _folder(job_id), *parts))


def _folder(job_id: str) -> str:
    """Return the id, or its hash where it is no safe file name."""
    return job_id if _SAFE_ID.fullmatch(job_id) else f"sha256={hashlib.sha256(job_id.encode()).hexdigest()}"


class ArtifactStore:
    """Files under keys such as `jobs/<id>/source`.

    Every method may block (disk or network): call it from a thread. Keys are checked, so that no caller's string can
    leave the store. A file appears under its key only when it is complete.

    Args:
        url: local folder, or fsspec URL (s3://bucket/prefix, gs://…, memory://…); credentials come from the process's
            environment, and `options` go to the fsspec file system.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._fs, root = fsspec.core.url_to_fs(url, **options)
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def put_file(self, key: str, local_path: Path) -> str:
        """Move a local file into the store (on one file system by renaming it) and return its location."""
        target = self._path(key)
        if self._is_local:
            _move(local_path, Path(target))
        else:
            self._fs.put_file(str(local_path), target)
            local_path.unlink()
        return self.locate(key)

    def locate(self, key: str) -> str:
        """Return the local path or fsspec URL of a key, whether or not anything is there."""
        path = self._path(key)
        return path if self._is_local else self._fs.unstrip_protocol(path)

    def open(self, key: str) -> BinaryIO:
        """Open for reading; FileNotFoundError where nothing is stored under the key."""
        return cast(BinaryIO, self._fs.open(self._path(key), "rb"))

    def exists(self, key: str) -> bool:
        """Return whether a file is stored under the key."""
        path = self._path(key)
        self._fs.invalidate_cache(os.path.dirname(path))  # another process may have stored it
        return bool(self._fs.isfile(path))

    def delete_prefix(self, prefix: str) -> int:
        """Remove everything under `<prefix>/` and return the number of files."""
        folder = self._path(prefix)
        self._fs.invalidate_cache()
        files = [path for path in self._fs.find(folder) if path.startswith(folder + "/")]
        if self._is_local:
            shutil.rmtree(folder, ignore_errors=True)
        elif files:
            self._fs.rm(files)
        return len(files)

    def sweep(self, prefix: str, older_than_s: float) -> int:
        """Remove files under `<prefix>/` that are older, left by dead processes, and return their number."""
        self._fs.invalidate_cache()
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        old = [path for path in self._fs.find(self._path(prefix)) if self._fs.modified(path) < limit]
        for path in old:
            with contextlib.suppress(FileNotFoundError):  # its job ended meanwhile
                self._fs.rm_file(path)
        return len(old)

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"Malformed artefact key {key[:80]!r}")
        return f"{self._root}/{key}"


def _move(source: Path, target: Path) -> None:
    """Rename, or, across file systems, copy beside the target and rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    source.unlink()
