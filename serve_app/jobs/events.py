"""Events of jobs: written in the transaction of the change that they report, read by couriers and watchers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sqlalchemy import JSON, Connection, Integer, TableValuedAlias, Text, and_, case, cast, func, literal, select

from serve_app import json_text
from serve_app.jobs import retry
from serve_app.jobs.record import DeliveryStatus, JobEvent, JobStatus
from serve_app.jobs.tables import AnyRow, encode, job_events, jobs
from serve_app.registered_names import registered_name

# The result is kept once, in the job's row; the one event that carries it takes it from there.
RESULT_OF_EVENT = case((job_events.c.key == JobStatus.COMPLETED.value, jobs.c.result), else_=None).label("result")


@dataclass(frozen=True, slots=True)
class JobNews:
    """The events of a job, in order, that a watcher has not seen yet; `ended`: none can follow these.

    `number` tells the job from a later one of its id.
    """

    events: tuple[JobEvent, ...]
    ended: bool
    number: int = field(default=0, compare=False)


def append(
    connection: Connection,
    job_id: str,
    *,
    key: str,
    payload: dict[str, Any],
    target: str | None,
    now: float,
    result_bytes: int | None = None,
) -> None:
    """Add an event to a job whose row this transaction has locked, and queue its delivery.

    Once the receiver has answered 410, an event is stored as given up.

    Args:
        connection: a transaction that has just updated the job's row: that lock makes numbers gapless, and keeps a
            delivery from ending unseen between the query for pending ones and the insert.
        job_id: the job.
        key: names what may happen only once in a job; the unique index refuses a second event with this key.
        payload: the callback's body, without `result`.
        target: base of the callback; None if the job has no callback.
        now: POSIX seconds.
        result_bytes: length of the result that goes with the event, in UTF-8.
    """
    pending = job_events.c.delivery == DeliveryStatus.PENDING
    gone_at = select(jobs.c.gone_at).where(jobs.c.job_id == job_id).scalar_subquery()
    last_seq, num_pending, gone = connection.execute(
        select(func.coalesce(func.max(job_events.c.seq), 0), func.count(case((pending, 1))), gone_at).where(
            job_events.c.job_id == job_id
        )
    ).one()
    delivery = DeliveryStatus.PENDING
    if target is None:
        delivery = DeliveryStatus.NONE
    elif gone is not None:
        delivery = DeliveryStatus.DEAD
    host = None if target is None else host_of(target)
    connection.execute(
        job_events.insert().values(
            job_id=job_id,
            seq=last_seq + 1,
            key=key,
            created_at=now,
            payload=encode(payload),
            webhook_id=f"msg_{uuid4().hex}",
            target=target,
            host=host,
            share=None if host is None else share_of(host),
            result_bytes=result_bytes,
            delivery=delivery,
            attempts=0,
            fence=0,
            last_error="an earlier event was answered with 410 Gone" if delivery is DeliveryStatus.DEAD else None,
            next_attempt_at=None if delivery is not DeliveryStatus.PENDING or num_pending else now,
            give_up_at=now + retry.DELIVERY_GIVE_UP_S,
        )
    )


def host_of(target: str) -> str:
    """Return host and port of a callback base. Never raises: a bad base must not fail a job."""
    after_scheme = target.partition("://")[2] or target
    return re.split(r"[/?#\\]", after_scheme, maxsplit=1)[0].rpartition("@")[2].lower()


def share_of(host: str) -> str:
    """Return whose share of a courier's places a host takes: its owner's, as far as names tell.

    All ports of an address are one, so are all hosts under a registered name, and a /48 network of IPv6.
    """
    name = re.sub(r"(?<!:):\d*$", "", host).strip("[]").rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return registered_name(name)
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 48), strict=False))


def event_of(row: AnyRow, result: str | None) -> JobEvent:
    """Return the event of a row, whose body has the result where one is given."""
    body = row.payload if result is None else json_text.splice(row.payload, "result", result)
    status = JobStatus(row.key.partition(":")[0])
    return JobEvent(row.job_id, row.seq, row.created_at, status, body)


def news(connection: Connection, after: Mapping[str, int]) -> dict[str, JobNews]:
    """Return the events of each job after the last one seen; a job that does not exist has no entry.

    One statement for any number of jobs. With two, for state and for events, a job could end in between and its last
    event be missed.
    """
    asked = _as_rows(connection, after)
    unseen = and_(job_events.c.job_id == jobs.c.job_id, job_events.c.seq > cast(asked.c.value, Integer))
    event = (job_events.c.seq, job_events.c.key, job_events.c.created_at, job_events.c.payload, RESULT_OF_EVENT)
    rows = connection.execute(
        select(jobs.c.job_id, jobs.c.number, jobs.c.status, *event)
        .select_from(asked.join(jobs, jobs.c.job_id == asked.c.key).outerjoin(job_events, unseen))
        .order_by(jobs.c.job_id, job_events.c.seq)
    ).all()
    events: dict[str, list[JobEvent]] = {row.job_id: [] for row in rows}
    ended = {row.job_id: JobStatus(row.status).is_final for row in rows}
    numbers = {row.job_id: row.number for row in rows}
    for row in rows:
        if row.seq is not None:
            events[row.job_id].append(event_of(row, row.result))
    return {job_id: JobNews(tuple(events[job_id]), ended[job_id], numbers[job_id]) for job_id in events}


def _as_rows(connection: Connection, after: Mapping[str, int]) -> TableValuedAlias:
    """Return a mapping as a table with columns `key` and `value`: one parameter, so one statement."""
    text = encode(dict(after))
    if connection.dialect.name == "sqlite":
        return func.json_each(text).table_valued("key", "value", name="asked")
    return func.json_each_text(cast(literal(text, Text), JSON)).table_valued("key", "value", name="asked")
