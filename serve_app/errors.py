"""The error tree, and when each error is raised. A class decides how a failure is reported; only its text varies.

    ServeAppError                     500 INTERNAL_ERROR
    ├── InvalidRequest                422 INVALID_REQUEST         when a request is malformed or not allowed.
    │   └── CallbackRefused           422 CALLBACK_REFUSED        when a callback base may not be reached.
    ├── NotIdentified                 401 UNAUTHORIZED            when a request needs an API key and has no valid one.
    ├── NotAllowed                    403 FORBIDDEN               when a key, or a page's origin, does not allow it.
    ├── MediaError
    │   ├── DownloadError             400 DOWNLOAD_ERROR          when a URL can't be fetched.
    │   │   ├── AddressRefused        400 DOWNLOAD_ERROR          when a scheme, host or address is not allowed.
    │   │   ├── MediaTooLarge         413 DOWNLOAD_ERROR          when a file exceeds the byte limit.
    │   │   └── DownloadInterrupted   502 DOWNLOAD_ERROR          on a passing fault: time-out, reset, 429, 5xx.
    │   ├── AudioExtractionError      422 AUDIO_EXTRACTION_ERROR  when a file has no usable audio.
    │   ├── ImageUnreadable           422 IMAGE_UNREADABLE        when a file is no picture, or a broken one.
    │   └── ImageTooLarge             413 IMAGE_TOO_LARGE         when a picture has too many bytes or pixels.
    ├── ModelError
    │   ├── ProcessingError           500 PROCESSING_ERROR        when a model stage fails.
    │   │   ├── LanguageUnsupported   422 PROCESSING_ERROR        when no deployed backend serves a language.
    │   │   ├── TaskUnsupported       422 PROCESSING_ERROR        when no deployed backend can translate.
    │   │   ├── CaptionRefused        500 PROCESSING_ERROR        when a captioner will not describe a picture.
    │   │   ├── MusicRefused          500 PROCESSING_ERROR        when an engine will not make a piece of music.
    │   │   └── StorageError          500 PROCESSING_ERROR        when a stored file can't be read (worth a retry).
    │   ├── ModelLoadingError         503 MODEL_LOADING_ERROR     when a model can't be loaded.
    │   │   └── ModelSourceUnreachable 503 MODEL_LOADING_ERROR    when no source of a catalog model gives anything.
    │   └── GpuMemoryError            503 GPU_MEMORY_ERROR        when GPU memory ran out and the fall-back failed too.
    ├── JobError
    │   ├── JobNotFound               404 JOB_NOT_FOUND           when no job has this id.
    │   ├── MusicFileMissing          404 MUSIC_FILE_MISSING      when a piece has no file of this kind.
    │   ├── JobConflict               409 JOB_CONFLICT            when an id is taken by another request, or a job's
    │   │                                                         state forbids the action.
    │   └── LeaseLost                 409 LEASE_LOST              when a runner writes to a job that it no longer holds.
    └── Overloaded                    429 OVERLOADED              when a queue is full. Carries `retry_after_s`.
        ├── QuotaExceeded             429 QUOTA_EXCEEDED          when a visitor has too many pieces in work or made.
        ├── RateLimited               429 RATE_LIMITED            when an API key has used up its requests or its jobs.
        └── Unavailable               503 UNAVAILABLE             when a deployment is missing, starting or saturated.
            ├── ReplicaLost           503 UNAVAILABLE             when a replica is gone from under a call (it was
            │   │                                                 stopped, or its node is; worth another try).
            │   └── ReplicaDied       503 UNAVAILABLE             when its process crashed: the input may be to blame.
            └── StorageUnavailable    503 STORAGE_UNAVAILABLE     when a disk is full, or the job table or the artefact
                │                                                 store fails or does not answer: no job's fault.
                └── NoRoomYet         503 STORAGE_UNAVAILABLE     when a disk has room, but not for this file.

Every constructor takes its arguments positionally and hands all of them to `Exception`, so that each error survives
pickling between processes. `transient` says whether the same call may succeed later.
"""

from __future__ import annotations

import errno
import os

from serve_app.sentences import Sentence

# What a disk, a file system or a process without free file handles answers, whoever asks. A missing file is not here.
STORAGE_ERRNOS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOLCK,
    }
)


class ServeAppError(Exception):
    """Root of every error that this project raises on purpose.

    Args:
        detail: what happened and, where possible, what to do: a `sentences.Sentence`, which callers get in their
            language. Logs have it in English.
    """

    code = "INTERNAL_ERROR"
    http_status = 500
    transient = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return str(self.detail)


class InvalidRequest(ServeAppError):
    code = "INVALID_REQUEST"
    http_status = 422


class CallbackRefused(InvalidRequest):
    code = "CALLBACK_REFUSED"


class NotIdentified(ServeAppError):
    """Raised when a request needs an API key and carries none that is valid."""

    code = "UNAUTHORIZED"
    http_status = 401


class NotAllowed(ServeAppError):
    """Raised when the caller's key has no scope for a request, or a page of another site sent it."""

    code = "FORBIDDEN"
    http_status = 403


class MediaError(ServeAppError):
    """Raised when input media can't be used."""


class DownloadError(MediaError):
    code = "DOWNLOAD_ERROR"
    http_status = 400


class AddressRefused(DownloadError):
    """Raised when a scheme, host or address is not one that this service may reach."""


class MediaTooLarge(DownloadError):
    http_status = 413


class DownloadInterrupted(DownloadError):
    http_status = 502
    transient = True


class AudioExtractionError(MediaError):
    code = "AUDIO_EXTRACTION_ERROR"
    http_status = 422


class ImageUnreadable(MediaError):
    code = "IMAGE_UNREADABLE"
    http_status = 422


class ImageTooLarge(MediaError):
    code = "IMAGE_TOO_LARGE"
    http_status = 413


class ModelError(ServeAppError):
    """Raised when a model can't do its work."""


class ProcessingError(ModelError):
    code = "PROCESSING_ERROR"


class LanguageUnsupported(ProcessingError):
    http_status = 422


class TaskUnsupported(ProcessingError):
    http_status = 422


class CaptionRefused(ProcessingError):
    """Raised when a captioner will not describe a picture; another try would end the same way."""


class MusicRefused(ProcessingError):
    """Raised when a music engine will not make a piece; another try would end the same way."""


class StorageError(ProcessingError):
    transient = True


class ModelLoadingError(ModelError, RuntimeError):
    """Raised when a model can't be loaded. A `RuntimeError`, as the packages replaced raised one."""

    code = "MODEL_LOADING_ERROR"
    http_status = 503


class ModelSourceUnreachable(ModelLoadingError):
    """Raised when no source of a model of the catalog gives anything: none can be reached, or none has it."""


def shown_reason(error: ModelError) -> str:
    """Return why another model had to answer, for callers: without the folders that a loading error names."""
    if isinstance(error, ModelLoadingError):
        return Sentence("its model could not be loaded")
    return error.detail or type(error).__name__


class GpuMemoryError(ModelError):
    code = "GPU_MEMORY_ERROR"
    http_status = 503


class JobError(ServeAppError):
    """Raised when a job can't be found or changed."""


class JobNotFound(JobError):
    code = "JOB_NOT_FOUND"
    http_status = 404


class MusicFileMissing(JobError):
    code = "MUSIC_FILE_MISSING"
    http_status = 404


class JobConflict(JobError):
    code = "JOB_CONFLICT"
    http_status = 409


class LeaseLost(JobError):
    code = "LEASE_LOST"
    http_status = 409


class Overloaded(ServeAppError):
    """Raised when a queue is full; another try is worth while after `retry_after_s`."""

    code = "OVERLOADED"
    http_status = 429
    transient = True

    def __init__(self, detail: str = "", retry_after_s: float = 5.0) -> None:
        super().__init__(detail)
        self.args = (detail, retry_after_s)
        self.retry_after_s = retry_after_s


class QuotaExceeded(Overloaded):
    code = "QUOTA_EXCEEDED"


class RateLimited(Overloaded):
    code = "RATE_LIMITED"


class Unavailable(Overloaded):
    code = "UNAVAILABLE"
    http_status = 503


class ReplicaLost(Unavailable):
    """Raised when a replica is gone from under a call: stopped, or with its node; another one may do the same call.

    `was_repeated`: another one was lost under it already.
    """

    was_repeated = False


class ReplicaDied(ReplicaLost):
    """Raised when the process of a replica crashed under a call, which may be the fault of the call's input.

    `replica` tells this death from others; "" where Ray does not say whose it was.
    """

    def __init__(self, detail: str = "", retry_after_s: float = 5.0, replica: str = "") -> None:
        super().__init__(detail, retry_after_s)
        if replica:
            self.args = (detail, retry_after_s, replica)
        self.replica = replica


class StorageUnavailable(Unavailable):
    """Raised when a disk is full, or the job table or the artefact store fails or does not answer.

    It is the operator's fault to mend, and no job's: a job that meets it is handed back, and no attempt is counted.
    """

    code = "STORAGE_UNAVAILABLE"


class NoRoomYet(StorageUnavailable):
    """Raised when a disk that is not full has no room for one large file: other jobs can go on."""


def storage_fault(error: BaseException) -> StorageUnavailable | None:
    """Return the storage's fault that an exception stands for; None where it is something else."""
    if isinstance(error, StorageUnavailable):
        return error
    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return StorageUnavailable(Sentence("The disk failed: {reason}", reason=errno_text(error)))
    return None


def errno_text(error: OSError) -> str:
    """Return what the system says of an error, without the path that it is about."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
