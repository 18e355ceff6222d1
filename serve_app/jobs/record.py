"""`Job`, its kinds, states and legal transitions, its request, events and deliveries: values only."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from serve_app import json_text
from serve_app.analysis.result import AnalysisResult
from serve_app.messages import JobKind, Locale
from serve_app.sentences import Sentence

JobResult: TypeAlias = AnalysisResult | dict[str, Any]
"""JSON: of a video job an AnalysisResult, of a music job a `results.MusicPiece`."""


class JobStatus(StrEnum):
    """State of a job. The contract shows QUEUED as `processing`."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return not LEGAL_TRANSITIONS[self]


LEGAL_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PROCESSING, JobStatus.CANCELLED}),
    JobStatus.PROCESSING: frozenset(JobStatus),  # also back to QUEUED: released at shutdown, or to be tried again
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


MAX_WORKERS = 64

NumSpeakers = Annotated[int, Field(ge=1, le=100)]
AudioTrack = Annotated[
    int,
    Field(
        ge=0,
        le=255,
        description="number of the audio track to take, from 0, of a file with several; default: the one that the file"
        " marks, or the first that is not silent",
    ),
]


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """What a caller may choose about the analysis of a file.

    Declared here alone: jobs, synchronous analyses and the requests of both routes inherit it. pydantic checks the
    bounds and documents the fields where they come in (`api.video.requests.AnalysisFields`).
    """

    enable_gpu: Annotated[bool, Field(description="false: this job must not use GPU replicas")] = True
    emotion_detection: Annotated[bool, Field(description="recognise emotion where a model for it is configured")] = True
    audio_track: AudioTrack | None = None
    language: Annotated[str, Field(description="language spoken; `auto` detects it")] = "auto"
    max_workers: Annotated[
        int, Field(description="the most pieces of this file processed at once: 1 to 64, or the nearest, with a note")
    ] = 4
    min_speakers: Annotated[NumSpeakers | None, Field(description="at least this many people speak")] = None
    max_speakers: Annotated[NumSpeakers | None, Field(description="at most this many people speak")] = None
    num_speakers: Annotated[NumSpeakers | None, Field(description="exactly this many people speak")] = None

    def options(self) -> dict[str, Any]:
        """Return the options by name, as another kind of request takes them."""
        return {option.name: getattr(self, option.name) for option in fields(AnalysisOptions)}

    @property
    def workers(self) -> int:
        """`max_workers` within its bounds."""
        return min(max(self.max_workers, 1), MAX_WORKERS)

    def option_notes(self) -> list[str]:
        """Return a sentence for each option that was not taken as it is."""
        if self.workers == self.max_workers:
            return []
        return [Sentence("max_workers can be 1 to {most}; {used} was used", most=MAX_WORKERS, used=self.workers)]


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What a client asked for, validated. Two requests are the same if they are equal. Each kind adds its fields.

    Attributes:
        callback_base: base of the callback URL, as the client gave it.
        locale: language of the job's messages; None: the operator's.
        default_callback_base: of a client that gave none: the operator's when the job was submitted.
    """

    kind: ClassVar[JobKind]

    job_id: str
    callback_base: str | None = None
    locale: Locale | None = None
    default_callback_base: str | None = field(default=None, compare=False)

    @property
    def callback(self) -> str | None:
        """Base of the callback URL; None: the job has no callback."""
        return self.callback_base or self.default_callback_base

    @property
    def length_s(self) -> float | None:
        """Seconds of sound, where the request tells them."""
        return None

    @property
    def pace(self) -> Hashable:
        """What the client chose that changes the job's speed: jobs in which it is equal are measured together."""
        return None

    def is_same(self, other: JobRequest) -> bool:
        """Whether a client asks for the same again, whatever base the operator has set meanwhile.

        A request of version 2 holds the operator's base as if the client had given it.
        """
        return self == other or replace(self, callback_base=self.callback) == replace(
            other, callback_base=other.callback
        )


@dataclass(frozen=True, kw_only=True)
class VideoRequest(AnalysisOptions, JobRequest):
    """Analyze a video."""

    kind = JobKind.VIDEO

    video_url: str

    @property
    def pace(self) -> Hashable:
        return (self.enable_gpu, self.emotion_detection, self.language, self.max_workers)


@dataclass(frozen=True, kw_only=True)
class MusicRequest(JobRequest):
    """Make a piece of music from a picture.

    Attributes:
        image_url: address of the picture; None: it was uploaded.
        upload_sha256: of an uploaded picture, in hexadecimal.
        upload_name: of its file in the job's folder. Random, so that each submission has a file of its own; the same
            picture makes the same request.
        prompt: what the caller wants to hear.
        duration_s: length of the piece.
        seed: of every random choice; None: made from the job's id.
        version_of: id of the piece that this one is another version of.
    """

    kind = JobKind.MUSIC

    image_url: str | None = None
    upload_sha256: str | None = None
    upload_name: str | None = field(default=None, compare=False)
    prompt: str = ""
    duration_s: float = 30.0
    seed: int | None = None
    version_of: str | None = None

    @property
    def length_s(self) -> float | None:
        return self.duration_s


@dataclass(frozen=True, kw_only=True)
class UnreadableRequest(JobRequest):
    """Stands for a stored request that this version can't read: of a newer one, or damaged."""

    kind = JobKind.VIDEO


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser, by the random id in its signed cookie.

    Attributes:
        id: random.
        is_known: whether the request carried the cookie, or came from a browser. Its jobs are private then: nobody else
            sees them. Otherwise, as for a client that keeps no cookies, whoever knows a job's id may read it.
    """

    id: str
    is_known: bool = True


class Scope(StrEnum):
    """What an API key allows."""

    SUBMIT = "submit"  # jobs and synchronous requests; cancel, remove and replay the key's own jobs
    READ = "read"  # the key's own jobs
    READ_ALL = "read-all"  # everybody's jobs
    ADMIN = "admin"  # all of these for everybody's jobs, the models, and the details of readiness


_IMPLIED = {Scope.ADMIN: frozenset(Scope), Scope.READ_ALL: frozenset({Scope.READ_ALL, Scope.READ})}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A caller, by its API key; the secret is not kept. Times are POSIX seconds.

    Attributes:
        id: random, public: it names the key in jobs and in the log.
        name: whose key it is, in the operator's words.
        requests_per_minute: that each ingress replica answers; None: any number.
        jobs_in_work: jobs that may wait or be in work at once; None: half of the queue's places.
        last_used_at: as of a minute ago; None: never used.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    requests_per_minute: int | None = None
    jobs_in_work: int | None = None
    created_at: float = 0.0
    revoked_at: float | None = None
    last_used_at: float | None = None

    def allows(self, scope: Scope) -> bool:
        """Return whether one of the key's scopes is this one, or holds it."""
        return any(scope in _IMPLIED.get(own, (own,)) for own in self.scopes)


@dataclass(frozen=True)
class Job:
    """A stored job. Times are POSIX seconds.

    Attributes:
        result_text: the result as JSON text; None where there is none, or it was left out.
        visitor: id of the visitor whose job it is; None: nobody's.
        private: whether other visitors must not see it.
        number: in the order of submission; never used again, unlike the id.
        length_s: of the file's sound, once known.
        speech_s: of it, speech, once known.
        progress_at: when `progress` was reached, or the job was claimed.
    """

    request: JobRequest
    status: JobStatus
    progress: int
    message: str
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    attempts: int = 0
    error_code: str | None = None
    error_message: str | None = None
    cancel_requested: bool = False
    result_text: str | None = field(default=None, repr=False)
    visitor: str | None = None
    private: bool = False
    number: int = 0
    length_s: float | None = None
    speech_s: float | None = None
    progress_at: float | None = None

    @property
    def job_id(self) -> str:
        """The id that the client chose."""
        return self.request.job_id

    @cached_property
    def result(self) -> JobResult | None:
        """The parsed result. Parsing a long one takes half a second: not on an event loop."""
        result: JobResult | None = None if self.result_text is None else json_text.loads(self.result_text)
        return result

    @property
    def processing_s(self) -> float | None:
        """Seconds from the first start to the end; None until it has ended."""
        if self.started_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.started_at


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first. `next_cursor` asks for the following page; None at the end."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A change of a job that is reported to its callback.

    Attributes:
        seq: 1, 2, 3, … within the job.
        status: of the job.
        body: the callback's body, JSON text; with the result, where there is one and it was asked for.
    """

    job_id: str
    seq: int
    created_at: float
    status: JobStatus
    body: str = field(repr=False)

    @property
    def payload(self) -> dict[str, Any]:
        """The parsed body. Parsing one with a long result takes half a second: not on an event loop."""
        payload: dict[str, Any] = json_text.loads(self.body)
        return payload


class DeliveryStatus(StrEnum):
    """State of one event's delivery to the callback."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    NONE = "none"  # the job has no callback


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to the callback. Times are POSIX seconds."""

    event: JobEvent
    webhook_id: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: float | None = None
    delivered_at: float | None = None
    last_error: str | None = None
    last_status_code: int | None = None
