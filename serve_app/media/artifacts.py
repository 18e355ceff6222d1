"""`ArtifactStore`: keeps the files of jobs, in a folder or any object store that fsspec knows; and reads them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from serve_app.errors import ServeAppError, StorageError, StorageUnavailable, errno_text
from serve_app.sentences import Sentence
from serve_app.threads import FILES

_CHUNK_BYTES = 256 << 10
_REQUEST_BYTES = 1 << 20  # of a request to an object store: one for each chunk would take longer than its bytes
_LINK_S = 600
_RETRY_AFTER_S = 30.0

# gcsfs asks by gRPC what kind of bucket it has; where nothing answers, as behind many proxies, each call takes a minute
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

_log = logging.getLogger(__name__)

# lower case only: a file system that ignores case must not confuse two ids
_SAFE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]*(/[A-Za-z0-9_][A-Za-z0-9._=-]*)*")  # no part may begin with a dot


def claim_place(number: int, fence: int) -> str:
    """Return the folder of what one claim on a job writes, below `jobs/` and `published/`.

    No other claim writes there, on this job or on a later one of the same id, so a runner that lost its job can't
    change what others read.
    """
    return f"{number_folder(number)}/{fence}"


def number_folder(number: int) -> str:
    """Return the folder of all claims on a job; no id is shown so (`id_folder`)."""
    return f"number={number}"


def job_key(job_id: str, *parts: str) -> str:
    """Return the key of a file of a job that a version without `claim_place` began, or of a direct analysis."""
    return "/".join(("jobs", id_folder(job_id), *parts))


def published_key(job_id: str, *parts: str) -> str:
    """Return the key of a published file of a job that a version without `claim_place` completed."""
    return "/".join(("published", id_folder(job_id), *parts))


def upload_key(job_id: str, name: str) -> str:
    """Return the key of an upload, which is stored before its job: `uploads/<id>/<name>`."""
    return "/".join(("uploads", id_folder(job_id), name))


def id_folder(job_id: str) -> str:
    """Return the id, or its hash where it is no safe file name."""
    return job_id if _SAFE_ID.fullmatch(job_id) else f"sha256={hashlib.sha256(job_id.encode()).hexdigest()}"


@contextlib.contextmanager
def store_faults(*, writing: bool = False) -> Iterator[None]:
    """Raise StorageUnavailable instead of what a store's libraries raise where the store fails.

    A missing file stays FileNotFoundError, but for writes: there it is the bucket that is missing.
    """
    try:
        yield
    except ServeAppError:
        raise
    except Exception as error:  # each store has its own
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        _log.warning("the artefact store fails: %s: %s", type(error).__name__, error)
        reason = errno_text(error) if isinstance(error, OSError) else type(error).__name__
        sentence = Sentence("The artefact store fails: {reason}", reason=reason)
        raise StorageUnavailable(sentence, _RETRY_AFTER_S) from error


class ArtifactStore:
    """Files under keys such as `jobs/number=7/7340033/media`.

    Every method may block (disk or network): call it from a thread. Keys are checked, so that no caller's string can
    leave the store. A file appears under its key only when it is complete. Every method but `locate`, `key_of` and
    `signed_url` raises StorageUnavailable where the store fails.

    Args:
        url: local folder, or fsspec URL (s3://bucket/prefix, gs://…, memory://…); credentials come from the process's
            environment, and `options` go to the fsspec file system.
    """

    def __init__(self, url: str, **options: Any) -> None:
        if url.startswith("s3://"):  # the older signature, a default of some regions, can't open encrypted buckets
            options = {"config_kwargs": {"signature_version": "s3v4"}, **options}
        self._fs, root = fsspec.core.url_to_fs(url, **options)
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._signs = True

    def put_bytes(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> str:
        """Store bytes and return their location; object stores keep the content type and send it with signed links."""
        target = self._path(key)
        with store_faults(writing=True):
            if self._is_local:
                with _beside(Path(target)) as partial:
                    partial.write_bytes(data)
            else:
                self._fs.pipe_file(target, data, **self._typed(content_type))
        return self.locate(key)

    def put_file(self, key: str, local_path: Path) -> str:
        """Move a local file into the store (on one file system by renaming it) and return its location."""
        target = self._path(key)
        with store_faults(writing=True):
            if self._is_local:
                _move(local_path, Path(target))
            else:
                self._fs.put_file(str(local_path), target)
                local_path.unlink(missing_ok=True)  # a caller that left took its folder along
        return self.locate(key)

    def locate(self, key: str) -> str:
        """Return the local path or fsspec URL of a key, whether or not anything is there."""
        path = self._path(key)
        return path if self._is_local else self._fs.unstrip_protocol(path)

    def key_of(self, location: str) -> str | None:
        """Return the key of what `locate` returned; None where it lies in another store."""
        root = self.locate("x").removesuffix("x")
        key = location.removeprefix(root)
        return key if key != location and _KEY.fullmatch(key) else None

    def open(self, key: str) -> BinaryIO:
        """Open for reading; FileNotFoundError where nothing is stored under the key."""
        path = self._path(key)
        with store_faults():
            return cast(BinaryIO, self._fs.open(path, "rb"))

    def read(self, key: str) -> bytes:
        """Return a file's bytes; FileNotFoundError where nothing is stored under the key."""
        path = self._path(key)
        with store_faults():
            return cast(bytes, self._fs.cat_file(path))

    def stat(self, key: str) -> StoredArtifact:
        """Return a file's length and version, to read it; FileNotFoundError where nothing is stored under the key."""
        path = self._path(key)
        with store_faults():
            self._fs.invalidate_cache(os.path.dirname(path))  # another process may have stored it
            about = self._fs.info(path)
        if about["type"] != "file":
            raise FileNotFoundError(key)
        # S3, GCS, folder, memory
        version = next(about[name] for name in ("ETag", "etag", "mtime", "created") if name in about)
        etag = hashlib.sha256(f"{about['size']} {version}".encode()).hexdigest()[:32]
        return StoredArtifact(self, key, about["size"], etag)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to, but not including, `end`; FileNotFoundError."""
        path = self._path(key)
        with store_faults():
            return cast(bytes, self._fs.cat_file(path, start=start, end=end))

    def signed_url(self, key: str, filename: str, expires_s: int = _LINK_S) -> str | None:
        """Return an address that downloads the file under this name, for anybody, until it expires.

        S3 signs with its credentials, GCS with a service account's private key. None: the store has no such addresses,
        or nothing to sign with, which the log says once.
        """
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        options = {
            "s3": {"ResponseContentDisposition": disposition},
            "gs": {"version": "v4", "response_disposition": disposition},
        }.get(self._protocol)
        if options is None or not self._signs:
            return None
        path = self._path(key)
        try:
            return str(self._fs.sign(path, expires_s, **options))
        except Exception as error:  # each store has its own for missing keys
            self._signs = False
            _log.warning("No signed links: downloads are sent by this service. %s: %s", type(error).__name__, error)
            return None

    def exists(self, key: str) -> bool:
        """Return whether a file is stored under the key."""
        path = self._path(key)
        try:
            with store_faults():
                self._fs.invalidate_cache(os.path.dirname(path))  # another process may have stored it
                return bool(self._fs.info(path)["type"] == "file")  # not isfile, which calls a failing store empty
        except FileNotFoundError:
            return False

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        path = self._path(key)
        with contextlib.suppress(FileNotFoundError), store_faults():
            self._fs.rm_file(path)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of all files under `<prefix>/`."""
        folder = self._path(prefix)
        with store_faults():
            self._fs.invalidate_cache()
            found = self._fs.find(folder)
        return [f"{prefix}/{path.removeprefix(folder + '/')}" for path in found if path.startswith(folder + "/")]

    def delete_prefix(self, prefix: str) -> int:
        """Remove everything under `<prefix>/` and return the number of files."""
        folder = self._path(prefix)
        with store_faults():
            self._fs.invalidate_cache()
            files = [path for path in self._fs.find(folder) if path.startswith(folder + "/")]
            if self._is_local:
                shutil.rmtree(folder, ignore_errors=True)
            elif files:
                self._fs.rm(files)
        return len(files)

    def folders(self, prefix: str) -> list[str]:
        """Return the keys of the folders directly under a prefix."""
        path = self._path(prefix)
        try:
            with store_faults():
                self._fs.invalidate_cache()
                found = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        names = (each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory")
        return [f"{prefix}/{name}" for name in names if _KEY.fullmatch(name)]

    def sweep(self, prefix: str, older_than_s: float) -> int:
        """Remove files under `<prefix>/` that are older, left by dead processes, and return their number."""
        folder = self._path(prefix)
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        num_removed = 0
        with store_faults():
            self._fs.invalidate_cache()
            for path in self._fs.find(folder):
                with contextlib.suppress(FileNotFoundError):  # its job ended meanwhile
                    if self._fs.modified(path) < limit:
                        self._fs.rm_file(path)
                        num_removed += 1
        return num_removed

    @property
    def _protocol(self) -> str:
        protocols = (self._fs.protocol,) if isinstance(self._fs.protocol, str) else self._fs.protocol
        return next((known for known in ("s3", "gs") if known in protocols), "")

    def _typed(self, content_type: str) -> dict[str, str]:
        names = {"s3": "ContentType", "gs": "content_type"}
        return {names[self._protocol]: content_type} if self._protocol in names else {}

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"Malformed artefact key {key[:80]!r}")
        return f"{self._root}/{key}"


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A file of a store, as `services.StoredFile` (the methods are documented there).

    `etag` depends on length and version alone, so that all replicas give the same.
    """

    store: ArtifactStore
    key: str
    num_bytes: int
    etag: str

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            upto = min(end, start + _REQUEST_BYTES)
            try:
                block = await FILES.run(self.store.read_range, self.key, start, upto)
            except FileNotFoundError as error:
                raise StorageError(Sentence("{name} is gone", name=self.key)) from error
            if len(block) != upto - start:
                raise StorageError(
                    Sentence("{name} has become shorter than {num_bytes} bytes", name=self.key, num_bytes=upto)
                )
            for offset in range(0, len(block), _CHUNK_BYTES):
                yield block[offset : offset + _CHUNK_BYTES]
            start = upto

    async def signed_url(self, filename: str) -> str | None:
        return await FILES.run(self.store.signed_url, self.key, filename)


def _move(source: Path, target: Path) -> None:
    """Rename, or, across file systems, copy beside the target and rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    with _beside(target) as partial:
        shutil.copyfile(source, partial)
    source.unlink()


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield a path beside the target for its content, which is renamed to it at the end, or removed on a failure."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
