"""`Claim`, and the changes of a job's state: each is one UPDATE that refuses illegal changes and lost leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, update

from serve_app.errors import LeaseLost
from serve_app.jobs import events
from serve_app.jobs.record import LEGAL_TRANSITIONS, Job, JobStatus
from serve_app.jobs.tables import JOB_COLUMNS, AnyRow, job_steps, jobs, to_job


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job until its lease runs out.

    Attributes:
        job: as it was when claimed.
        fence: higher than the fence of every earlier claim; the store refuses writes under an older fence.
        owner: who claimed it.
    """

    job: Job
    fence: int
    owner: str


def held_by(claim: Claim) -> ColumnElement[bool]:
    """Return the condition that a claim is still the latest of an active job."""
    return and_(
        jobs.c.job_id == claim.job.job_id,
        jobs.c.status == JobStatus.PROCESSING,
        jobs.c.owner == claim.owner,
        jobs.c.fence == claim.fence,
    )


def transition(where: ColumnElement[bool], target: JobStatus) -> Any:
    """Return an UPDATE that changes nothing where the transition is illegal, whatever state the caller assumes."""
    sources = [source.value for source, targets in LEGAL_TRANSITIONS.items() if target in targets]
    return update(jobs).where(where, jobs.c.status.in_(sources)).values(status=target.value)


def payload_of(job_id: str, status: JobStatus, rest: dict[str, Any]) -> dict[str, Any]:
    """Return a callback body: `rest` holds the fields that this status has."""
    return {"job_id": job_id, "status": status.value, **rest}


def hold(connection: Connection, claim: Claim, *, lease_until: float) -> AnyRow:
    """Renew a lease and lock the job's row for the rest of the transaction. LeaseLost."""
    row = connection.execute(
        update(jobs)
        .where(held_by(claim))
        .values(lease_until=lease_until)
        .returning(jobs.c.progress, jobs.c.attempts, jobs.c.crashes, jobs.c.cancel_requested)
    ).first()
    if row is None:
        raise LeaseLost(f"{claim.owner} no longer holds job {claim.job.job_id}: drop this work")
    return row


def end(
    connection: Connection, where: ColumnElement[bool], status: JobStatus, now: float, *, payload: Any, **values: Any
) -> Job:
    """End a job in the caller's transaction: set its state, add its last event, drop its steps' results.

    Args:
        connection: the transaction.
        where: which job, and under whose claim; LeaseLost if no active job meets it.
        status: how it ends.
        now: POSIX seconds.
        payload: fields of the event besides `job_id` and `status`.
        values: further columns of the job's row to set.
    """
    row = connection.execute(
        transition(where, status)
        .values(completed_at=now, owner=None, lease_until=None, **values)
        .returning(*JOB_COLUMNS)
    ).first()
    if row is None:
        raise LeaseLost("the job was taken over by another runner, or has ended: drop this work")
    job = to_job(row)
    events.append(
        connection,
        job.job_id,
        key=status.value,
        payload=payload_of(job.job_id, status, payload),
        target=job.request.callback_base,
        now=now,
    )
    connection.execute(update(job_steps).where(job_steps.c.job_id == job.job_id).values(result=None))
    return job
