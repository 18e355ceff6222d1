"""`Lifecycle`: claims of jobs, work under a lease, ends of jobs. Every write carries the claim's fence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from serve_app.analysis.result import AnalysisResult
from serve_app.errors import JobConflict, JobNotFound, ProcessingError
from serve_app.jobs import events
from serve_app.jobs.database import Database
from serve_app.jobs.record import Job, JobStatus
from serve_app.jobs.tables import JOB_COLUMNS, AnyRow, encode, job_steps, jobs, storable, to_job
from serve_app.jobs.transitions import Claim, end, held_by, hold, payload_of, transition
from serve_app.messages import (
    Locale,
    Stage,
    accepted_message,
    cancelled_message,
    error_code,
    error_message,
    queued_message,
    stage_message,
)

# Fences of one job lie below those of any job submitted later, so a runner left over from a job that was deleted
# can't touch a new job of the same id. No job is claimed a million times.
_FENCES_PER_JOB = 1 << 20


class Lifecycle:
    """A runner's half of the job store. Every method is one transaction, but for `claim`.

    Args:
        db: the database.
        lease_s: how long a runner keeps a job without a write or a renewal. Every write renews the lease.
        max_attempts: failed attempts after which a job fails for good.
        max_crashes: takeovers in a row, without a finished step between them, after which a job fails for good,
            because it kills its runners.
        locale: language of the messages.
    """

    def __init__(self, db: Database, *, lease_s: float, max_attempts: int, max_crashes: int, locale: Locale) -> None:
        self._db = db
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._max_crashes = max_crashes
        self._locale = locale

    def claim(self, owner: str) -> Claim | None:
        """Take over the oldest job whose lease ran out, or else take the oldest that is due; None if there is none."""
        if self._db.is_sqlite and not self._any_claimable():
            return None  # an idle runner must not wait for the one write lock
        while True:
            with self._db.write() as (connection, now):
                row = self._next_claimable(connection, now)
                if row is None:
                    return None
                if row.status == JobStatus.PROCESSING and self._ended_without_runner(connection, row, now):
                    continue
                return self._take(connection, row, owner, now)

    def renew(self, claim: Claim) -> bool:
        """Extend the lease; return whether a client asked to cancel the job. LeaseLost."""
        with self._db.write() as (connection, now):
            return bool(self._hold(connection, claim, now).cancel_requested)

    def steps(self, job_id: str) -> dict[str, Any]:
        """Return the results of a job's finished steps by name; none once the job has ended."""
        with self._db.read() as connection:
            rows = connection.execute(
                select(job_steps.c.name, job_steps.c.result)
                .where(job_steps.c.job_id == job_id, job_steps.c.result.is_not(None))
                .order_by(job_steps.c.finished_at)
            )
            return {row.name: json.loads(row.result) for row in rows}

    def step_seconds(self, job_id: str) -> dict[str, float]:
        """Return how long each finished step took, by name, in the order of their ends; kept after the job's end."""
        with self._db.read() as connection:
            rows = connection.execute(
                select(job_steps.c.name, job_steps.c.seconds)
                .where(job_steps.c.job_id == job_id)
                .order_by(job_steps.c.finished_at)
            )
            return {row.name: row.seconds for row in rows}

    def commit_step(
        self, claim: Claim, name: str, result: Any, *, seconds: float, announce: Sequence[Stage] = ()
    ) -> None:
        """Store a step's result together with the progress that follows from it.

        The first result of a name stays; committing it again changes nothing.

        Args:
            claim: the right to the job.
            name: of the step, unique in the job.
            result: any JSON value.
            seconds: how long the step took.
            announce: stages that start now.

        Raises:
            LeaseLost: if the job was taken over or has ended; nothing is stored.
            ValueError: if the result holds a value that JSON does not have.
        """
        text = encode(result)
        with self._db.write() as (connection, now):
            held = self._hold(connection, claim, now)
            inserted = connection.execute(
                self._db.insert(job_steps)
                .values(job_id=claim.job.job_id, name=name, finished_at=now, seconds=seconds, result=text)
                .on_conflict_do_nothing()
                .returning(job_steps.c.name)
            ).first()
            if inserted is not None and held.crashes:
                connection.execute(update(jobs).where(jobs.c.job_id == claim.job.job_id).values(crashes=0))
            self._announce(connection, claim, held.progress, announce, now)

    def announce(self, claim: Claim, *stages: Stage) -> None:
        """Report stages that start now; stages at or below the progress so far are left out. LeaseLost."""
        with self._db.write() as (connection, now):
            held = self._hold(connection, claim, now)
            self._announce(connection, claim, held.progress, stages, now)

    def complete(self, claim: Claim, result: AnalysisResult) -> Job:
        """End a job with its result. A cancellation that came too late is ignored.

        Raises:
            LeaseLost: if the job was taken over or has ended.
            ValueError: if the result holds a value that JSON does not have.
        """
        text = encode(result)
        message = stage_message(Stage.COMPLETED, self._locale)
        progress = int(Stage.COMPLETED)
        with self._db.write() as (connection, now):
            return end(
                connection,
                held_by(claim),
                JobStatus.COMPLETED,
                now,
                payload={"progress": progress, "message": message},
                progress=progress,
                message=message,
                result=text,
            )

    def fail(self, claim: Claim, code: str, message: str, *, retry_after_s: float | None) -> Job:
        """End an attempt that failed: queue the job again if it may be tried again, else end it.

        Args:
            claim: the right to the job.
            code: the contract's error code.
            message: the contract's sentence.
            retry_after_s: when to try again; None: never. Ignored when the attempts are used up or a client asked to
                cancel the job.

        Raises:
            LeaseLost: if the job was taken over or has ended.
        """
        with self._db.write() as (connection, now):
            held = self._hold(connection, claim, now)
            attempts = held.attempts + 1
            if retry_after_s is None or attempts >= self._max_attempts:
                return self._fail(connection, held_by(claim), code, message, now, attempts=attempts)
            return self._hand_back(connection, claim, held, now, due_at=now + retry_after_s, attempts=attempts)

    def release(self, claim: Claim) -> Job:
        """Hand a job back without counting an attempt: it keeps its place and its steps. LeaseLost.

        It ends as cancelled if a client asked for that.
        """
        with self._db.write() as (connection, now):
            held = self._hold(connection, claim, now)
            return self._hand_back(connection, claim, held, now, due_at=now, attempts=held.attempts)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if no runner works on it; otherwise `renew` tells its runner.

        Raises:
            JobNotFound: if there is no such job.
            JobConflict: if it has completed or failed.
        """
        with self._db.write() as (connection, now):
            row = connection.execute(select(*JOB_COLUMNS).where(jobs.c.job_id == job_id).with_for_update()).first()
            if row is None:
                raise JobNotFound(f"No job has the id {job_id}")
            job = to_job(row)
            if job.status == JobStatus.CANCELLED:
                return job
            if job.status.is_final:
                raise JobConflict(f"Job {job_id} is already {job.status} and can't be cancelled")
            if job.status == JobStatus.QUEUED or row.lease_until <= now:
                return self._cancel(connection, jobs.c.job_id == job_id, now)
            return to_job(
                connection.execute(
                    update(jobs)
                    .where(jobs.c.job_id == job_id, jobs.c.status == JobStatus.PROCESSING)
                    .values(cancel_requested=True)
                    .returning(*JOB_COLUMNS)
                ).one()
            )

    def finish_cancel(self, claim: Claim) -> Job:
        """End a job as cancelled, after its work was stopped.

        Raises:
            LeaseLost: if the job was taken over or has ended.
            JobConflict: if no client asked for it: a runner that shuts down must release the job.
        """
        with self._db.write() as (connection, now):
            if not self._hold(connection, claim, now).cancel_requested:
                raise JobConflict(f"no client asked to cancel job {claim.job.job_id}: release it instead")
            return self._cancel(connection, held_by(claim), now)

    def _any_claimable(self) -> bool:
        with self._db.read() as connection:
            return self._next_claimable(connection, self._db.now(connection)) is not None

    def _next_claimable(self, connection: Connection, now: float) -> AnyRow | None:
        # Two queries instead of one with OR: each reads the head of an index, however many jobs have ended.
        expired = (
            select(*JOB_COLUMNS)
            .where(jobs.c.status == JobStatus.PROCESSING, jobs.c.lease_until <= now)
            .order_by(jobs.c.number)
        )
        due = (
            select(*JOB_COLUMNS).where(jobs.c.status == JobStatus.QUEUED, jobs.c.due_at <= now).order_by(jobs.c.number)
        )
        for query in (expired, due):
            row = connection.execute(query.limit(1).with_for_update(skip_locked=True)).first()
            if row is not None:
                return row
        return None

    def _ended_without_runner(self, connection: Connection, row: AnyRow, now: float) -> bool:
        this = jobs.c.job_id == row.job_id
        if row.cancel_requested:
            self._cancel(connection, this, now)
            return True
        if row.crashes >= self._max_crashes:
            error = ProcessingError(
                f"{row.crashes + 1} runners in a row were lost while they worked on this job; it is not tried again"
            )
            message = error_message(error, self._locale)
            self._fail(connection, this, error_code(error), message, now, attempts=row.attempts)
            return True
        return False

    def _take(self, connection: Connection, row: AnyRow, owner: str, now: float) -> Claim:
        taken = connection.execute(
            transition(jobs.c.job_id == row.job_id, JobStatus.PROCESSING)
            .values(
                owner=owner,
                fence=max(row.fence, row.number * _FENCES_PER_JOB) + 1,
                lease_until=now + self._lease_s,
                started_at=func.coalesce(jobs.c.started_at, now),
                crashes=row.crashes + (row.status == JobStatus.PROCESSING),
                message=self._message_at(row.progress),
            )
            .returning(*JOB_COLUMNS)
        ).one()
        return Claim(to_job(taken), taken.fence, owner)

    def _message_at(self, progress: int) -> str:
        return stage_message(Stage(progress), self._locale) if progress else accepted_message(self._locale)

    def _hold(self, connection: Connection, claim: Claim, now: float) -> AnyRow:
        return hold(connection, claim, lease_until=now + self._lease_s)

    def _announce(
        self, connection: Connection, claim: Claim, progress: int, stages: Sequence[Stage], now: float
    ) -> None:
        request = claim.job.request
        for stage in sorted(set(stages)):
            if stage == Stage.COMPLETED:
                raise ValueError("only complete() announces the end")
            if stage <= progress:
                continue  # a takeover's or a retry's repetition, or a branch that fell behind
            progress, message = int(stage), stage_message(stage, self._locale)
            connection.execute(update(jobs).where(held_by(claim)).values(progress=progress, message=message))
            events.append(
                connection,
                request.job_id,
                key=f"{JobStatus.PROCESSING}:{progress}",
                payload=payload_of(request.job_id, JobStatus.PROCESSING, {"progress": progress, "message": message}),
                target=request.callback_base,
                now=now,
            )

    def _hand_back(
        self, connection: Connection, claim: Claim, held: AnyRow, now: float, *, due_at: float, attempts: int
    ) -> Job:
        if held.cancel_requested:
            return self._cancel(connection, held_by(claim), now)
        queued = connection.execute(
            transition(held_by(claim), JobStatus.QUEUED)
            .values(
                owner=None, lease_until=None, due_at=due_at, attempts=attempts, message=queued_message(self._locale)
            )
            .returning(*JOB_COLUMNS)
        ).one()
        return to_job(queued)

    def _cancel(self, connection: Connection, where: ColumnElement[bool], now: float) -> Job:
        message = cancelled_message(self._locale)
        return end(
            connection,
            where,
            JobStatus.CANCELLED,
            now,
            payload={"message": message},
            message=message,
            cancel_requested=True,
        )

    def _fail(
        self, connection: Connection, where: ColumnElement[bool], code: str, message: str, now: float, *, attempts: int
    ) -> Job:
        message = storable(message)
        return end(
            connection,
            where,
            JobStatus.FAILED,
            now,
            payload={"error_message": message, "error_code": code},
            message=message,
            error_code=code,
            error_message=message,
            attempts=attempts,
        )
