"""`UploadRoute`, which uploads a file, and `JobRoute`, which submits it as a video job."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from serve_app.client import Client
from serve_app.commands.calls import RetryingCalls
from serve_app.commands.transcribe.batch import UNREADABLE, Failure, Fingerprint, Transcript
from serve_app.errors import JobConflict, JobNotFound, ProcessingError, Unavailable
from serve_app.sentences import Sentence

_POLL_S = 2.0  # 32 jobs cost 16 small requests a second
_JOB_ID_DIGITS = 40


@dataclass(frozen=True, slots=True)
class UploadRoute:
    """Uploads each file to `POST /transcribe`, with the command's options. Called by several threads."""

    client: Client
    calls: RetryingCalls
    language: str
    backend: str | None
    timeout_s: float
    diarize: bool = False
    audio_track: int | None = None

    def transcribe(self, folder: Path, name: str, fingerprint: Fingerprint, *, again: bool) -> Transcript | Failure:
        """Upload a file; errors as `Client.transcribe`, and CancelledError."""
        answer = self.calls.call(lambda: self._upload(folder / name))
        return Transcript.from_answer(answer, diarize=self.diarize)

    def _upload(self, path: Path) -> dict[str, Any]:
        # a job computes no emotions either: the results have no field for them
        options: dict[str, Any] = {"diarize": True, "emotion_detection": False} if self.diarize else {}
        try:
            return self.client.transcribe(
                path,
                language=self.language,
                backend=self.backend,
                audio_track=self.audio_track,
                timeout_s=self.timeout_s,
                **options,
            )
        except Unavailable as error:
            if isinstance(error.__cause__, httpx.ReadTimeout):
                # the service still works on it: the same upload again would only double its work
                raise ProcessingError(
                    Sentence("no answer in {seconds:g} s; a higher --timeout waits longer", seconds=self.timeout_s)
                ) from None
            raise


@dataclass(frozen=True, slots=True)
class JobRoute:
    """Submits each file as a video job, whose id is a hash of file, content and request. Called by several threads.

    A second run, or a second try, thus finds the job of the first. A job always separates speakers; `diarize` shows
    them in the results.
    """

    client: Client
    calls: RetryingCalls
    language: str
    base_url: str | None
    diarize: bool = False
    audio_track: int | None = None

    def transcribe(self, folder: Path, name: str, fingerprint: Fingerprint, *, again: bool) -> Transcript | Failure:
        """Submit a file and wait for its job; errors as `Client.submit`, and CancelledError.

        `again`: the same content failed in an earlier run, so its failed job is removed first.
        """
        try:
            url = self.video_url(folder, name)
        except UnicodeEncodeError:
            return Failure(
                UNREADABLE, Sentence("the file's name is not UTF-8: rename it, or serve it by http and --base-url")
            )
        job_id = job_id_of(url, fingerprint, self.language, self.audio_track)
        options: dict[str, Any] = {} if self.audio_track is None else {"audio_track": self.audio_track}
        if again:
            self._remove_failed(job_id)
        self.calls.call(
            lambda: self.client.submit(url, job_id=job_id, language=self.language, emotion_detection=False, **options)
        )
        job = self.calls.call(lambda: self.client.wait(job_id, poll_s=_POLL_S))
        if job["status"] == "completed":
            return Transcript.from_answer(job["result"], diarize=self.diarize)
        code = job.get("error_code") or job["status"].upper()
        return Failure(code, job.get("error_message") or f"the job was {job['status']}")

    def video_url(self, folder: Path, name: str) -> str:
        """Return a file's address for the service; UnicodeEncodeError if JSON can't hold its name."""
        if self.base_url is not None and self.base_url.startswith(("http://", "https://")):
            return f"{self.base_url.rstrip('/')}/{quote(os.fsencode(name))}"
        url = str(folder / name) if self.base_url is None else f"{self.base_url.rstrip('/')}/{name}"
        url.encode()
        return url

    def _remove_failed(self, job_id: str) -> None:
        """Delete a job that failed; one that runs, or has completed meanwhile, stays."""
        try:
            if self.calls.call(lambda: self.client.get(job_id))["status"] in ("failed", "cancelled"):
                self.calls.call(lambda: self.client.delete(job_id))
        except (JobNotFound, JobConflict):
            return


def job_id_of(url: str, fingerprint: Fingerprint, language: str, audio_track: int | None = None) -> str:
    """Return the id of a job: the same for the same content under the same request, another for any other."""
    track = () if audio_track is None else (f"track {audio_track}",)
    request = "\0".join((url, fingerprint.sha256, language, *track))
    return f"batch-{hashlib.sha256(request.encode()).hexdigest()[:_JOB_ID_DIGITS]}"
