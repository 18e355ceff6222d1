"""The seam between HTTP and Ray: what the API layer calls, as Protocols.

The ingress implements them over the job store and deployment handles; tests of the API implement them in memory.
Every method may raise any error of `serve_app.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from serve_app.jobs.record import Delivery, Job, JobEvent, JobPage, JobRequest, JobStatus


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A stored job and when to expect its end.

    Attributes:
        job: the stored job, new or the one that was there already.
        estimated_s: seconds until it should be done; None until speeds have been measured.
    """

    job: Job
    estimated_s: float | None


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """One synchronous analysis: the same work as a video job, answered at once."""

    source_url: str
    language: str = "auto"
    enable_gpu: bool = True
    emotion_detection: bool = True
    max_workers: int = 4
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None


class JobService(Protocol):
    """Durable video jobs."""

    async def submit(self, request: JobRequest) -> SubmittedJob:
        """Store a job, or return the one that has this id and request; JobConflict, Overloaded, CallbackRefused."""
        ...

    async def get(self, job_id: str) -> Job:
        """Return one job, with its result if it has one; JobNotFound."""
        ...

    async def queue_position(self, job_id: str) -> int | None:
        """Return how many jobs will be taken before this one (0: next), None once it was taken."""
        ...

    async def page(self, status: JobStatus | None, limit: int, cursor: str | None) -> JobPage:
        """Return jobs, newest first, without their results."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Ask for a job's end; at once where it still waits. JobConflict once it has ended otherwise."""
        ...

    async def delete(self, job_id: str) -> None:
        """Remove an ended job with its artefacts; JobConflict while it is active."""
        ...

    def events(self, job_id: str, after_seq: int) -> AsyncIterator[JobEvent]:
        """Yield a job's events with `seq > after_seq`, as they come, until it has ended."""
        ...

    async def deliveries(self, job_id: str) -> list[Delivery]:
        """Return what was sent, or is to be sent, to the job's callback, in order."""
        ...

    async def replay(self, job_id: str) -> int:
        """Queue all of a job's deliveries again; return how many."""
        ...


class AnalysisService(Protocol):
    """Synchronous video analysis."""

    async def analyze(self, request: AnalysisRequest) -> Mapping[str, Any]:
        """Return the contract's result object (section 1); MediaError, ModelError, Overloaded."""
        ...


class HealthService(Protocol):
    """State of the graph."""

    async def deployments(self) -> Mapping[str, str]:
        """Return every enabled deployment's state by name; "HEALTHY" is the good one."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the API layer needs."""

    jobs: JobService
    analysis: AnalysisService
    health: HealthService
