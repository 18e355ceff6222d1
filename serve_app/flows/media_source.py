"""`MediaSource`: fetches callers' addresses, keeps their uploads, and checks the addresses of callbacks."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import httpx

from serve_app.errors import StorageError
from serve_app.media.address_guard import check_callback_base, guarded_client
from serve_app.media.address_policy import AddressPolicy
from serve_app.media.artifacts import ArtifactStore, StoredArtifact, job_key, published_key
from serve_app.media.fetch import FetchSources, fetch
from serve_app.media.part_file import FetchLimits
from serve_app.results import AudioSource
from serve_app.settings import Settings
from serve_app.threads import FILES

_COPY_BYTES = 1 << 20
# A larger upload goes through the artefact store, which any node can read, not with the call.
_INLINE_BYTES = 2 * 1024**2
_IMAGE_FETCH_S = 60.0  # its caller waits
_CALLBACK_TIMEOUT = httpx.Timeout(10.0, connect=5.0)


class MediaSource:
    """Files from callers, in the artefact store."""

    def __init__(self, settings: Settings) -> None:
        self._policy = AddressPolicy(settings.allowed_hosts)
        self._sources = FetchSources(policy=self._policy, media_root=settings.media_root)
        self._limits = FetchLimits(max_bytes=settings.max_download_bytes, total_s=settings.download_timeout_s)
        self._image_limits = FetchLimits(max_bytes=settings.max_image_bytes, total_s=_IMAGE_FETCH_S)
        self._artifacts = ArtifactStore(settings.artifacts_url)
        # beside a local artefact store, so that a fetched file is moved there, not copied
        self._incoming = settings.state_dir / "incoming"

    async def fetch(self, url: str, folder: str) -> AudioSource:
        """Fetch a URL's file into `folder`; DownloadError and its kinds."""
        await FILES.run(self._incoming.mkdir, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._incoming) as incoming:
            fetched = await fetch(url, Path(incoming) / "media", sources=self._sources, limits=self._limits)
            key = f"{folder}/media"
            await FILES.run(self._artifacts.put_file, key, fetched.path)
        return AudioSource(self._artifacts.locate(key), fetched.num_bytes, fetched.filename)

    async def fetch_image(self, url: str) -> bytes:
        """Return the bytes of a URL's picture; DownloadError and its kinds."""
        await FILES.run(self._incoming.mkdir, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._incoming) as incoming:
            fetched = await fetch(url, Path(incoming) / "image", sources=self._sources, limits=self._image_limits)
            return await FILES.run(fetched.path.read_bytes)

    async def hand_over(self, file: BinaryIO, folder: str) -> bytes | str:
        """Return an upload for a deployment: its bytes, or its place in `folder` if it is large."""
        content = await FILES.run(_content_if_small, file)
        return await FILES.run(self._keep, file, folder) if content is None else content

    @asynccontextmanager
    async def handed_over(self, file: BinaryIO) -> AsyncIterator[bytes | str]:
        """Yield `hand_over`'s result with a folder of its own, which is removed afterwards."""
        content = await FILES.run(_content_if_small, file)
        if content is not None:
            yield content
            return
        async with self.folder() as folder:
            yield await FILES.run(self._keep, file, folder)

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[str]:
        """Yield the name of a new folder in the artefact store, which is removed afterwards."""
        folder = job_key(f"direct-{uuid.uuid4().hex}")
        try:
            yield folder
        finally:
            await asyncio.shield(FILES.run(self.discard, folder))

    def _keep(self, file: BinaryIO, folder: str) -> str:
        self._incoming.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._incoming) as incoming:
            path = Path(incoming) / "media"
            with path.open("wb") as target:
                shutil.copyfileobj(file, target, _COPY_BYTES)
            key = f"{folder}/media"
            self._artifacts.put_file(key, path)
        return self._artifacts.locate(key)

    async def read(self, key: str) -> bytes:
        """Return a stored file; StorageError where it is gone or can't be read."""
        return await FILES.run(self._read, key)

    def _read(self, key: str) -> bytes:
        try:
            with self._artifacts.open(key) as file:
                return file.read()
        except FileNotFoundError as error:
            raise StorageError(f"the file {key.rpartition('/')[2]} is gone from the artefact store") from error

    async def put(self, key: str, content: bytes, content_type: str = "application/octet-stream") -> None:
        """Store a file; it appears when it is complete. Does not end before, also where the caller is cancelled."""
        storing = asyncio.ensure_future(FILES.run(self._artifacts.put_bytes, key, content, content_type))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            await asyncio.wait({storing})  # who cancels removes the job's files next, and would miss this one
            raise

    def stat(self, key: str) -> StoredArtifact:
        """Return a stored file, to be read or linked; FileNotFoundError."""
        return self._artifacts.stat(key)

    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""
        self._artifacts.delete(key)

    def has(self, key: str) -> bool:
        """Return whether a file is stored under the key."""
        return self._artifacts.exists(key)

    def discard(self, folder: str) -> None:
        """Remove a job's artefacts."""
        self._artifacts.delete_prefix(folder)

    def discard_job(self, job_id: str, *, keep_published: bool = False) -> None:
        """Remove a job's files; those that callers may still fetch stay if `keep_published`."""
        self._artifacts.delete_prefix(job_key(job_id))
        if not keep_published:
            self._artifacts.delete_prefix(published_key(job_id))

    def sweep(self, older_than_s: float, jobs: Callable[[], Mapping[str, bool]]) -> None:
        """Remove files that dead processes left: of an analysis, of a fetch, and of jobs that were removed.

        Args:
            older_than_s: of files that no active job owns.
            jobs: returns the id of every job, and whether it has ended.
        """
        found = self._artifacts.folders("jobs"), self._artifacts.folders("published")
        known = jobs()  # after the folders were listed: a job is stored at once after its first file
        active = {job_key(job_id) for job_id, has_ended in known.items() if not has_ended}
        for folder in found[0]:
            if folder not in active:
                self._artifacts.sweep(folder, older_than_s)
        kept = {published_key(job_id) for job_id in known}
        for folder in found[1]:
            if folder not in kept:
                self._artifacts.delete_prefix(folder)
        limit = time.time() - older_than_s
        for left in self._incoming.glob("*") if self._incoming.exists() else ():
            if left.stat().st_mtime < limit:
                shutil.rmtree(left, ignore_errors=True)

    async def check_callback_base(self, url: str) -> None:
        """Raise CallbackRefused where the policy forbids callbacks."""
        await check_callback_base(url, self._policy)

    def callback_client(self) -> httpx.AsyncClient:
        """Return the client for callbacks, which may reach the same addresses as downloads."""
        return guarded_client(self._policy, timeout=_CALLBACK_TIMEOUT, headers={"user-agent": "serve_app"})


def _content_if_small(file: BinaryIO) -> bytes | None:
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return file.read() if num_bytes <= _INLINE_BYTES else None
