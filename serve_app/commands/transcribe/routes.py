"""How one file is put into words: by an upload that is answered at once, or by a video job."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from serve_app.client import Client
from serve_app.commands.transcribe.media_files import Fingerprint, MediaFile
from serve_app.commands.transcribe.outcome import UNREADABLE, Failure, Heard
from serve_app.commands.transcribe.patience import PatientCalls
from serve_app.errors import (
    JobConflict,
    JobNotFound,
    ProcessingError,
    Unavailable,
)

# A job is looked at often while it may be short, then rarely: 32 jobs then cost 6 small requests a second.
_FIRST_POLL_S = 0.5
_POLL_GROWTH = 1.5
_MAX_POLL_S = 5.0
_JOB_ID_DIGITS = 40


class FileFailed(Exception):
    """Raised when a file can't be put into words for a reason that no error of ours stands for: `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Route(Protocol):
    """A way to put one file into words. Called by several threads."""

    def hear(self, file: MediaFile, print_: Fingerprint, calls: PatientCalls, *, again: bool) -> Heard:
        """Return a file's words.

        Args:
            file: the file.
            print_: of its content.
            calls: to call the service by.
            again: whether the same content failed in an earlier run.

        Raises:
            ServeAppError: the service can't do it.
            FileFailed: its job ended without a result, or its name can't be told.
            OSError: the file can't be read.
            Stalled: the service refuses everything.
            Stopped: the run ends.
        """
        ...


class UploadRoute:
    """Uploads each file to `POST /transcribe`.

    Args:
        client: of the service.
        language: `auto`, or a two-letter code.
        backend: name of a speech backend; None: the first healthy one.
        timeout_s: limit of one file's answer, a backend's start included.
        diarize: also tell who said what.
    """

    def __init__(
        self, client: Client, *, language: str, backend: str | None, timeout_s: float, diarize: bool = False
    ) -> None:
        self._client = client
        self._language = language
        self._backend = backend
        self._timeout_s = timeout_s
        self._diarize = diarize

    def hear(self, file: MediaFile, print_: Fingerprint, calls: PatientCalls, *, again: bool) -> Heard:
        """Upload the file; see `Route`."""
        return Heard.from_answer(calls.call(lambda: self._upload(file)), diarize=self._diarize)

    def _upload(self, file: MediaFile) -> dict[str, Any]:
        # as in a job, whose emotions nobody would see either
        options: dict[str, Any] = {"diarize": True, "emotion_detection": False} if self._diarize else {}
        try:
            return self._client.transcribe(
                file.path, language=self._language, backend=self._backend, timeout_s=self._timeout_s, **options
            )
        except Unavailable as error:
            if isinstance(error.__cause__, httpx.ReadTimeout):
                # the service has it still: the same again would only double its work
                raise ProcessingError(f"no answer in {self._timeout_s:g} s; --timeout waits longer") from None
            raise


class JobRoute:
    """Submits each file as a video job, whose id says which file, content and request it is.

    A second run, or a second try, thus finds the job of the first.

    Args:
        client: of the service.
        language: of the contract's five.
        base_url: where the service finds the folder's files: http(s)://…, s3://bucket/prefix, or a folder under its
            media root; None: where they lie here.
        diarize: also tell who said what, which a job finds out anyway.
    """

    def __init__(self, client: Client, *, language: str, base_url: str | None, diarize: bool = False) -> None:
        self._client = client
        self._language = language
        self._base_url = base_url
        self._diarize = diarize

    def hear(self, file: MediaFile, print_: Fingerprint, calls: PatientCalls, *, again: bool) -> Heard:
        """Submit the file and follow its job; see `Route`."""
        url = video_url(file, self._base_url)
        job_id = job_id_of(url, print_, self._language)
        if again:
            self._remove_failed(job_id, calls)
        calls.call(lambda: self._client.submit(url, job_id=job_id, language=self._language, emotion_detection=False))
        poll_s = _FIRST_POLL_S
        while True:
            job = calls.call(lambda: self._client.get(job_id))
            if job["status"] == "completed":
                return Heard.from_answer(job["result"], diarize=self._diarize)
            if job["status"] in ("failed", "cancelled"):
                code = job.get("error_code") or job["status"].upper()
                raise FileFailed(Failure.told(code, job.get("error_message") or f"the job was {job['status']}"))
            calls.pause(poll_s)
            poll_s = min(poll_s * _POLL_GROWTH, _MAX_POLL_S)

    def _remove_failed(self, job_id: str, calls: PatientCalls) -> None:
        """Make room for a new try; a job that runs, or has completed meanwhile, stays."""
        try:
            if calls.call(lambda: self._client.get(job_id))["status"] in ("failed", "cancelled"):
                calls.call(lambda: self._client.delete(job_id))
        except (JobNotFound, JobConflict):
            return


def video_url(file: MediaFile, base_url: str | None) -> str:
    """Return where the service finds a file.

    Raises:
        FileFailed: its name can't be told in JSON.
    """
    if base_url is not None and base_url.startswith(("http://", "https://")):
        return f"{base_url.rstrip('/')}/{quote(os.fsencode(file.name))}"
    place = str(file.path) if base_url is None else f"{base_url.rstrip('/')}/{file.name}"
    try:
        place.encode()
    except UnicodeEncodeError:
        sentence = "the file's name is not UTF-8: rename it, or serve it by http and --base-url"
        raise FileFailed(Failure(UNREADABLE, sentence)) from None
    return place


def job_id_of(url: str, print_: Fingerprint, language: str) -> str:
    """Return the id of a job: the same for the same content under the same request, another for any other."""
    told = "\0".join((url, print_.sha256, language))
    return f"batch-{hashlib.sha256(told.encode()).hexdigest()[:_JOB_ID_DIGITS]}"
