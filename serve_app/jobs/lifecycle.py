"""`Lifecycle`: claims of jobs, work under a lease, ends of jobs. Every write carries the claim's fence.

Each change of a job's state is one UPDATE that refuses illegal transitions and lost leases.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, and_, delete, func, or_, select, update

from serve_app.errors import JobConflict, JobNotFound, LeaseLost, ProcessingError
from serve_app.jobs import events
from serve_app.jobs.database import Database
from serve_app.jobs.record import LEGAL_TRANSITIONS, Job, JobRequest, JobResult, JobStatus, UnreadableRequest
from serve_app.jobs.retry import LONGEST_JOB_DELAY_S
from serve_app.jobs.tables import (
    JOB_COLUMNS,
    AnyRow,
    encode,
    job_steps,
    jobs,
    pauses,
    read_request,
    replica_deaths,
    runners,
    storable,
    to_job,
)
from serve_app.messages import (
    COMPLETED,
    Locale,
    cancelled_message,
    error_code,
    error_message,
    queued_message,
    stage_message,
)
from serve_app.sentences import Sentence, to_text

# Fences of one job lie below those of any job submitted later, so a runner left over from a job that was deleted
# can't touch a new job of the same id. No job is claimed a million times.
_FENCES_PER_JOB = 1 << 20

_log = logging.getLogger("ray.serve")


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


@dataclass(frozen=True, slots=True)
class Deaths:
    """How many replicas died under a step of a job, and whether the last of them worked on no other job."""

    num_deaths: int
    was_alone: bool


class Lifecycle:
    """A runner's half of the job store; `JobStore` documents its arguments.

    Every method is one transaction, but for `claim`. A method that takes a claim renews its lease. It raises LeaseLost,
    and stores nothing, if the job was taken over or has ended.
    """

    def __init__(self, db: Database, *, lease_s: float, max_attempts: int, max_crashes: int, locale: Locale) -> None:
        self._db = db
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._max_crashes = max_crashes
        self._locale = locale
        self._set_aside: set[int] = set()

    def claim(self, owner: str) -> Claim | None:
        """Claim the oldest job whose lease ran out, or else the oldest that is due; None if there is none.

        A job whose request this version can't read is set aside, for runners of the version that stored it.
        """
        if self._db.is_sqlite and not self._any_claimable():
            return None  # an idle runner must not wait for the one write lock
        while True:
            with self._db.write() as (connection, now):
                row = self._next_claimable(connection, now)
                if row is None:
                    return None
                request = read_request(row)
                if isinstance(request, UnreadableRequest):
                    self._set_aside.add(row.number)
                    _log.warning("job %s: this version can't read its request; it is left to others", row.job_id)
                    continue
                if row.status == JobStatus.PROCESSING and self._ended_without_runner(connection, row, request, now):
                    continue
                return self._take(connection, row, request, owner, now)

    def renew(self, claim: Claim) -> bool:
        """Return whether a client asked to cancel the job."""
        with self._db.write(renewing=True) as (connection, now):
            return bool(self._hold(connection, claim, now).cancel_requested)

    def steps(self, job_id: str) -> dict[str, Any]:
        """Return the results of a job's finished steps by name; none once the job has ended."""
        return {name: json.loads(text) for name, text in self._steps(job_id, job_steps.c.result).items()}

    def step_seconds(self, job_id: str) -> dict[str, float]:
        """Return how long each finished step took, by name, in the order of their ends; kept after the job's end."""
        return self._steps(job_id, job_steps.c.seconds)

    def _steps(self, job_id: str, column: Column[Any]) -> dict[str, Any]:
        query = select(job_steps.c.name, column).where(job_steps.c.job_id == job_id, column.is_not(None))
        with self._db.read() as connection:
            return {row.name: row[1] for row in connection.execute(query.order_by(job_steps.c.finished_at))}

    def commit_step(
        self, claim: Claim, name: str, result: Any, *, seconds: float, announce: Sequence[int] = ()
    ) -> None:
        """Store a step's result, any JSON value, together with the progress that the job has reached.

        The first result of a name stays; committing it again changes nothing. ValueError: JSON can't hold the result.
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

    def announce(self, claim: Claim, *progress: int) -> None:
        """Report progress in percent, with its stage's message; what is not above the progress so far is left out."""
        with self._db.write() as (connection, now):
            held = self._hold(connection, claim, now)
            self._announce(connection, claim, held.progress, progress, now)

    def advance(self, claim: Claim, progress: int) -> None:
        """Store progress within a stage, in percent, which no event reports; what is not above it so far is left out.

        The receiver of the callbacks gets the stages alone, as it always did.
        """
        with self._db.write() as (connection, now):
            if self._hold(connection, claim, now).progress < progress < COMPLETED:
                values = {"progress": progress, "progress_at": now}
                connection.execute(update(jobs).where(_held_by(claim)).values(**values))

    def note_sound(self, claim: Claim, length_s: float, speech_s: float | None = None) -> None:
        """Store the length of the file's sound, and how much of it is speech, for estimates."""
        with self._db.write() as (connection, now):
            self._hold(connection, claim, now)
            values = {"length_s": length_s, "speech_s": speech_s}
            connection.execute(update(jobs).where(_held_by(claim)).values(**values))

    def complete(self, claim: Claim, result: JobResult) -> Job:
        """End a job with its result, also if a cancellation came too late. ValueError: JSON can't hold the result."""
        request = claim.job.request
        shown = {"progress": COMPLETED, "message": stage_message(request.kind, COMPLETED, self._language(request))}
        text = encode(result)
        num_bytes = len(text.encode())
        with self._db.write() as (connection, now):
            held = _held_by(claim)
            values = {**shown, "result": text}
            return _end(connection, held, JobStatus.COMPLETED, now, payload=shown, result_bytes=num_bytes, **values)

    def fail(self, claim: Claim, code: str, message: str, *, retry_after_s: float | None) -> Job:
        """End an attempt that failed: queue the job again if it may be tried again, else end it.

        Args:
            claim: the right to the job.
            code: the contract's error code.
            message: the contract's sentence.
            retry_after_s: when to try again; None: never. Ignored once the attempts are used up or a client has asked
                to cancel the job.
        """
        with self._db.write() as (connection, now):
            held = self._hold(connection, claim, now)
            attempts = held.attempts + 1
            if retry_after_s is None or attempts >= self._max_attempts:
                return self._fail(connection, _held_by(claim), code, message, now, attempts=attempts)
            return self._hand_back(connection, claim, held, now, due_at=now + retry_after_s, attempts=attempts)

    def release(self, claim: Claim, *, after_s: float = 0.0) -> Job:
        """Hand a job back without counting an attempt, for others to take it after some seconds.

        It keeps its place and its steps; a cancelled one ends.
        """
        with self._db.write() as (connection, now):
            held = self._hold(connection, claim, now)
            return self._hand_back(connection, claim, held, now, due_at=now + after_s, attempts=held.attempts)

    def since_start_s(self, claim: Claim) -> float:
        """Return how long ago the job was claimed for the first time."""
        with self._db.write() as (connection, now):
            self._hold(connection, claim, now)
            return max(0.0, now - float(claim.job.started_at or now))

    def note_pause(self, owner: str, reason: str, for_s: float) -> None:
        """Store that a runner claims nothing for some seconds, and why; 0: that it claims again."""
        with self._db.write() as (connection, now):
            connection.execute(delete(pauses).where(or_(pauses.c.owner == owner, pauses.c.until <= now)))
            if for_s:
                connection.execute(
                    pauses.insert().values(owner=owner, reason=storable(to_text(reason)), until=now + for_s)
                )

    def note_runner(self, owner: str, places: int, for_s: float) -> None:
        """Store that a runner works on so many jobs at once, for some seconds; 0: that it has ended."""
        with self._db.write() as (connection, now):
            connection.execute(delete(runners).where(or_(runners.c.owner == owner, runners.c.until <= now)))
            if for_s:
                connection.execute(runners.insert().values(owner=owner, places=places, until=now + for_s))

    def record_death(self, claim: Claim, step: str, replica: str) -> None:
        """Store that a replica died while it worked on a step of the job; once for each replica and step."""
        with self._db.write() as (connection, now):
            self._hold(connection, claim, now)
            connection.execute(
                self._db.insert(replica_deaths)
                .values(job_id=claim.job.job_id, step=step, replica=replica)
                .on_conflict_do_nothing()
            )

    def count_deaths(self, claim: Claim, step: str, replica: str) -> Deaths:
        """Return how many replicas died under a step, and whether this one worked on no other job.

        Call it some seconds after `record_death`, so that the other jobs that the replica worked on are noted too.
        """
        own = replica_deaths.c.job_id == claim.job.job_id
        with self._db.read() as connection:
            others = select(replica_deaths.c.job_id).where(~own, replica_deaths.c.replica == replica).limit(1)
            all_deaths = select(func.count()).select_from(replica_deaths).where(own, replica_deaths.c.step == step)
            return Deaths(connection.execute(all_deaths).scalar_one(), connection.execute(others).first() is None)

    def may_repeat(self, claim: Claim, step: str) -> bool:
        """Return whether it is a job's turn to repeat a step under which replicas died.

        Of the jobs that such a replica worked on, one repeats its step at a time, the oldest first: so a replica that
        dies once more shows whose input is to blame.
        """
        own = replica_deaths.c.job_id == claim.job.job_id
        with self._db.read() as connection:
            dead = select(replica_deaths.c.replica).where(own, replica_deaths.c.step == step)
            older = and_(jobs.c.status == JobStatus.PROCESSING, jobs.c.number < claim.job.number)
            before = select(jobs.c.number).join(replica_deaths, replica_deaths.c.job_id == jobs.c.job_id)
            same = replica_deaths.c.replica.in_(connection.execute(dead).scalars().all())
            return connection.execute(before.where(older, same).limit(1)).first() is None

    def forget_deaths(self, claim: Claim, step: str) -> None:
        """Forget the replicas that died under a step, which has ended well."""
        with self._db.write() as (connection, now):
            self._hold(connection, claim, now)
            connection.execute(
                delete(replica_deaths).where(replica_deaths.c.job_id == claim.job.job_id, replica_deaths.c.step == step)
            )

    def named_files(self, claim: Claim, keys: Sequence[str]) -> set[str]:
        """Return those of a lost claim's files that a finished step or the result of the job names."""
        with self._db.read() as connection:
            this = and_(jobs.c.job_id == claim.job.job_id, jobs.c.number == claim.job.number)
            named = set()
            for key in keys:
                in_step = select(job_steps.c.job_id).where(
                    job_steps.c.job_id == jobs.c.job_id, job_steps.c.result.contains(key, autoescape=True)
                )
                found = select(jobs.c.number).where(
                    this, or_(in_step.exists(), jobs.c.result.contains(key, autoescape=True))
                )
                if connection.execute(found).first() is not None:
                    named.add(key)
            return named

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if no runner works on it; otherwise its runner learns it from `renew`.

        Raises:
            JobNotFound: no job has this id.
            JobConflict: it has completed or failed.
        """
        with self._db.write() as (connection, now):
            row = connection.execute(select(*JOB_COLUMNS).where(jobs.c.job_id == job_id).with_for_update()).first()
            if row is None:
                raise JobNotFound(Sentence("No job has the id {job_id}", job_id=job_id))
            job = to_job(row)
            if job.status == JobStatus.CANCELLED:
                return job
            if job.status.is_final:
                raise JobConflict(
                    Sentence(
                        "Job {job_id} is already {status} and can't be cancelled", job_id=job_id, status=job.status
                    )
                )
            if job.status == JobStatus.QUEUED or row.lease_until <= now:
                return self._cancel(connection, jobs.c.job_id == job_id, job.request, now)
            return to_job(
                connection.execute(
                    update(jobs)
                    .where(jobs.c.job_id == job_id, jobs.c.status == JobStatus.PROCESSING)
                    .values(cancel_requested=True)
                    .returning(*JOB_COLUMNS)
                ).one()
            )

    def finish_cancel(self, claim: Claim) -> Job:
        """End a job as cancelled, once its work is stopped; JobConflict if no client asked for it."""
        with self._db.write() as (connection, now):
            if not self._hold(connection, claim, now).cancel_requested:
                raise JobConflict(
                    Sentence("no client asked to cancel job {job_id}: release it instead", job_id=claim.job.job_id)
                )
            return self._cancel(connection, _held_by(claim), claim.job.request, now)

    def _language(self, request: JobRequest) -> Locale:
        return request.locale or self._locale

    def _any_claimable(self) -> bool:
        with self._db.read() as connection:
            return self._next_claimable(connection, self._db.now(connection)) is not None

    def _next_claimable(self, connection: Connection, now: float) -> AnyRow | None:
        # Two queries instead of one with OR: each reads the head of an index, however many jobs have ended.
        sources = [(JobStatus.QUEUED, jobs.c.due_at, LONGEST_JOB_DELAY_S)]
        # After the clock was set, each living runner renews its lease by it before leases count again.
        if self._db.since_step_s(now) >= self._lease_s:
            sources.insert(0, (JobStatus.PROCESSING, jobs.c.lease_until, self._lease_s))
        for status, since, longest_s in sources:
            due = since <= now
            if self._db.is_sqlite:  # by the host's clock; a time that nobody would have set now is from before its step
                due = or_(due, since > now + longest_s)
            oldest = select(*JOB_COLUMNS).where(jobs.c.status == status, due).order_by(jobs.c.number).limit(1)
            if self._set_aside:
                oldest = oldest.where(jobs.c.number.not_in(self._set_aside))
            row = connection.execute(oldest.with_for_update(skip_locked=True)).first()
            if row is not None:
                return row
        return None

    def _ended_without_runner(self, connection: Connection, row: AnyRow, request: JobRequest, now: float) -> bool:
        this = jobs.c.job_id == row.job_id
        if row.cancel_requested:
            self._cancel(connection, this, request, now)
            return True
        if row.crashes >= self._max_crashes:
            error = ProcessingError(
                Sentence(
                    "{num} runners in a row were lost while they worked on this job; it is not tried again",
                    num=row.crashes + 1,
                )
            )
            message = error_message(error, self._language(request), request.kind)
            self._fail(connection, this, error_code(error), message, now, attempts=row.attempts)
            return True
        return False

    def _take(self, connection: Connection, row: AnyRow, request: JobRequest, owner: str, now: float) -> Claim:
        taken = connection.execute(
            _transition(jobs.c.job_id == row.job_id, JobStatus.PROCESSING)
            .values(
                owner=owner,
                fence=max(row.fence, row.number * _FENCES_PER_JOB) + 1,
                lease_until=now + self._lease_s,
                started_at=func.coalesce(jobs.c.started_at, now),
                progress_at=now,
                crashes=row.crashes + (row.status == JobStatus.PROCESSING),
                message=stage_message(request.kind, row.progress, self._language(request)),
            )
            .returning(*JOB_COLUMNS)
        ).one()
        return Claim(to_job(taken), taken.fence, owner)

    def _hold(self, connection: Connection, claim: Claim, now: float) -> AnyRow:
        """Renew a lease and lock the job's row for the rest of the transaction."""
        row = connection.execute(
            update(jobs)
            .where(_held_by(claim))
            .values(lease_until=now + self._lease_s)
            .returning(jobs.c.progress, jobs.c.attempts, jobs.c.crashes, jobs.c.cancel_requested)
        ).first()
        if row is None:
            raise LeaseLost(
                Sentence(
                    "{owner} no longer holds job {job_id}: drop this work",
                    owner=claim.owner,
                    job_id=claim.job.job_id,
                )
            )
        return row

    def _announce(
        self, connection: Connection, claim: Claim, progress: int, reached: Sequence[int], now: float
    ) -> None:
        request = claim.job.request
        for percent in sorted(map(int, set(reached))):
            if percent >= COMPLETED:
                raise ValueError("only complete() announces the end")
            if percent <= progress:
                continue  # a takeover's or a retry's repetition, or a branch that fell behind
            progress = percent
            shown = {
                "progress": progress,
                "message": stage_message(request.kind, progress, self._language(request)),
            }
            connection.execute(update(jobs).where(_held_by(claim)).values(**shown, progress_at=now))
            events.append(
                connection,
                request.job_id,
                key=f"{JobStatus.PROCESSING}:{progress}",
                payload={"job_id": request.job_id, "status": JobStatus.PROCESSING.value, **shown},
                target=request.callback,
                now=now,
            )

    def _hand_back(
        self, connection: Connection, claim: Claim, held: AnyRow, now: float, *, due_at: float, attempts: int
    ) -> Job:
        if held.cancel_requested:
            return self._cancel(connection, _held_by(claim), claim.job.request, now)
        queued = connection.execute(
            _transition(_held_by(claim), JobStatus.QUEUED)
            .values(
                owner=None,
                lease_until=None,
                due_at=due_at,
                attempts=attempts,
                message=queued_message(self._language(claim.job.request)),
            )
            .returning(*JOB_COLUMNS)
        ).one()
        return to_job(queued)

    def _cancel(self, connection: Connection, where: ColumnElement[bool], request: JobRequest, now: float) -> Job:
        shown: dict[str, Any] = {"message": cancelled_message(self._language(request))}
        return _end(connection, where, JobStatus.CANCELLED, now, payload=shown, **shown, cancel_requested=True)

    def _fail(
        self, connection: Connection, where: ColumnElement[bool], code: str, message: str, now: float, *, attempts: int
    ) -> Job:
        shown: dict[str, Any] = {"error_message": storable(message), "error_code": code}
        values: dict[str, Any] = {"message": shown["error_message"], "attempts": attempts}
        return _end(connection, where, JobStatus.FAILED, now, payload=shown, **shown, **values)


def _held_by(claim: Claim) -> ColumnElement[bool]:
    """Return the condition that a claim is still the latest of an active job."""
    return and_(
        jobs.c.job_id == claim.job.job_id,
        jobs.c.status == JobStatus.PROCESSING,
        jobs.c.owner == claim.owner,
        jobs.c.fence == claim.fence,
    )


def _transition(where: ColumnElement[bool], target: JobStatus) -> Any:
    """Return an UPDATE that changes nothing where the transition is illegal, whatever state the caller assumes."""
    sources = [source.value for source, targets in LEGAL_TRANSITIONS.items() if target in targets]
    return update(jobs).where(where, jobs.c.status.in_(sources)).values(status=target.value)


def _end(
    connection: Connection,
    where: ColumnElement[bool],
    status: JobStatus,
    now: float,
    *,
    payload: Any,
    result_bytes: int | None = None,
    **values: Any,
) -> Job:
    """End a job in the caller's transaction: set its state, add its last event, drop its steps' results.

    Args:
        connection: the transaction.
        where: which job, and under whose claim; LeaseLost if no active job meets it.
        status: how it ends.
        now: POSIX seconds.
        payload: fields of the event besides `job_id` and `status`.
        result_bytes: length of the result among `values`.
        values: further columns of the job's row to set.
    """
    row = connection.execute(
        _transition(where, status)
        .values(completed_at=now, owner=None, lease_until=None, **values)
        .returning(*JOB_COLUMNS)
    ).first()
    if row is None:
        raise LeaseLost(Sentence("the job was taken over by another runner, or has ended: drop this work"))
    job = to_job(row)
    events.append(
        connection,
        job.job_id,
        key=status.value,
        payload={"job_id": job.job_id, "status": status.value, **payload},
        target=job.request.callback,
        now=now,
        result_bytes=result_bytes,
    )
    connection.execute(update(job_steps).where(job_steps.c.job_id == job.job_id).values(result=None))
    return job
