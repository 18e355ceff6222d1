"""`Estimates`: when jobs should be done, by the speeds of those that have ended and by the queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import BindParameter, ColumnElement, Connection, and_, bindparam, func, select

from serve_app.errors import JobNotFound
from serve_app.jobs.database import Database
from serve_app.jobs.record import Job, JobStatus
from serve_app.jobs.speeds import MARKS, MeasuredJob, Speeds, stage_seconds, wait_s
from serve_app.jobs.tables import JOB_COLUMNS, AnyRow, job_events, jobs, read_request, runners, to_job
from serve_app.messages import COMPLETED, JobKind
from serve_app.sentences import Sentence

_READ = 60  # of the latest completed jobs of a kind: enough for some with the same options
_FEW = 20  # fewer measured jobs than this are read again at each new one
_REFRESH_S, _LONGEST_S = 5.0, 60.0  # how long speeds are kept: where there are new jobs, and in any case


@dataclass(slots=True)
class _Measured:
    """The latest completed jobs of a kind, the latest first, and the speeds by options (`JobRequest.pace`)."""

    jobs: Sequence[MeasuredJob]
    latest: int | None  # number of the latest completed job
    read_at: float
    speeds: dict[object, Speeds] = field(default_factory=dict)


class Estimates:
    """The job store's estimates. `JobStore` documents its argument."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._measured: dict[JobKind, _Measured] = {}

    def estimate_s(self, job_id: str) -> float | None:
        """Return the seconds until a job should be done. JobNotFound.

        0 for an ended job; None until a job of its kind has been completed. A queued job waits for the jobs in work and
        for those that were submitted before it, which get the places of all runners.
        """
        with self._db.read() as connection:
            row = connection.execute(select(*JOB_COLUMNS, jobs.c.due_at).where(jobs.c.job_id == job_id)).first()
            if row is None:
                raise JobNotFound(Sentence("No job has the id {job_id}", job_id=job_id))
            job = to_job(row)
            if job.status.is_final:
                return 0.0
            now = self._db.now(connection)
            own_s = self._own_s(connection, job, now)
            if own_s is None or job.status is JobStatus.PROCESSING:
                return own_s
            return max(self._wait_s(connection, job, now), float(row.due_at) - now, 0.0) + own_s

    def estimates_s(self, page: Sequence[Job]) -> dict[str, float]:
        """Return the seconds until each job that is in work should be done, by its id; unknown ones are left out."""
        running = [job for job in page if job.status is JobStatus.PROCESSING]
        if not running:
            return {}
        with self._db.read() as connection:
            now = self._db.now(connection)
            known = {job.job_id: self._own_s(connection, job, now) for job in running}
        return {job_id: seconds for job_id, seconds in known.items() if seconds is not None}

    def _own_s(self, connection: Connection, job: Job, now: float) -> float | None:
        """Return the seconds of work that a job has left; None where nothing was measured."""
        speeds = self._speeds(connection, job.request.kind, job.request.pace, now)
        if speeds is None:
            return None
        is_running = job.status is JobStatus.PROCESSING and job.progress_at is not None
        since_s = max(0.0, now - float(job.progress_at or 0.0)) if is_running else 0.0
        length_s = job.request.length_s if job.length_s is None else job.length_s
        return speeds.remaining_s(job.progress, since_s, length_s, job.speech_s)

    def _wait_s(self, connection: Connection, job: Job, now: float) -> float:
        in_work = select(*JOB_COLUMNS).where(jobs.c.status == JobStatus.PROCESSING)
        running_s = [self._own_s(connection, to_job(row), now) or 0.0 for row in connection.execute(in_work).all()]
        living = select(func.coalesce(func.sum(runners.c.places), 0)).where(runners.c.until > now)
        places = int(connection.execute(living).scalar_one())
        ahead = and_(jobs.c.status == JobStatus.QUEUED, jobs.c.number < job.number)
        counts = select(jobs.c.kind, func.count().label("num")).where(ahead).group_by(jobs.c.kind)
        num_ahead, ahead_s = 0, 0.0
        for row in connection.execute(counts).all():
            # a kind of a newer version takes as long as the job's own
            known = JobKind(row.kind) if row.kind in set(JobKind) else job.request.kind
            speeds = self._speeds(connection, known, None, now)
            num_ahead += row.num
            ahead_s += row.num * (speeds.remaining_s() if speeds else 0.0)
        return wait_s(running_s, places, num_ahead, ahead_s / max(num_ahead, 1))

    def _speeds(self, connection: Connection, kind: JobKind, options: object, now: float) -> Speeds | None:
        measured = self._measured.get(kind)
        if measured is None or not 0.0 <= now - measured.read_at < _LONGEST_S or self._has_news(connection, kind, now):
            measured = self._measured[kind] = _read(connection, kind, now)
        if not measured.jobs:
            return None
        if options not in measured.speeds:
            measured.speeds[options] = Speeds(kind, measured.jobs, options)
        return measured.speeds[options]

    def _has_news(self, connection: Connection, kind: JobKind, now: float) -> bool:
        measured = self._measured[kind]
        if len(measured.jobs) >= _FEW and now - measured.read_at < _REFRESH_S:
            return False
        return _latest(connection, kind) != measured.latest


def _completed(kind: JobKind) -> ColumnElement[bool]:
    # in the statement's text: SQLite then takes the index `jobs_measured`
    status: BindParameter[str] = bindparam("completed", JobStatus.COMPLETED.value, literal_execute=True)
    return and_(jobs.c.status == status, jobs.c.kind == kind)


def _latest(connection: Connection, kind: JobKind) -> int | None:
    latest: int | None = connection.execute(select(func.max(jobs.c.number)).where(_completed(kind))).scalar()
    return latest


def _read(connection: Connection, kind: JobKind, now: float) -> _Measured:
    """Read the latest jobs of a kind with the times of their stages; two bounded queries over indexes."""
    latest = select(*JOB_COLUMNS).where(_completed(kind)).order_by(jobs.c.number.desc()).limit(_READ)
    rows = [row for row in connection.execute(latest).all() if not row.attempts and row.started_at is not None]
    keys = {f"{JobStatus.PROCESSING}:{mark}": mark for mark in MARKS[kind]} | {JobStatus.COMPLETED.value: COMPLETED}
    reached_at: dict[str, dict[int, float]] = defaultdict(dict)
    of_rows = and_(job_events.c.job_id.in_([row.job_id for row in rows]), job_events.c.key.in_(keys))
    for row in connection.execute(
        select(job_events.c.job_id, job_events.c.key, job_events.c.created_at).where(of_rows)
    ):
        reached_at[row.job_id][keys[row.key]] = row.created_at
    found = [_measured_job(kind, row, reached_at[row.job_id] | {0: row.started_at}) for row in rows]
    return _Measured(found, _latest(connection, kind), now)


def _measured_job(kind: JobKind, row: AnyRow, reached_at: dict[int, float]) -> MeasuredJob:
    request = read_request(row)
    length_s = request.length_s if row.length_s is None else row.length_s
    return MeasuredJob(stage_seconds(kind, reached_at), length_s, row.speech_s, request.pace)
