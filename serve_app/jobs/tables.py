"""The job store's tables, and the records made of their rows.

    jobs            one row a job: request, state, lease, and finally the result
    submissions     one row a visitor's job, also of one that was removed, for the quota of an hour
    secrets         what all replicas share: the secret that signs visitors' cookies
    job_steps       one row a finished step: its result until the job ends, its seconds for good
    replica_deaths  one row a replica that died under a step of a job
    pauses          one row a runner that claims nothing because its storage fails
    runners         one row a runner, with the number of jobs that it works on at once
    api_keys        one row an API key, by the hash of its secret; revoked ones stay
    job_events      one row an event: the body of its callback, and the state of its delivery

JSON is kept as text: no query looks inside, and every database returns the same bytes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, fields
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    false,
)

from serve_app import json_text
from serve_app.jobs.record import (
    DeliveryStatus,
    Job,
    JobRequest,
    JobStatus,
    MusicRequest,
    UnreadableRequest,
    VideoRequest,
)
from serve_app.messages import JobKind, Locale, unreadable_message

SCHEMA_VERSION = 4

_log = logging.getLogger("ray.serve")

AnyRow: TypeAlias = Row[*tuple[Any, ...]]

_REQUESTS: dict[JobKind, type[JobRequest]] = {request.kind: request for request in (VideoRequest, MusicRequest)}

metadata = MetaData()

schema_version = Table("job_schema", metadata, Column("version", Integer, primary_key=True))

_STATUSES = ", ".join(f"'{status}'" for status in JobStatus)

jobs = Table(
    "jobs",
    metadata,
    # The order of submission; never reused (fences are made of it), so AUTOINCREMENT on SQLite.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("job_id", String(200), nullable=False, unique=True),
    Column("request", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("completed_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),  # leases that ran out since the last finished step
    Column("due_at", Double, nullable=False),
    Column("owner", String(200)),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", Double),
    Column("cancel_requested", Boolean, nullable=False),
    Column("error_code", String(64)),
    Column("error_message", Text),
    # since version 2; the defaults are those of the jobs that were stored before
    Column("kind", String(16), nullable=False, server_default=JobKind.VIDEO.value),
    Column("visitor", String(64)),
    Column("private", Boolean, nullable=False, server_default=false()),
    # since version 3
    Column("api_key", String(32)),  # id of the key that submitted it; NULL: nobody had to show one
    Column("gone_at", Double),  # when the receiver answered 410; its later events are not sent
    # since version 4, for estimates; NULL where not known
    Column("length_s", Double),  # of the file's sound
    Column("speech_s", Double),  # of it, speech
    Column("progress_at", Double),  # when `progress` was reached, or the job was claimed
    Column("result", Text),  # last: large, and read by few queries
    CheckConstraint(f"status IN ({_STATUSES})", name="jobs_status"),
    CheckConstraint("progress BETWEEN 0 AND 100", name="jobs_progress"),
    sqlite_autoincrement=True,
)
Index("jobs_by_status", jobs.c.status, jobs.c.number)
Index("jobs_by_end", jobs.c.completed_at)
_DONE = jobs.c.status == JobStatus.COMPLETED.value
Index("jobs_measured", jobs.c.kind, jobs.c.number, sqlite_where=_DONE, postgresql_where=_DONE)
_OF_VISITOR = jobs.c.visitor.is_not(None)
Index("jobs_by_visitor", jobs.c.visitor, jobs.c.number, sqlite_where=_OF_VISITOR, postgresql_where=_OF_VISITOR)
_OF_KEY = jobs.c.api_key.is_not(None)
Index("jobs_by_key", jobs.c.api_key, jobs.c.number, sqlite_where=_OF_KEY, postgresql_where=_OF_KEY)

submissions = Table(
    "submissions",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("visitor", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("submissions_by_visitor", submissions.c.visitor, submissions.c.created_at)

secrets = Table(
    "secrets", metadata, Column("name", String(64), primary_key=True), Column("value", String(200), nullable=False)
)

job_steps = Table(
    "job_steps",
    metadata,
    Column("job_id", ForeignKey(jobs.c.job_id, ondelete="CASCADE"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("finished_at", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("result", Text),  # NULL once the job has ended; a step that returned None holds 'null'
)

replica_deaths = Table(
    "replica_deaths",
    metadata,
    Column("job_id", ForeignKey(jobs.c.job_id, ondelete="CASCADE"), primary_key=True),
    Column("step", String(200), primary_key=True),
    Column("replica", String(64), primary_key=True),  # `ReplicaDied.replica`
)

pauses = Table(
    "pauses",
    metadata,
    Column("owner", String(200), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("until", Double, nullable=False),  # when it has tried again; a runner that died meanwhile is not heard of
)

runners = Table(
    "runners",
    metadata,
    Column("owner", String(200), primary_key=True),
    Column("places", Integer, nullable=False),
    Column("until", Double, nullable=False),  # it is taken for dead then, unless it has reported again
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),  # SHA-256 of 256 random bits, in hexadecimal
    Column("scopes", String(200), nullable=False),  # separated by spaces
    Column("requests_per_minute", Integer),  # NULL: any number
    Column("jobs_in_work", Integer),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", ForeignKey(jobs.c.job_id, ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("key", String(32), nullable=False),  # what may happen only once: a progress value, or an end
    Column("created_at", Double, nullable=False),
    Column("payload", Text, nullable=False),  # without `result`: that is in the job's row
    Column("webhook_id", String(64), nullable=False, unique=True),
    Column("target", Text),
    Column("host", Text),
    Column("delivery", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    # NULL while an earlier event of the job is pending: a claim reads the heads alone, however long the queues are.
    Column("next_attempt_at", Double),
    Column("give_up_at", Double, nullable=False),
    Column("lease_until", Double),
    Column("lease_owner", String(200)),
    Column("delivered_at", Double),
    Column("last_error", Text),
    Column("last_status_code", Integer),
    # since version 3; NULL in events that were stored before
    Column("share", Text),  # whose share of a courier's places a delivery takes: `events.share_of(host)`
    Column("result_bytes", BigInteger),  # of the result that goes with the event
    UniqueConstraint("job_id", "key", name="job_events_once"),
)
_PENDING = job_events.c.delivery == DeliveryStatus.PENDING.value
_due_columns = (job_events.c.next_attempt_at, job_events.c.share, job_events.c.host, job_events.c.result_bytes)
# First attempts, and those that are due again. Claims read these alone, but for the rows that they take: events that
# wait for a host or a share cost no row, and retries cost first attempts nothing.
_FIRST, _AGAIN = and_(_PENDING, job_events.c.attempts == 0), and_(_PENDING, job_events.c.attempts > 0)
Index("job_events_first", *_due_columns, sqlite_where=_FIRST, postgresql_where=_FIRST)
Index("job_events_due", *_due_columns, sqlite_where=_AGAIN, postgresql_where=_AGAIN)

# All columns of a Job except the result, which lists and claims do not need.
JOB_COLUMNS = tuple(column for column in jobs.c if column.name != "result")


def encode(value: Any) -> str:
    """Return compact JSON text that every database accepts. ValueError: NaN or infinity, which JSON does not have."""
    return storable(json_text.dumps(value))


def storable(text: str) -> str:
    """Return a text without the characters that Postgres refuses: NUL, and half of a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def encode_request(request: JobRequest) -> str:
    # a runner of an earlier version, which may still be at work, knows no field that was added since
    added = ("locale", "default_callback_base", "audio_track")
    return encode({name: value for name, value in asdict(request).items() if name not in added or value is not None})


def decode_request(kind: str, text: str) -> JobRequest:
    """Return a stored request; fields added since it was stored get their defaults.

    Fields of a newer version are left out: what they ask for can't be done here. Raises ValueError, KeyError or
    TypeError where the request is of an unknown kind or damaged.
    """
    values = json.loads(text)
    if values.get("locale") is not None:
        values["locale"] = Locale(values["locale"])
    request = _REQUESTS[JobKind(kind)]
    known = {each.name for each in fields(request)}
    return request(**{name: value for name, value in values.items() if name in known})


def read_request(row: AnyRow) -> JobRequest:
    """Return the request of a row, or an UnreadableRequest with what could be read of it."""
    try:
        return decode_request(row.kind, row.request)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.debug("job %s: its request can't be read: %s", row.job_id, type(error).__name__)
    try:
        target = json.loads(row.request)["callback_base"]
    except (ValueError, KeyError, TypeError):
        target = None
    return UnreadableRequest(job_id=row.job_id, callback_base=target if isinstance(target, str) else None)


def to_job(row: AnyRow, *, result: str | None = None) -> Job:
    """Return the record of a row of JOB_COLUMNS; one that can't be read has an UnreadableRequest, and says so."""
    values = {field.name: getattr(row, field.name) for field in fields(Job) if field.name != "result_text"}
    request = read_request(row)
    values |= {"request": request, "status": JobStatus(row.status)}
    if isinstance(request, UnreadableRequest) and not values["status"].is_final:
        values["message"] = unreadable_message(Locale.EN)
    return Job(**values, result_text=result)
