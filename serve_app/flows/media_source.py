"""`MediaSource`: fetches callers' addresses, keeps their uploads, and checks the addresses of callbacks."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ParamSpec

import httpx

from serve_app.errors import StorageError, StorageUnavailable, errno_text
from serve_app.jobs.record import Job, MusicRequest
from serve_app.jobs.store import KnownJob
from serve_app.media.address_guard import check_callback_base, guarded_client
from serve_app.media.address_policy import AddressPolicy
from serve_app.media.artifacts import (
    ArtifactStore,
    StoredArtifact,
    claim_place,
    id_folder,
    job_key,
    number_folder,
    published_key,
    upload_key,
)
from serve_app.media.fetch import FetchSources, fetch
from serve_app.media.part_file import FULL_BYTES, FetchLimits
from serve_app.results import AudioSource
from serve_app.sentences import Sentence
from serve_app.settings import Settings
from serve_app.threads import FILES

P = ParamSpec("P")

_COPY_BYTES = 1 << 20
_BY_NUMBER = number_folder(0).rstrip("0")
_RETRY_AFTER_S = 30.0
# A larger upload goes through the artefact store, which any node can read, not with the call.
_INLINE_BYTES = 2 * 1024**2
_IMAGE_FETCH_S = 60.0  # its caller waits
_CALLBACK_TIMEOUT = httpx.Timeout(10.0, connect=5.0)


class MediaSource:
    """Files from callers, in the artefact store."""

    def __init__(self, settings: Settings) -> None:
        self._policy = AddressPolicy(settings.allowed_hosts)
        self._sources = FetchSources(
            policy=self._policy, media_root=settings.media_root, withheld=settings.artifacts_url
        )
        self._limits = FetchLimits(max_bytes=settings.max_download_bytes, total_s=settings.download_timeout_s)
        self._image_limits = FetchLimits(max_bytes=settings.max_image_bytes, total_s=_IMAGE_FETCH_S)
        self._artifacts = ArtifactStore(settings.artifacts_url)
        # beside a local artefact store, so that a fetched file is moved there, not copied
        self._incoming = settings.state_dir / "incoming"

    async def fetch(self, url: str, folder: str) -> AudioSource:
        """Fetch a URL's file into `folder`; DownloadError and its kinds."""
        async with self._incoming_folder() as incoming:
            fetched = await fetch(url, incoming / "media", sources=self._sources, limits=self._limits)
            key = f"{folder}/media"
            await self._stored(key, self._artifacts.put_file, key, fetched.path)
        return AudioSource(self._artifacts.locate(key), fetched.num_bytes, fetched.filename)

    async def fetch_image(self, url: str) -> bytes:
        """Return the bytes of a URL's picture; DownloadError and its kinds."""
        async with self._incoming_folder() as incoming:
            fetched = await fetch(url, incoming / "image", sources=self._sources, limits=self._image_limits)
            return await FILES.run(fetched.path.read_bytes)

    async def hand_over(self, file: BinaryIO, folder: str) -> bytes | str:
        """Return an upload for a deployment: its bytes, or its place in `folder` if it is large."""
        content = await FILES.run(_content_if_small, file)
        return await self._stored(f"{folder}/media", self._keep, file, folder) if content is None else content

    @asynccontextmanager
    async def handed_over(self, file: BinaryIO) -> AsyncIterator[bytes | str]:
        """Yield `hand_over`'s result with a folder of its own, which is removed afterwards."""
        content = await FILES.run(_content_if_small, file)
        if content is not None:
            yield content
            return
        async with self.folder() as folder:
            yield await self._stored(f"{folder}/media", self._keep, file, folder)

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[str]:
        """Yield the name of a new folder in the artefact store, which is removed afterwards."""
        folder = job_key(f"direct-{uuid.uuid4().hex}")
        try:
            yield folder
        finally:
            with suppress(StorageUnavailable):  # the sweep removes it
                await asyncio.shield(FILES.run(self.discard, folder))

    @asynccontextmanager
    async def _incoming_folder(self) -> AsyncIterator[Path]:
        """Yield a new folder on the disk that takes downloads, which is removed afterwards."""
        folder = await FILES.run(self._make_folder)
        try:
            yield folder
        finally:
            with suppress(StorageUnavailable):  # the sweep removes it
                await asyncio.shield(FILES.run(shutil.rmtree, folder, ignore_errors=True))

    @contextmanager
    def _own_folder(self) -> Iterator[Path]:
        folder = self._make_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _make_folder(self) -> Path:
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=self._incoming))
        except OSError as error:
            raise _disk_failed(error) from error

    def _keep(self, file: BinaryIO, folder: str) -> str:
        with self._own_folder() as incoming:
            path = incoming / "media"
            try:
                with path.open("wb") as target:
                    shutil.copyfileobj(file, target, _COPY_BYTES)
            except OSError as error:
                raise _disk_failed(error) from error
            key = f"{folder}/media"
            self._artifacts.put_file(key, path)
        return self._artifacts.locate(key)

    async def read(self, key: str) -> bytes:
        """Return a stored file; StorageError where it is gone."""
        return await FILES.run(self._read, key)

    def _read(self, key: str) -> bytes:
        try:
            return self._artifacts.read(key)
        except FileNotFoundError as error:
            raise StorageError(
                Sentence("the file {name} is gone from the artefact store", name=key.rpartition("/")[2])
            ) from error

    async def put(self, key: str, content: bytes, content_type: str = "application/octet-stream") -> None:
        """Store a file; it appears when it is complete. A caller that is cancelled leaves none."""
        await self._stored(key, self._artifacts.put_bytes, key, content, content_type)

    async def _stored(self, key: str, store: Callable[P, str], *args: P.args, **kwargs: P.kwargs) -> str:
        """Return `store(…)`; where nobody waits for its end any more, it removes what it has stored."""
        is_wanted = True
        deciding = threading.Lock()

        def storing() -> str:
            try:
                return store(*args, **kwargs)
            finally:
                with deciding:
                    if not is_wanted:
                        self._artifacts.delete(key)

        try:
            return await FILES.run(storing)
        except (asyncio.CancelledError, StorageUnavailable):
            # The thread goes on. What it stored before this line is removed with the job's files, later by itself.
            with deciding:
                is_wanted = False
            raise

    def stat(self, key: str) -> StoredArtifact:
        """Return a stored file, to be read or linked; FileNotFoundError."""
        return self._artifacts.stat(key)

    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""
        self._artifacts.delete(key)

    def has(self, key: str) -> bool:
        """Return whether a file is stored under the key; "" is the key of none."""
        return bool(key) and self._artifacts.exists(key)

    def has_located(self, location: str) -> bool:
        """Return whether the file that `fetch` located is there."""
        return self.has(self._artifacts.key_of(location) or "")

    def discard(self, folder: str) -> None:
        """Remove a job's artefacts."""
        self._artifacts.delete_prefix(folder)

    def discard_job(self, job: Job, *, keep_published: bool = False) -> None:
        """Remove the files of all claims on a job; those that callers may still fetch stay if `keep_published`."""
        self._artifacts.delete_prefix(f"jobs/{number_folder(job.number)}")
        self._artifacts.delete_prefix(job_key(job.job_id))  # of a version without fences
        if isinstance(job.request, MusicRequest) and job.request.upload_name:
            self._artifacts.delete(upload_key(job.job_id, job.request.upload_name))
        if not keep_published:
            self._artifacts.delete_prefix(f"published/{number_folder(job.number)}")
            self._artifacts.delete_prefix(published_key(job.job_id))

    def discard_claim(self, number: int, fence: int, named: Callable[[Sequence[str]], set[str]]) -> None:
        """Remove what a claim that was lost wrote, but for the files that `named` returns: others read those."""
        place = claim_place(number, fence)
        keys = [key for top in ("jobs", "published") for key in self._artifacts.keys(f"{top}/{place}")]
        if keys:
            for key in set(keys) - named(keys):
                self._artifacts.delete(key)

    def sweep(self, older_than_s: float, jobs: Callable[[], Sequence[KnownJob]]) -> None:
        """Remove files that dead processes left: of an analysis, of a fetch, and of jobs that ended or were removed.

        Args:
            older_than_s: of files that belong to no job by its number: an upload comes before its job.
            jobs: returns every job.
        """
        found = {top: self._artifacts.folders(top) for top in ("jobs", "uploads", "published")}
        known = jobs()  # after the folders were listed: a job's first file comes after its number
        active = {name for job in known if not job.has_ended for name in _folders(job)}
        kept = {name for job in known for name in _folders(job)}
        for folder in found["jobs"] + found["uploads"]:
            name = folder.rpartition("/")[2]
            if name not in active:
                self._artifacts.sweep(folder, 0.0 if name.startswith(_BY_NUMBER) else older_than_s)
        for folder in found["published"]:
            if folder.rpartition("/")[2] not in kept:
                self._artifacts.delete_prefix(folder)
        limit = time.time() - older_than_s
        for left in self._incoming.glob("*") if self._incoming.exists() else ():
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < limit:
                    shutil.rmtree(left, ignore_errors=True)

    def check_disk(self) -> None:
        """Raise StorageUnavailable where the disk that takes downloads is full, or can't be written."""
        with self._own_folder() as incoming:
            path = incoming / "probe"
            try:
                path.write_bytes(bytes(1 << 16))  # a full disk still has room for an empty file
                free = shutil.disk_usage(incoming).free
            except OSError as error:
                raise _disk_failed(error) from error
            if free < FULL_BYTES:
                raise StorageUnavailable(
                    Sentence("The disk that takes downloads has {free} MiB free", free=free >> 20), _RETRY_AFTER_S
                )

    def check_store(self) -> None:
        """Raise StorageUnavailable where a file can't be stored and read back."""
        probe, key = os.urandom(32), f"probes/{uuid.uuid4().hex}"
        self._artifacts.put_bytes(key, probe)
        try:
            if self._artifacts.read(key) != probe:
                raise StorageUnavailable(
                    Sentence("The artefact store gave back other bytes than were stored"), _RETRY_AFTER_S
                )
        finally:
            self._artifacts.delete(key)

    async def check_callback_base(self, url: str) -> None:
        """Raise CallbackRefused where the policy forbids callbacks."""
        await check_callback_base(url, self._policy)

    def callback_client(self) -> httpx.AsyncClient:
        """Return the client for callbacks, which may reach the same addresses as downloads."""
        return guarded_client(self._policy, timeout=_CALLBACK_TIMEOUT, headers={"user-agent": "serve_app"})


def _folders(job: KnownJob) -> tuple[str, str]:
    return number_folder(job.number), id_folder(job.job_id)


def _disk_failed(error: OSError) -> StorageUnavailable:
    return StorageUnavailable(
        Sentence("The disk that takes downloads fails: {reason}", reason=errno_text(error)), _RETRY_AFTER_S
    )


def _content_if_small(file: BinaryIO) -> bytes | None:
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return file.read() if num_bytes <= _INLINE_BYTES else None
