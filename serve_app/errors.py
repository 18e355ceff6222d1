"""The whole error tree. A class decides how a failure is reported; only its text varies.

    ServeAppError                     500 INTERNAL_ERROR
    ├── InvalidRequest                422 INVALID_REQUEST         when a request is malformed or asks for too much.
    │   └── CallbackRefused           422 CALLBACK_REFUSED        when a callback base may not be reached.
    ├── MediaError
    │   ├── DownloadError             400 DOWNLOAD_ERROR          when a URL can't be fetched.
    │   │   ├── AddressRefused        400 DOWNLOAD_ERROR          when a scheme, host or address is not allowed.
    │   │   ├── MediaTooLarge         413 DOWNLOAD_ERROR          when a file exceeds the byte limit.
    │   │   └── DownloadInterrupted   502 DOWNLOAD_ERROR          Raised on a passing network fault (worth a retry).
    │   ├── AudioExtractionError      422 AUDIO_EXTRACTION_ERROR  when a file has no usable audio.
    │   ├── ImageUnreadable           422 IMAGE_UNREADABLE        when a file is no picture, or a broken one.
    │   └── ImageTooLarge             413 IMAGE_TOO_LARGE         when a picture has too many bytes or pixels.
    ├── ModelError
    │   ├── ProcessingError           500 PROCESSING_ERROR        when a model stage fails.
    │   │   ├── LanguageUnsupported   422 PROCESSING_ERROR        when no deployed backend serves a language.
    │   │   ├── TaskUnsupported       422 PROCESSING_ERROR        when no deployed backend can translate.
    │   │   └── StorageError          500 PROCESSING_ERROR        when a stored file can't be read (worth a retry).
    │   ├── ModelLoadingError         503 MODEL_LOADING_ERROR     when a model can't be loaded.
    │   │   └── ModelSourceUnreachable 503 MODEL_LOADING_ERROR    when no source of a catalog model gives anything.
    │   └── GpuMemoryError            503 GPU_MEMORY_ERROR        when GPU memory ran out and the fall-back failed too.
    ├── JobError
    │   ├── JobNotFound               404 JOB_NOT_FOUND           when no job has this id.
    │   ├── JobConflict               409 JOB_CONFLICT            when an id is taken by another request, or a job's
    │   │                                                         state forbids the action.
    │   └── LeaseLost                 409 LEASE_LOST              when a runner writes to a job that it no longer holds.
    └── Overloaded                    429 OVERLOADED              when a queue is full. Carries `retry_after_s`.
        └── Unavailable               503 UNAVAILABLE             when a deployment is missing, starting or saturated.
            └── ReplicaLost           503 UNAVAILABLE             when a replica died under a call (worth another try).

Every constructor takes its arguments positionally and hands all of them to `Exception`, so that each error survives
pickling between processes. `transient` says whether the same call may succeed later.
"""

from __future__ import annotations


class ServeAppError(Exception):
    """Root of every error that this project raises on purpose.

    Args:
        detail: English sentence for logs and new routes; says what happened and, where possible, what to do.
    """

    code = "INTERNAL_ERROR"
    http_status = 500
    transient = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidRequest(ServeAppError):
    """Raised when a request is malformed or asks for what is not allowed."""

    code = "INVALID_REQUEST"
    http_status = 422


class CallbackRefused(InvalidRequest):
    """Raised when a callback base may not be reached."""

    code = "CALLBACK_REFUSED"


class MediaError(ServeAppError):
    """Raised when input media can't be used."""


class DownloadError(MediaError):
    """Raised when a URL can't be fetched."""

    code = "DOWNLOAD_ERROR"
    http_status = 400


class AddressRefused(DownloadError):
    """Raised when a scheme, host or address is not one that this service may reach."""


class MediaTooLarge(DownloadError):
    """Raised when a file exceeds the byte limit."""

    http_status = 413


class DownloadInterrupted(DownloadError):
    """Raised on a network fault that may pass: time-out, reset, 429, 5xx."""

    http_status = 502
    transient = True


class AudioExtractionError(MediaError):
    """Raised when a file is not media, has no audio track, or is broken."""

    code = "AUDIO_EXTRACTION_ERROR"
    http_status = 422


class ImageUnreadable(MediaError):
    """Raised when a file is no picture of a known kind, is broken, or is cut off."""

    code = "IMAGE_UNREADABLE"
    http_status = 422


class ImageTooLarge(MediaError):
    """Raised when a picture has more bytes or pixels than allowed."""

    code = "IMAGE_TOO_LARGE"
    http_status = 413


class ModelError(ServeAppError):
    """Raised when a model can't do its work."""


class ProcessingError(ModelError):
    """Raised when a model stage fails."""

    code = "PROCESSING_ERROR"


class LanguageUnsupported(ProcessingError):
    """Raised when no deployed backend serves the requested language."""

    http_status = 422


class TaskUnsupported(ProcessingError):
    """Raised when no deployed backend can translate."""

    http_status = 422


class StorageError(ProcessingError):
    """Raised when a file in the artefact store can't be read: gone, or the store does not answer."""

    transient = True


class ModelLoadingError(ModelError):
    """Raised when a model can't be loaded."""

    code = "MODEL_LOADING_ERROR"
    http_status = 503


class ModelSourceUnreachable(ModelLoadingError):
    """Raised when no source of a model of the catalog gives anything: none can be reached, or none has it."""


class GpuMemoryError(ModelError):
    """Raised when GPU memory ran out and the fall-back failed too."""

    code = "GPU_MEMORY_ERROR"
    http_status = 503


class JobError(ServeAppError):
    """Raised when a job can't be found or changed."""


class JobNotFound(JobError):
    """Raised when no job has this id."""

    code = "JOB_NOT_FOUND"
    http_status = 404


class JobConflict(JobError):
    """Raised when an id is taken by another request, or a job's state forbids the action."""

    code = "JOB_CONFLICT"
    http_status = 409


class LeaseLost(JobError):
    """Raised when a runner writes to a job whose lease it no longer holds; its work must be dropped."""

    code = "LEASE_LOST"
    http_status = 409


class Overloaded(ServeAppError):
    """Raised when a queue is full.

    Args:
        detail: what is full.
        retry_after_s: when it is worth trying again.
    """

    code = "OVERLOADED"
    http_status = 429
    transient = True

    def __init__(self, detail: str = "", retry_after_s: float = 5.0) -> None:
        super().__init__(detail)
        self.args = (detail, retry_after_s)
        self.retry_after_s = retry_after_s


class Unavailable(Overloaded):
    """Raised when a deployment is missing, still starting, or saturated."""

    code = "UNAVAILABLE"
    http_status = 503


class ReplicaLost(Unavailable):
    """Raised when a replica died, or its node took the data along; the same call may succeed on another one."""
