"""`MusicFlow`: music jobs, and the files of pieces, for the HTTP layer."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from serve_app.errors import JobConflict, JobNotFound, MusicFileMissing, ServeAppError
from serve_app.flows.jobs import StoredJobs
from serve_app.flows.media_source import MediaSource
from serve_app.jobs.record import ApiKey, Job, JobPage, JobStatus, MusicRequest, Scope, Visitor
from serve_app.jobs.store import Quota
from serve_app.media.artifacts import published_key, upload_key
from serve_app.messages import MusicStage
from serve_app.results import MAX_SEED
from serve_app.sentences import Sentence
from serve_app.services import MusicFile, StoredFile, SubmittedJob
from serve_app.threads import FILES

_CANCEL_S, _CANCEL_POLL_S = 5.0, 0.1  # a runner learns of a cancellation when it renews its lease


class MusicFlow:
    """`services.MusicService` (the methods are documented there) over the jobs of all kinds.

    Args:
        jobs: of all kinds.
        media: keeps the files.
        quota: of each visitor.
        max_pixels: of an uploaded picture.
    """

    def __init__(self, jobs: StoredJobs, media: MediaSource, *, quota: Quota, max_pixels: int) -> None:
        self._jobs = jobs
        self._media = media
        self._quota = quota
        self._max_pixels = max_pixels

    async def submit(
        self, request: MusicRequest, upload: BinaryIO | None, visitor: Visitor, key: ApiKey | None = None
    ) -> SubmittedJob:
        self._jobs.require_deployed(request.kind)  # before the picture is read
        if upload is None:
            return await self._jobs.submit(request, visitor, self._quota, key=key)
        picture = await asyncio.to_thread(self._read_picture, upload)
        return await self._submit_with(request, picture, visitor, key)

    async def another_version(self, job_id: str, visitor: Visitor, key: ApiKey | None = None) -> SubmittedJob:
        known = visitor.id if visitor.is_known else None
        job = await self.get(job_id, known, key)
        picture = await self.open(job_id, MusicFile.PICTURE, known, key)
        content = b"".join([chunk async for chunk in picture.read(0, picture.num_bytes)])
        request = _music_request(job)
        request = replace(
            request,
            job_id=uuid.uuid4().hex,
            image_url=None,
            seed=secrets.randbelow(MAX_SEED + 1),
            version_of=job_id,
        )
        if not (visitor.is_known and job.visitor == visitor.id):
            # the backend that ordered the piece did not order what a stranger makes of it
            request = replace(request, callback_base=None, default_callback_base=None)
        return await self._submit_with(request, content, visitor, key)

    async def get(self, job_id: str, visitor: str | None, key: ApiKey | None = None, scope: Scope = Scope.READ) -> Job:
        await self._jobs.require_visible(job_id, visitor, key, scope)
        job = await self._jobs.get(job_id)
        _music_request(job)
        await asyncio.to_thread(lambda: job.result)  # parsed here, not on the event loop
        return job

    async def pieces(self, visitor: str, limit: int, cursor: str | None, key: ApiKey | None = None) -> JobPage:
        return await self._jobs.page(None, limit, cursor, visitor, only_own=True, key=key)

    async def delete(self, job_id: str, visitor: str | None, key: ApiKey | None = None) -> None:
        job = await self.get(job_id, visitor, key, Scope.SUBMIT)
        if not job.status.is_final:
            with suppress(JobConflict):  # it ended meanwhile
                await self._jobs.cancel(job_id)
        deadline = time.monotonic() + _CANCEL_S
        while True:
            try:
                await self._jobs.delete(job_id)
                return
            except JobConflict:  # its runner has not let go yet
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_CANCEL_POLL_S)

    async def open(self, job_id: str, file: MusicFile, visitor: str | None, key: ApiKey | None = None) -> StoredFile:
        job = await self.get(job_id, visitor, key)
        if job.status is JobStatus.COMPLETED:
            files = job.result["files"] if job.result else {}  # type: ignore[typeddict-item]  # a MusicPiece
            is_there = file in files
            # a version without fences stored no keys
            place = dict(job.result or {}).get("stored", {}).get(file)
        elif file is MusicFile.PICTURE:  # it is shown while the music is made
            is_there = job.progress >= MusicStage.PICTURE_READY
            place = (await self._jobs.steps(job_id)).get("ingest", {}).get("key")
        else:
            raise JobConflict(
                Sentence(
                    "The piece {job_id} is {status}; its files are there once it has completed",
                    job_id=job_id,
                    status=job.status,
                )
            )
        if is_there:
            with suppress(FileNotFoundError):
                return await FILES.run(self._media.stat, place or published_key(job_id, file))
        raise MusicFileMissing(Sentence("The piece {job_id} has no {file}", job_id=job_id, file=file))

    async def _submit_with(
        self, request: MusicRequest, picture: bytes, visitor: Visitor, key: ApiKey | None
    ) -> SubmittedJob:
        request = replace(
            request, upload_sha256=hashlib.sha256(picture).hexdigest(), upload_name=f"upload-{uuid.uuid4().hex}"
        )
        # before the job: a runner may take it at once
        place = upload_key(request.job_id, str(request.upload_name))
        await self._media.put(place, picture)
        try:
            submitted = await self._jobs.submit(request, visitor, self._quota, key=key)
        except ServeAppError:
            await FILES.run(self._media.remove, place)
            raise
        if _music_request(submitted.job).upload_name != request.upload_name:  # the job has its picture already
            await FILES.run(self._media.remove, place)
        return submitted

    def _read_picture(self, upload: BinaryIO) -> bytes:
        from serve_app.models.caged_pictures import check_caged

        picture = upload.read()
        check_caged(picture, max_pixels=self._max_pixels)
        return picture


def _music_request(job: Job) -> MusicRequest:
    """Return the request of a piece; JobNotFound for a job of another kind."""
    if not isinstance(job.request, MusicRequest):
        raise JobNotFound(Sentence("No piece of music has the id {job_id}", job_id=job.job_id))
    return job.request
