"""Answers about jobs. A field that does not apply to a job is absent, not null: routes leave out unset ones."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from serve_app.analysis.result import RESULT_EXAMPLE, AnalysisResult, Unchecked
from serve_app.api.http.answers import timestamp
from serve_app.jobs.record import Delivery, DeliveryStatus, Job, JobStatus
from serve_app.messages import JobKind, Locale, accepted_message
from serve_app.results import MusicPiece
from serve_app.sentences import translated
from serve_app.services import SubmittedJob

UNKNOWN_ESTIMATE_S = 300  # the contract's answer until speeds have been measured

ShownStatus = Literal["processing", "completed", "failed", "cancelled"]
ShownResult = Annotated[AnalysisResult | MusicPiece, Unchecked()]


class SubmittedView(BaseModel):
    """Answer to a submitted job."""

    job_id: str
    status: ShownStatus
    message: str
    status_url: str
    estimated_time: int = Field(description="whole seconds until the job should be done; 300: unknown yet; 0: it is")


class JobView(BaseModel):
    """A job. Fields that do not apply to its state are absent."""

    status: ShownStatus
    processing_time: float | None = Field(default=None, description="seconds from start to end, once ended")
    completed_at: str | None = Field(default=None, description="once ended")
    job_id: str
    progress: int = Field(description="percent")
    message: str
    created_at: str
    queue_position: int | None = Field(default=None, description="jobs ahead of this one while it waits; 0: next")
    estimated_remaining_s: float | None = Field(
        default=None,
        description="seconds until the job should be done, with its wait for others; absent once it has ended, and "
        "until speeds are measured. Lists tell it of jobs in work alone",
    )
    error_code: str | None = Field(default=None, description="of a failed job; this API's description lists them")
    error_message: str | None = None
    result: ShownResult | None = Field(default=None, description="of a completed job: what its kind makes")
    kind: JobKind | None = Field(default=None, description="`music`; absent: a video job")


class JobPageView(BaseModel):
    """Some jobs, newest first, without their results."""

    jobs: list[JobView]
    next_cursor: str | None = Field(description="`cursor` of the following page; null at the end")


class DeliveryView(BaseModel):
    """One event on its way to the job's callback."""

    seq: int
    webhook_id: str
    status: DeliveryStatus
    attempts: int
    created_at: str
    next_attempt_at: str | None
    delivered_at: str | None
    last_error: str | None
    last_status_code: int | None
    payload: dict[str, Any] = Field(description="the callback's body, without `result`")


class DeliveriesView(BaseModel):
    """What was sent, or is to be sent, to a job's callback, in order."""

    job_id: str
    deliveries: list[DeliveryView]


class ReplayView(BaseModel):
    """Answer to a replay."""

    job_id: str
    replayed: int = Field(description="events queued to be sent again")


_FAILED = {"error_message": "비디오 파일을 다운로드할 수 없습니다: 404 Not Found", "error_code": "DOWNLOAD_ERROR"}
_CALLBACKS: list[JsonValue] = [
    {"job_id": "…", "status": "processing", "progress": 60, "message": "음성을 텍스트로 변환 중..."},
    {"job_id": "…", "status": "completed", "progress": 100, "message": "분석 완료", "result": RESULT_EXAMPLE},
    {"job_id": "…", "status": "failed", **_FAILED},
]


class CallbackPayload(BaseModel):
    """The body of a callback to `{fastapi_base_url}/api/upload-video/result`; fields that do not apply are absent."""

    model_config = ConfigDict(json_schema_extra={"examples": _CALLBACKS})

    job_id: str
    status: ShownStatus
    progress: int | None = None
    message: str | None = None
    result: ShownResult | None = None
    result_url: str | None = Field(
        default=None, description="in place of a long `result`, where the operator has set a limit: `GET` it there"
    )
    result_bytes: int | None = Field(default=None, description="length of what is at `result_url`")
    result_sha256: str | None = Field(default=None, description="of what is at `result_url`, in hexadecimal")
    error_message: str | None = None
    error_code: str | None = None


def shown_status(status: JobStatus) -> ShownStatus:
    """Return the contract's name of a status: a queued job is `processing` to a client."""
    return "processing" if status is JobStatus.QUEUED else status.value  # type: ignore[return-value]


def view_submitted(submitted: SubmittedJob, locale: Locale, root_path: str) -> SubmittedView:
    """Describe a job to the client that submitted it, for the first time or again; `locale`: if it names none.

    A video job is always `processing` here, as in the contract: its state is at `status_url`.
    """
    job = submitted.job
    estimate_s = submitted.estimated_s
    if job.status.is_final:
        estimated_time = 0
    elif estimate_s is None or not math.isfinite(estimate_s):
        estimated_time = UNKNOWN_ESTIMATE_S
    else:
        estimated_time = max(1, math.ceil(estimate_s))
    tells_end = job.status.is_final and job.request.kind is not JobKind.VIDEO
    return SubmittedView(
        job_id=job.job_id,
        status=shown_status(job.status) if tells_end else "processing",
        message=job.message if tells_end else accepted_message(job.request.kind, job.request.locale or locale),
        status_url=f"{root_path.rstrip('/')}/jobs/{job.job_id}",
        estimated_time=estimated_time,
    )


def view_job(job: Job, queue_position: int | None = None, remaining_s: float | None = None) -> JobView:
    """Describe a job, without its result."""
    return JobView(**job_fields(job, queue_position, remaining_s))


def job_fields(job: Job, queue_position: int | None = None, remaining_s: float | None = None) -> dict[str, Any]:
    """Return the fields of a job's view that apply to its state; `remaining_s`: None where it is not known."""
    known: dict[str, Any] = {"status": shown_status(job.status)}
    if job.status.is_final:
        if job.processing_s is not None:
            known["processing_time"] = round(job.processing_s, 2)
        if job.completed_at is not None:
            known["completed_at"] = timestamp(job.completed_at)
    known |= {
        "job_id": job.job_id,
        "progress": job.progress,
        "message": job.message,
        "created_at": timestamp(job.created_at),
    }
    if queue_position is not None:
        known["queue_position"] = queue_position
    if remaining_s is not None and not job.status.is_final:
        known["estimated_remaining_s"] = round(remaining_s, 1)
    if job.status is JobStatus.FAILED:
        known |= {"error_code": job.error_code, "error_message": job.error_message}
    if job.request.kind is not JobKind.VIDEO:
        known["kind"] = job.request.kind
    return known


def view_delivery(delivery: Delivery, locale: Locale) -> DeliveryView:
    return DeliveryView(
        seq=delivery.event.seq,
        webhook_id=delivery.webhook_id,
        status=delivery.status,
        attempts=delivery.attempts,
        created_at=timestamp(delivery.event.created_at),
        next_attempt_at=None if delivery.next_attempt_at is None else timestamp(delivery.next_attempt_at),
        delivered_at=None if delivery.delivered_at is None else timestamp(delivery.delivered_at),
        last_error=delivery.last_error and translated(delivery.last_error, locale),
        last_status_code=delivery.last_status_code,
        payload=delivery.event.payload,
    )
