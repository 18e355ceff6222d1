"""`Outbox`: deliveries of events to callbacks. The table is the queue.

Only the first pending event of a job has a `next_attempt_at`. When it is delivered or given up, the next one gets its
own. This keeps the order within a job, and a claim never reads the events behind a receiver that is down.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from serve_app.errors import JobNotFound
from serve_app.jobs import retry
from serve_app.jobs.database import Database
from serve_app.jobs.events import RESULT_OF_EVENT, compose
from serve_app.jobs.record import Delivery, DeliveryStatus, JobEvent
from serve_app.jobs.tables import job_events, jobs, storable

_CANDIDATES_PER_CLAIM = 4  # read for each delivery wanted, because some belong to hosts without a free place
_GONE = 410  # the receiver asks for no more of this job's events


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """One event to send now.

    Attributes:
        webhook_id: the same at every attempt.
        target: base of the callback.
        host: host and port of `target`.
        body: the contract's callback body: JSON in UTF-8, the same bytes at every attempt.
        attempts: made before this one.
        fence: the store takes the outcome of the latest claim only.
    """

    job_id: str
    seq: int
    webhook_id: str
    target: str
    host: str
    body: bytes
    attempts: int
    fence: int


class Outbox:
    """A courier's half of the job store; `JobStore` documents its arguments. Every method is one transaction."""

    def __init__(self, db: Database, *, delivery_lease_s: float) -> None:
        self._db = db
        self._delivery_lease_s = delivery_lease_s
        self._random = random.Random()  # noqa: S311 (jitter)

    def claim_deliveries(
        self, owner: str, limit: int, *, per_host: int | None = None, in_flight: Mapping[str, int] | None = None
    ) -> list[DueDelivery]:
        """Lease the deliveries that are due, the longest waiting first; at most one of each job.

        Args:
            owner: who claims; stored for operators only.
            limit: most deliveries to return.
            per_host: most deliveries to have under way to one host; None: any number.
            in_flight: the caller's deliveries under way, by host.
        """
        busy = dict(in_flight or {})
        full = [] if per_host is None else [host for host, count in busy.items() if count >= per_host]
        if self._db.is_sqlite and not self._any_due(full):
            return []  # an idle courier must not wait for the one write lock
        with self._db.write() as (connection, now):
            candidates = connection.execute(
                select(job_events.c.job_id, job_events.c.seq, job_events.c.host)
                .where(_due(now, full))
                .order_by(job_events.c.next_attempt_at)
                .limit(limit * _CANDIDATES_PER_CLAIM)
                .with_for_update(skip_locked=True)
            ).all()
            claimed: list[DueDelivery] = []
            for job_id, seq, host in candidates:
                if len(claimed) == limit:
                    break
                if per_host is not None and busy.get(host, 0) >= per_host:
                    continue
                busy[host] = busy.get(host, 0) + 1
                claimed.append(self._lease(connection, job_id, seq, owner, now))
            return claimed

    def record_delivered(self, due: DueDelivery, *, status_code: int) -> bool:
        """Record that the receiver accepted an event; the job's next one is due now.

        False: the claim is out of date (its lease ran out, or the job was replayed or deleted); nothing was recorded.
        """
        with self._db.write() as (connection, now):
            _lock_job(connection, due.job_id)
            num_recorded = connection.execute(
                update(job_events)
                .where(_claimed_as(due))
                .values(
                    delivery=DeliveryStatus.DELIVERED,
                    attempts=job_events.c.attempts + 1,
                    delivered_at=now,
                    last_status_code=status_code,
                    last_error=None,
                    next_attempt_at=None,
                    lease_until=None,
                )
            ).rowcount
            if num_recorded:
                _advance(connection, due.job_id, now)
            return bool(num_recorded)

    def record_failure(
        self, due: DueDelivery, *, error: str, status_code: int | None = None, retry_after_s: float | None = None
    ) -> DeliveryStatus | None:
        """Record that an event was not delivered: it is due again later, or dead.

        Args:
            due: the claim.
            error: what went wrong.
            status_code: of the answer; None if there was none. 410 ends all deliveries of the job.
            retry_after_s: what the receiver asked for.

        Returns:
            The event's new state; None if the claim is out of date and nothing was recorded.
        """
        with self._db.write() as (connection, now):
            _lock_job(connection, due.job_id)
            row = connection.execute(
                select(job_events.c.attempts, job_events.c.give_up_at).where(_claimed_as(due)).with_for_update()
            ).first()
            if row is None:
                return None
            attempts = row.attempts + 1
            again = status_code != _GONE and now < row.give_up_at
            wait_s = retry.delivery_retry_after_s(attempts, self._random.random(), retry_after_s)
            status = DeliveryStatus.PENDING if again else DeliveryStatus.DEAD
            connection.execute(
                update(job_events)
                .where(_claimed_as(due))
                .values(
                    delivery=status,
                    attempts=attempts,
                    last_error=storable(error),
                    last_status_code=status_code,
                    next_attempt_at=now + wait_s if again else None,
                    lease_until=None,
                )
            )
            if status_code == _GONE:
                pending = and_(job_events.c.job_id == due.job_id, job_events.c.delivery == DeliveryStatus.PENDING)
                given_up = {"delivery": status, "last_error": storable(error)}
                connection.execute(
                    update(job_events).where(pending).values(next_attempt_at=None, lease_until=None, **given_up)
                )
            elif not again:
                _advance(connection, due.job_id, now)
            return status

    def give_back(self, due: DueDelivery) -> None:
        """Undo a claim: the event is due again, with no attempt counted."""
        with self._db.write() as (connection, _now):
            connection.execute(update(job_events).where(_claimed_as(due)).values(lease_until=None))

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Return the state of each of a job's events, in order. JobNotFound."""
        with self._db.read() as connection:
            if connection.execute(select(jobs.c.number).where(jobs.c.job_id == job_id)).first() is None:
                raise JobNotFound(f"No job has the id {job_id}")
            rows = connection.execute(
                select(job_events, RESULT_OF_EVENT)
                .join(jobs, jobs.c.job_id == job_events.c.job_id)
                .where(job_events.c.job_id == job_id)
                .order_by(job_events.c.seq)
            ).all()
        return [
            Delivery(
                event=JobEvent(row.job_id, row.seq, row.created_at, compose(row.payload, row.result)),
                webhook_id=row.webhook_id,
                status=DeliveryStatus(row.delivery),
                attempts=row.attempts,
                next_attempt_at=row.next_attempt_at,
                delivered_at=row.delivered_at,
                last_error=row.last_error,
                last_status_code=row.last_status_code,
            )
            for row in rows
        ]

    def replay(self, job_id: str) -> int:
        """Queue all of a job's deliveries again, in order, with the same webhook ids; return how many. JobNotFound."""
        with self._db.write() as (connection, now):
            if not _lock_job(connection, job_id):
                raise JobNotFound(f"No job has the id {job_id}")
            num_queued = connection.execute(
                update(job_events)
                .where(job_events.c.job_id == job_id, job_events.c.target.is_not(None))
                .values(
                    delivery=DeliveryStatus.PENDING,
                    attempts=0,
                    fence=job_events.c.fence + 1,  # a delivery under way now is sent again in its turn
                    next_attempt_at=None,
                    give_up_at=now + retry.DELIVERY_GIVE_UP_S,
                    lease_until=None,
                    delivered_at=None,
                    last_error=None,
                    last_status_code=None,
                )
            ).rowcount
            _advance(connection, job_id, now)
            return num_queued

    def _any_due(self, full: Collection[str]) -> bool:
        with self._db.read() as connection:
            due = _due(self._db.now(connection), full)
            return connection.execute(select(job_events.c.seq).where(due).limit(1)).first() is not None

    def _lease(self, connection: Connection, job_id: str, seq: int, owner: str, now: float) -> DueDelivery:
        this = and_(job_events.c.job_id == job_id, job_events.c.seq == seq)
        connection.execute(
            update(job_events)
            .where(this)
            .values(lease_until=now + self._delivery_lease_s, lease_owner=owner, fence=job_events.c.fence + 1)
        )
        row = connection.execute(
            select(job_events, RESULT_OF_EVENT).join(jobs, jobs.c.job_id == job_events.c.job_id).where(this)
        ).one()
        body = json.dumps(compose(row.payload, row.result), ensure_ascii=False, separators=(",", ":"))
        utf8 = body.encode("utf-8", "replace")
        return DueDelivery(job_id, seq, row.webhook_id, row.target, row.host, utf8, row.attempts, row.fence)


def _due(now: float, full: Collection[str]) -> ColumnElement[bool]:
    conditions = [
        job_events.c.delivery == DeliveryStatus.PENDING,
        job_events.c.next_attempt_at <= now,
        or_(job_events.c.lease_until.is_(None), job_events.c.lease_until <= now),
    ]
    if full:
        conditions.append(job_events.c.host.not_in(full))
    return and_(*conditions)


def _claimed_as(due: DueDelivery) -> ColumnElement[bool]:
    return and_(
        job_events.c.job_id == due.job_id,
        job_events.c.seq == due.seq,
        job_events.c.webhook_id == due.webhook_id,  # not the event of a later job with the same id
        job_events.c.fence == due.fence,
        job_events.c.delivery == DeliveryStatus.PENDING,
    )


def _lock_job(connection: Connection, job_id: str) -> bool:
    """Keep events from being added to a job until the end of the transaction; return whether the job exists."""
    locked = select(jobs.c.number).where(jobs.c.job_id == job_id).with_for_update()
    return connection.execute(locked).first() is not None


def _advance(connection: Connection, job_id: str, now: float) -> None:
    """Make a job's first pending event due. The job's row must be locked."""
    mine = and_(job_events.c.job_id == job_id, job_events.c.delivery == DeliveryStatus.PENDING)
    first = select(func.min(job_events.c.seq)).where(mine).scalar_subquery()
    connection.execute(update(job_events).where(mine, job_events.c.seq == first).values(next_attempt_at=now))
