"""`JobStore`: submitting, finding and removing jobs, on top of its other parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Any

from sqlalchemy import Column, Connection, and_, case, delete, exists, func, or_, select

from serve_app.errors import InvalidRequest, JobConflict, JobNotFound, Overloaded, QuotaExceeded, RateLimited
from serve_app.jobs import events
from serve_app.jobs.database import Database
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.events import JobNews
from serve_app.jobs.keys import Keys
from serve_app.jobs.lifecycle import Lifecycle
from serve_app.jobs.outbox import Outbox, ResultLinks
from serve_app.jobs.record import (
    ApiKey,
    DeliveryStatus,
    Job,
    JobEvent,
    JobPage,
    JobRequest,
    JobStatus,
    Scope,
    Visitor,
)
from serve_app.jobs.tables import (
    JOB_COLUMNS,
    AnyRow,
    encode_request,
    job_events,
    jobs,
    pauses,
    secrets,
    submissions,
    to_job,
)
from serve_app.messages import JobKind, Locale, queued_message
from serve_app.sentences import Sentence, from_text

_MEASURED_JOBS = 20  # speeds even out long and short files, and still follow a new machine
# Retry-After of a refused client before any job was measured, and its bounds after: longer would miss free places.
_RETRY_AFTER_S, _MIN_RETRY_AFTER_S, _MAX_RETRY_AFTER_S = 5.0, 1.0, 120.0
_ENDED = tuple(status.value for status in JobStatus if status.is_final)
_HOUR_S = 3600.0
_SECRET_BYTES = 32
_EXPIRED_AT_ONCE = 500  # keeps the answer short; the caller comes again


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Numbers of jobs that wait, and of those that a runner has; `own_…`: of one API key, where it was asked for."""

    queued: int
    running: int
    own_queued: int = 0
    own_running: int = 0


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job of the table, and whether it has ended."""

    number: int
    job_id: str
    has_ended: bool


@dataclass(frozen=True, slots=True)
class Quota:
    """Most jobs that a visitor may have in work at once, and may submit within an hour."""

    active: int
    per_hour: int


class JobStore(Lifecycle, Outbox, Keys, Estimates):
    """Durable jobs in SQLite or Postgres, shared by any number of threads and processes.

    Synchronous: call it with `asyncio.to_thread`. Nothing is connected before the first call.

    Args:
        url: SQLAlchemy URL, `sqlite:///<file>` (its folder is made) or `postgresql+psycopg://…`.
        lease_s: how long a runner keeps a job without a write or a renewal; renew after a third of it.
        max_attempts: failed attempts after which a job fails for good.
        max_crashes: runners lost in a row, without a finished step between them, after which a job fails for good,
            because it kills its runners.
        delivery_lease_s: how long a courier keeps a delivery, besides the time to send its body; must exceed the
            courier's time-out.
        result_links: which results callbacks name instead of carrying them; None: none.
        locale: language of the messages.
        clock: returns POSIX seconds; default: the database's own, so that hosts whose clocks differ agree.
        steady: returns seconds of a clock that is never set; it shows when the clock of SQLite's host is.

    Raises:
        ValueError: the URL names another kind of database.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = 15.0,
        max_attempts: int = 3,
        max_crashes: int = 5,
        delivery_lease_s: float = 30.0,
        result_links: ResultLinks | None = None,
        locale: Locale = Locale.KO,
        clock: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
    ) -> None:
        db = Database(url, clock, steady)
        Lifecycle.__init__(self, db, lease_s=lease_s, max_attempts=max_attempts, max_crashes=max_crashes, locale=locale)
        Outbox.__init__(self, db, delivery_lease_s=delivery_lease_s, result_links=result_links)
        Keys.__init__(self, db)
        Estimates.__init__(self, db)

    def create_schema(self) -> None:
        """Create the tables that are missing; safe while others do the same. JobError: a newer version made them."""
        self._db.create_schema()

    def close(self) -> None:
        """Close the connections; the store can still be used, and opens new ones."""
        self._db.close()

    def submit(
        self,
        request: JobRequest,
        *,
        max_queued: int | None,
        visitor: Visitor | None = None,
        quota: Quota | None = None,
        key: ApiKey | None = None,
    ) -> Job:
        """Return a new job, or the one that the same request made before.

        Args:
            request: the job.
            visitor: whose job it is; None: nobody's.
            quota: of the visitor; None: none.
            key: of the caller; None: nobody has to show one.
            max_queued: how many may wait; None: any number. Submissions at the same instant may overshoot it by their
                number on Postgres.

        Raises:
            JobConflict: another request, another key's job, or another visitor's private job, has this id.
            QuotaExceeded: the visitor has used up its quota; `retry_after_s` is when it may come back.
            RateLimited: the key has as many jobs in work as it may.
            Overloaded: too many jobs wait; `retry_after_s` is when a place should be free.
        """
        with self._db.write() as (connection, now):
            existing = _existing(connection, request, visitor, key)
            if existing is not None:
                return existing
            if visitor is not None and quota is not None:
                self._require_quota(connection, visitor, quota, now)
            if key is not None:
                self._db.lock(connection, f"api_key:{key.id}")
            if key is not None or max_queued is not None:
                depth = _depth(connection, key)
                if key is not None:
                    self._require_share(connection, key, depth, max_queued)
                if max_queued is not None:
                    self._require_room(connection, depth, max_queued, request.kind)
            row = connection.execute(
                self._db.insert(jobs)
                .values(
                    job_id=request.job_id,
                    kind=request.kind,
                    request=encode_request(request),
                    visitor=visitor.id if visitor else None,
                    private=visitor is not None and visitor.is_known,
                    api_key=key.id if key else None,
                    status=JobStatus.QUEUED,
                    progress=0,
                    message=queued_message(request.locale or self._locale),
                    created_at=now,
                    attempts=0,
                    crashes=0,
                    due_at=now,
                    fence=0,
                    cancel_requested=False,
                )
                .on_conflict_do_nothing(index_elements=[jobs.c.job_id])
                .returning(*JOB_COLUMNS)
            ).first()
            if row is not None:
                if visitor is not None:
                    connection.execute(submissions.insert().values(visitor=visitor.id, created_at=now))
                return to_job(row)
            existing = _existing(connection, request, visitor, key)  # another submission of the same id was first
            if existing is None:
                raise JobConflict(
                    Sentence("Job {job_id} was deleted while it was submitted; submit it again", job_id=request.job_id)
                )
            return existing

    def get(self, job_id: str) -> Job:
        """Return a job, with its result if it has one. JobNotFound."""
        with self._db.read() as connection:
            row = _find(connection, job_id, *JOB_COLUMNS, jobs.c.result)
        return to_job(row, result=row.result)

    def status(self, job_id: str) -> JobStatus:
        """Return a job's state. JobNotFound."""
        with self._db.read() as connection:
            return JobStatus(_find(connection, job_id, jobs.c.status).status)

    def number(self, job_id: str) -> int:
        """Return what tells a job from an earlier or a later one of its id. JobNotFound."""
        with self._db.read() as connection:
            return int(_find(connection, job_id, jobs.c.number).number)

    def require_visible(
        self, job_id: str, visitor: str | None, key: ApiKey | None = None, scope: Scope = Scope.READ
    ) -> None:
        """Raise JobNotFound where a caller must not see a job, or not change it, or there is none.

        Args:
            visitor: None: one without a cookie.
            key: None: nobody has to show one.
            scope: READ, or SUBMIT to change the job.
        """
        with self._db.read() as connection:
            row = _find(connection, job_id, jobs.c.visitor, jobs.c.private, jobs.c.api_key)
        if not _is_open(row, visitor, key, scope):
            raise JobNotFound(Sentence("No job has the id {job_id}", job_id=job_id))

    def secret(self, name: str) -> str:
        """Return a random secret that all users of this database share; the first call makes it."""
        with self._db.write() as (connection, _now):
            connection.execute(
                self._db.insert(secrets)
                .values(name=name, value=token_urlsafe(_SECRET_BYTES))
                .on_conflict_do_nothing(index_elements=[secrets.c.name])
            )
            return str(connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar_one())

    def page(
        self,
        status: JobStatus | None,
        limit: int,
        cursor: str | None,
        visitor: str | None = None,
        *,
        only_own: bool = False,
        key: ApiKey | None = None,
    ) -> JobPage:
        """Return jobs, newest first, without their results. InvalidRequest: the cursor is malformed.

        Args:
            status: of the jobs; None: any.
            limit: the most jobs to return.
            cursor: `next_cursor` of the page before.
            visitor: who asks; visitors' jobs are left out but for its own, also those that their id alone opens.
            only_own: leave out all jobs but the visitor's.
            key: of the caller. One that reads all gets all visitors' jobs; another gets none of other keys'. None:
                nobody has to show one.
        """
        query = select(*JOB_COLUMNS).order_by(jobs.c.number.desc()).limit(limit + 1)
        own = jobs.c.visitor == visitor
        if only_own:
            query = query.where(own)
        elif key is None or not key.allows(Scope.READ_ALL):
            query = query.where(or_(jobs.c.visitor.is_(None), own))
        if key is not None and not key.allows(Scope.READ_ALL):
            query = query.where(jobs.c.api_key == key.id)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if cursor is not None:
            if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
                raise InvalidRequest(Sentence("cursor: use the next_cursor of an earlier page, unchanged"))
            query = query.where(jobs.c.number < int(cursor))
        with self._db.read() as connection:
            rows = connection.execute(query).all()
        more = len(rows) > limit
        return JobPage(tuple(to_job(row) for row in rows[:limit]), str(rows[limit - 1].number) if more else None)

    def queue_position(self, job_id: str) -> int | None:
        """Return how many queued jobs were submitted before this one; None once it was taken. JobNotFound."""
        with self._db.read() as connection:
            row = _find(connection, job_id, jobs.c.number, jobs.c.status)
            return _num_ahead(connection, row) if row.status == JobStatus.QUEUED else None

    def queue_depth(self) -> QueueDepth:
        """Return the numbers of jobs in the queue and at the runners, from an index."""
        with self._db.read() as connection:
            return _depth(connection)

    def paused(self) -> list[str]:
        """Return why runners claim nothing: the storage's faults that they met, each once."""
        with self._db.read() as connection:
            current = select(pauses.c.reason).where(pauses.c.until > self._db.now(connection)).distinct()
            return [from_text(reason) for reason in connection.execute(current.order_by(pauses.c.reason)).scalars()]

    def ended(self, job_id: str) -> Job:
        """Return an ended job without its result; JobNotFound, or JobConflict while it is active."""
        with self._db.read() as connection:
            _require_ended(connection, job_id)
            return to_job(_find(connection, job_id, *JOB_COLUMNS))

    def delete(self, job_id: str) -> None:
        """Remove an ended job with its steps, events and deliveries. JobNotFound; JobConflict while it is active."""
        with self._db.write() as (connection, _now):
            gone = connection.execute(delete(jobs).where(jobs.c.job_id == job_id, jobs.c.status.in_(_ENDED))).rowcount
            if not gone:
                _require_ended(connection, job_id)

    def expired(self, older_than_s: float) -> list[Job]:
        """Return jobs that ended longer ago than this and have no delivery pending; the oldest 500 at most.

        The caller removes their files, and then the jobs (`delete`): a job whose files could not be removed is found
        again.
        """
        with self._db.read() as connection:
            undelivered = exists().where(
                job_events.c.job_id == jobs.c.job_id, job_events.c.delivery == DeliveryStatus.PENDING
            )
            ended_before = self._db.now(connection) - older_than_s
            old = (
                select(*JOB_COLUMNS)
                .where(jobs.c.completed_at < ended_before, jobs.c.status.in_(_ENDED), ~undelivered)
                .order_by(jobs.c.completed_at)
                .limit(_EXPIRED_AT_ONCE)
            )
            return [to_job(row) for row in connection.execute(old)]

    def known(self) -> list[KnownJob]:
        """Return every job, the oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(select(jobs.c.number, jobs.c.job_id, jobs.c.status).order_by(jobs.c.number))
            return [KnownJob(row.number, row.job_id, JobStatus(row.status).is_final) for row in rows]

    def events_after(self, after: Mapping[str, int]) -> dict[str, JobNews]:
        """Return each job's events after the last one seen (0: all events), and whether the job has ended.

        One query for any number of jobs. A job that does not exist has no entry.
        """
        with self._db.read() as connection:
            return events.news(connection, after)

    def events(self, job_id: str, after_seq: int = 0) -> list[JobEvent]:
        """Return a job's events after one, in order. JobNotFound."""
        news = self.events_after({job_id: after_seq}).get(job_id)
        if news is None:
            raise JobNotFound(Sentence("No job has the id {job_id}", job_id=job_id))
        return list(news.events)

    def _require_quota(self, connection: Connection, visitor: Visitor, quota: Quota, now: float) -> None:
        self._db.lock(connection, visitor.id)
        active = and_(jobs.c.visitor == visitor.id, jobs.c.status.in_([JobStatus.QUEUED, JobStatus.PROCESSING]))
        num_active = connection.execute(select(func.count()).select_from(jobs).where(active)).scalar_one()
        if num_active >= quota.active:
            mean_s = _mean_processing_s(connection, JobKind.MUSIC)
            raise QuotaExceeded(
                Sentence(
                    "You have {num} pieces in work, and {most} are allowed at once; wait for one of them",
                    num=num_active,
                    most=quota.active,
                ),
                _clipped(_RETRY_AFTER_S if mean_s is None else mean_s),
            )
        own = submissions.c.visitor == visitor.id
        connection.execute(delete(submissions).where(submissions.c.created_at < now - _HOUR_S))
        latest = select(submissions.c.created_at).where(own).order_by(submissions.c.created_at.desc())
        oldest = connection.execute(latest.offset(quota.per_hour - 1).limit(1)).scalar()
        if oldest is not None:
            wait_s = oldest + _HOUR_S - now
            raise QuotaExceeded(
                Sentence(
                    "You have ordered {num} pieces within an hour, and more are not allowed; try again in {wait} min",
                    num=quota.per_hour,
                    wait=math.ceil(wait_s / 60),
                ),
                wait_s,
            )

    def _require_share(self, connection: Connection, key: ApiKey, depth: QueueDepth, max_queued: int | None) -> None:
        if key.jobs_in_work is not None:
            num_own, most = depth.own_queued + depth.own_running, key.jobs_in_work
            sentence = Sentence(
                "{most} jobs of this API key may be in work at once, and as many are; wait for one of them", most=most
            )
        elif max_queued is not None:
            num_own, most = depth.own_queued, max(1, max_queued // 2)
            sentence = Sentence(
                "{most} jobs of this API key wait, which is half of the queue; the rest is for other keys", most=most
            )
        else:
            return
        if num_own >= most:
            mean_s = _mean_processing_s(connection, JobKind.VIDEO)
            raise RateLimited(sentence, _clipped(_RETRY_AFTER_S if mean_s is None else mean_s))

    def _require_room(self, connection: Connection, depth: QueueDepth, max_queued: int, kind: JobKind) -> None:
        if depth.queued < max_queued:
            return
        mean_s = _mean_processing_s(connection, kind)
        wait_s = _RETRY_AFTER_S
        if mean_s is not None:
            wait_s = _clipped(mean_s / max(1, depth.running))
        raise Overloaded(Sentence("{num} jobs are waiting already; try again later", num=depth.queued), wait_s)


def _existing(connection: Connection, request: JobRequest, visitor: Visitor | None, key: ApiKey | None) -> Job | None:
    row = connection.execute(select(*JOB_COLUMNS).where(jobs.c.job_id == request.job_id)).first()
    if row is None:
        return None
    job = to_job(row)
    # the same sentence for all: a caller must not learn what another asked for
    known = visitor.id if visitor and visitor.is_known else None
    if not job.request.is_same(request) or not _is_open(row, known, key, Scope.READ):
        raise JobConflict(
            Sentence(
                "Job {job_id} was submitted before with another request; choose another job_id", job_id=request.job_id
            )
        )
    return job


def _is_open(row: AnyRow, visitor: str | None, key: ApiKey | None, scope: Scope) -> bool:
    """Return whether a caller may read a job, or change it (SUBMIT).

    A key of a wider scope opens everybody's jobs, another one its own. Among these a visitor may see its own, those
    that are nobody's, and, without a cookie, public ones.
    """
    if key is not None:
        if key.allows(Scope.READ_ALL if scope is Scope.READ else Scope.ADMIN):
            return True
        if row.api_key != key.id:
            return False
    return row.visitor is None or row.visitor == visitor or (visitor is None and not row.private)


def _clipped(wait_s: float) -> float:
    return min(max(wait_s, _MIN_RETRY_AFTER_S), _MAX_RETRY_AFTER_S)


def _find(connection: Connection, job_id: str, *columns: Column[Any]) -> AnyRow:
    row = connection.execute(select(*columns).where(jobs.c.job_id == job_id)).first()
    if row is None:
        raise JobNotFound(Sentence("No job has the id {job_id}", job_id=job_id))
    return row


def _require_ended(connection: Connection, job_id: str) -> None:
    status = JobStatus(_find(connection, job_id, jobs.c.status).status)
    if not status.is_final:
        raise JobConflict(
            Sentence(
                "Job {job_id} is {status}; cancel it first, or wait until it has ended", job_id=job_id, status=status
            )
        )


def _num_ahead(connection: Connection, row: AnyRow) -> int:
    ahead = and_(jobs.c.status == JobStatus.QUEUED, jobs.c.number < row.number)
    return connection.execute(select(func.count()).select_from(jobs).where(ahead)).scalar_one()


def _depth(connection: Connection, key: ApiKey | None = None) -> QueueDepth:
    queued, running = jobs.c.status == JobStatus.QUEUED, jobs.c.status == JobStatus.PROCESSING
    counted = [queued, running]
    if key is not None:
        counted += [and_(each, jobs.c.api_key == key.id) for each in counted]
    query = select(*(func.count(case((each, 1))) for each in counted))
    found = connection.execute(query.where(jobs.c.status.in_([JobStatus.QUEUED, JobStatus.PROCESSING]))).one()
    counts: list[int] = list(found)
    return QueueDepth(*counts)


def _mean_processing_s(connection: Connection, kind: str) -> float | None:
    latest = (
        select((jobs.c.completed_at - jobs.c.started_at).label("processing_s"))
        .where(jobs.c.status == JobStatus.COMPLETED, jobs.c.kind == kind)
        .order_by(jobs.c.number.desc())
        .limit(_MEASURED_JOBS)
        .subquery()
    )
    mean_s = connection.execute(select(func.avg(latest.c.processing_s))).scalar_one()
    return None if mean_s is None else float(mean_s)
