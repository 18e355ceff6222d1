"""`Outbox`: deliveries of events to callbacks. The table is the queue.

Only the first pending event of a job has a `next_attempt_at`. When it is delivered or given up, the next one gets its
own. This keeps the order within a job, and a claim never reads the events behind a receiver that is down.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, and_, func, literal, or_, select, update

from serve_app import json_text
from serve_app.errors import JobNotFound
from serve_app.jobs import retry
from serve_app.jobs.database import Database
from serve_app.jobs.events import event_of, share_of
from serve_app.jobs.record import Delivery, DeliveryStatus, JobStatus
from serve_app.jobs.tables import AnyRow, encode, job_events, jobs, storable
from serve_app.sentences import Sentence, from_text, to_text

_CANDIDATES_PER_CLAIM = 4  # read for each delivery wanted, because some belong to shares without a free place
_GONE = 410  # the receiver asks for no more of this job's events
_LONG_BYTES = 1 << 20  # a longer body takes a place for more than the time of an answer


@dataclass(frozen=True, slots=True)
class ResultLinks:
    """How the callback of a long result names it instead of carrying it.

    Attributes:
        above_bytes: results of more bytes are named; None: none.
        public_url: address of this service for receivers; empty: they get a path.
    """

    above_bytes: int | None = None
    public_url: str = ""

    def applies(self, num_bytes: int) -> bool:
        return self.above_bytes is not None and num_bytes > self.above_bytes

    def url(self, job_id: str) -> str:
        return f"{self.public_url.rstrip('/')}/jobs/{job_id}/result"


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """What a claim must keep to, so that receivers that fail or are slow don't take the places of the others.

    Attributes:
        paused: hosts that get no delivery now.
        shares: shares whose last attempt failed or was slow: their deliveries are suspect, as all retries are.
        trusted: hosts of these shares whose own last attempt was neither.
        places: free places for suspect deliveries; None: any number.
        per_share: most of them under way of one share; None: any number.
        under_way: them, by share.
        other_places: free places for deliveries that are not suspect; None: any number.
        long_places: free places for bodies above 1 MiB; None: any number.
    """

    paused: Collection[str] = ()
    shares: Collection[str] = ()
    trusted: Collection[str] = ()
    places: int | None = None
    per_share: int | None = None
    under_way: Mapping[str, int] = field(default_factory=dict)
    other_places: int | None = None
    long_places: int | None = None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """One event to send now.

    Attributes:
        webhook_id: the same at every attempt.
        target: base of the callback.
        host: host and port of `target`.
        share: whose share of a courier's places it takes.
        body: the contract's callback body: JSON in UTF-8, the same bytes at every attempt.
        attempts: made before this one.
        fence: the store takes the outcome of the latest claim only.
        lease_s: another courier may send it after this time.
        is_suspect: it took one of the places for suspect deliveries.
    """

    job_id: str
    seq: int
    webhook_id: str
    target: str
    host: str
    share: str
    body: bytes = field(repr=False)
    attempts: int
    fence: int
    lease_s: float
    is_suspect: bool

    @property
    def is_long(self) -> bool:
        return len(self.body) > _LONG_BYTES


class Outbox:
    """A courier's half of the job store; `JobStore` documents its arguments.

    Every method is one transaction, but for `claim_deliveries`, which reads results after its own.
    """

    def __init__(self, db: Database, *, delivery_lease_s: float, result_links: ResultLinks | None) -> None:
        self._db = db
        self._delivery_lease_s = delivery_lease_s
        self._result_links = result_links or ResultLinks()
        self._random = random.Random()  # noqa: S311 (jitter)

    def claim_deliveries(
        self,
        owner: str,
        limit: int,
        *,
        per_host: int | None = None,
        in_flight: Mapping[str, int] | None = None,
        limits: ClaimLimits | None = None,
    ) -> list[DueDelivery]:
        """Lease deliveries that are due; at most one of each job.

        First attempts come before suspect deliveries, as all retries are; among each, the longest waiting come first.

        Args:
            owner: who claims; stored for operators only.
            limit: most deliveries to return.
            per_host: most deliveries to have under way of one share; None: any number.
            in_flight: the caller's deliveries under way, by share.
            limits: what the claim must keep to; None: nothing.
        """
        choice = _Choice(limit, per_host, in_flight or {}, limits or ClaimLimits())
        if self._db.is_sqlite and not self._any_due(choice):
            return []  # an idle courier must not wait for the one write lock
        with self._db.write() as (connection, now):
            for is_suspect in (False, True):
                for row in self._candidates(connection, choice, is_suspect, now):
                    choice.take(row, is_suspect, self._sent_bytes(row) > _LONG_BYTES)
            leased = [(*self._lease(connection, row, owner, now), is_suspect) for row, is_suspect in choice.taken]
        # the transaction is over: results are read, and joined to their events, under no lock
        claimed = (self._due_delivery(*lease) for lease in leased)
        return [due for due in claimed if due is not None]

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
            status_code: of the answer; None if there was none. 410 ends all deliveries of the job, of later events too.
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
                    last_error=storable(to_text(error)),
                    last_status_code=status_code,
                    next_attempt_at=now + wait_s if again else None,
                    lease_until=None,
                )
            )
            if status_code == _GONE:
                connection.execute(update(jobs).where(jobs.c.job_id == due.job_id).values(gone_at=now))
                pending = and_(job_events.c.job_id == due.job_id, job_events.c.delivery == DeliveryStatus.PENDING)
                given_up = {"delivery": status, "last_error": storable(to_text(error))}
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
        """Return the state of each of a job's events, in order, without the result. JobNotFound."""
        with self._db.read() as connection:
            if connection.execute(select(jobs.c.number).where(jobs.c.job_id == job_id)).first() is None:
                raise JobNotFound(Sentence("No job has the id {job_id}", job_id=job_id))
            mine = select(job_events).where(job_events.c.job_id == job_id)
            rows = connection.execute(mine.order_by(job_events.c.seq)).all()
        return [
            Delivery(
                event=event_of(row, None),
                webhook_id=row.webhook_id,
                status=DeliveryStatus(row.delivery),
                attempts=row.attempts,
                next_attempt_at=row.next_attempt_at,
                delivered_at=row.delivered_at,
                last_error=row.last_error and from_text(row.last_error),
                last_status_code=row.last_status_code,
            )
            for row in rows
        ]

    def replay(self, job_id: str) -> int:
        """Queue all of a job's deliveries again, in order, with the same webhook ids; return how many. JobNotFound."""
        with self._db.write() as (connection, now):
            if not _lock_job(connection, job_id):
                raise JobNotFound(Sentence("No job has the id {job_id}", job_id=job_id))
            connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(gone_at=None))
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

    def _any_due(self, choice: _Choice) -> bool:
        with self._db.read() as connection:
            now = self._db.now(connection)
            return any(self._candidates(connection, choice, is_suspect, now, limit=1) for is_suspect in (False, True))

    def _candidates(
        self, connection: Connection, choice: _Choice, is_suspect: bool, now: float, limit: int | None = None
    ) -> Sequence[AnyRow]:
        room = choice.room(is_suspect)
        if room <= 0:
            return ()
        query = select(*_CANDIDATE_COLUMNS).where(self._free(now), choice.has_place(is_suspect))
        if choice.long_places == 0:
            query = query.where(self._is_short())
        query = query.order_by(job_events.c.next_attempt_at).limit(limit or room * _CANDIDATES_PER_CLAIM)
        found: list[AnyRow] = []
        for wanted in choice.wanted(is_suspect):
            for due in self._due(now, is_suspect):  # each reads one index
                found += connection.execute(query.where(wanted, due).with_for_update(skip_locked=True)).all()
        return sorted(found, key=lambda row: float(row.next_attempt_at))

    def _due(self, now: float, is_suspect: bool) -> list[ColumnElement[bool]]:
        at = job_events.c.next_attempt_at
        if not self._db.is_sqlite:
            return [at <= now]
        # by the host's clock; a time that nobody would have set now is from before its step
        longest_s = retry.DELIVERY_BACKOFF.cap_s if is_suspect else 0.0  # the others are first attempts
        return [at <= now, at > now + longest_s]

    def _free(self, now: float) -> ColumnElement[bool]:
        lease_until = job_events.c.lease_until
        is_free = or_(lease_until.is_(None), lease_until <= now)
        # after the clock was set back, a courier may be sending it for as long as a lease
        if self._db.is_sqlite and self._db.since_step_s(now) > self._delivery_lease_s:
            sending_s = retry.sending_s(1) * func.coalesce(job_events.c.result_bytes, 0)
            is_free = or_(is_free, lease_until > now + self._delivery_lease_s + sending_s + 1.0)
        # literal: a database sees that the indexes of pending events apply
        return and_(job_events.c.delivery == literal(DeliveryStatus.PENDING.value, literal_execute=True), is_free)

    def _sent_bytes(self, row: AnyRow) -> int:
        num_bytes = row.result_bytes or 0
        return 0 if self._result_links.applies(num_bytes) else num_bytes

    def _is_short(self) -> ColumnElement[bool]:
        num_bytes = func.coalesce(job_events.c.result_bytes, 0)
        above_bytes = self._result_links.above_bytes
        is_short = num_bytes <= _LONG_BYTES
        return is_short if above_bytes is None else or_(is_short, num_bytes > above_bytes)

    def _lease(self, connection: Connection, row: AnyRow, owner: str, now: float) -> tuple[AnyRow, float]:
        lease_s = self._delivery_lease_s + retry.sending_s(self._sent_bytes(row))
        leased = connection.execute(
            update(job_events)
            .where(job_events.c.job_id == row.job_id, job_events.c.seq == row.seq)
            .values(lease_until=now + lease_s, lease_owner=owner, fence=job_events.c.fence + 1)
            .returning(*_SENT_COLUMNS)
        ).one()
        return leased, lease_s

    def _due_delivery(self, row: AnyRow, lease_s: float, is_suspect: bool) -> DueDelivery | None:
        """Return a delivery with its body; None if its job was deleted after the claim."""
        body = row.payload
        if row.key == JobStatus.COMPLETED:
            this = and_(jobs.c.job_id == row.job_id, job_events.c.webhook_id == row.webhook_id)
            with self._db.read() as connection:
                result = connection.execute(
                    select(jobs.c.result).join(job_events, job_events.c.job_id == jobs.c.job_id).where(this)
                ).scalar()
            if result is None:
                return None
            body = self._with_result(row, result)
        return DueDelivery(
            job_id=row.job_id,
            seq=row.seq,
            webhook_id=row.webhook_id,
            target=row.target,
            host=row.host,
            share=row.share or share_of(row.host),
            body=body.encode("utf-8", "replace"),
            attempts=row.attempts,
            fence=row.fence,
            lease_s=lease_s,
            is_suspect=is_suspect,
        )

    def _with_result(self, row: AnyRow, result: str) -> str:
        if self._result_links.above_bytes is None:
            return json_text.splice(row.payload, "result", result)
        content = result.encode("utf-8", "replace")
        if not self._result_links.applies(len(content)):
            return json_text.splice(row.payload, "result", result)
        link = {
            "result_url": self._result_links.url(row.job_id),
            "result_bytes": len(content),
            "result_sha256": hashlib.sha256(content).hexdigest(),
        }
        return f"{row.payload[:-1]},{encode(link)[1:]}"


class _Choice:
    """Which of the deliveries that are due a claim takes."""

    def __init__(self, limit: int, per_share: int | None, under_way: Mapping[str, int], limits: ClaimLimits) -> None:
        self._limits = limits
        self._per_share = {False: per_share, True: limits.per_share}
        self._under_way = {False: Counter(under_way), True: Counter(limits.under_way)}
        self._places = {False: limits.other_places, True: limits.places}
        self._left = limit
        self.long_places = limits.long_places
        self.taken: list[tuple[AnyRow, bool]] = []

    def room(self, is_suspect: bool) -> int:
        """Return how many more deliveries, suspect or not, may be taken."""
        places = self._places[is_suspect]
        return self._left if places is None else min(self._left, places)

    def wanted(self, is_suspect: bool) -> list[ColumnElement[bool]]:
        """Return the conditions on deliveries that are suspect, or not; each holds for one index."""
        zero = literal(0, literal_execute=True)
        first, again = job_events.c.attempts == zero, job_events.c.attempts > zero
        suspect = and_(_SHARE.in_(self._limits.shares), job_events.c.host.not_in(self._limits.trusted))
        if is_suspect:
            return [again, and_(first, suspect)] if self._limits.shares else [again]
        return [and_(first, ~suspect)] if self._limits.shares else [first]

    def has_place(self, is_suspect: bool) -> ColumnElement[bool]:
        """Return the condition that a delivery's share has a free place, and its host is not paused."""
        full = {share for kind in (False, is_suspect) for share in self._full(kind)}
        return and_(_SHARE.not_in(full), job_events.c.host.not_in(self._limits.paused))

    def take(self, row: AnyRow, is_suspect: bool, is_long: bool) -> None:
        """Take a delivery if there is a place for it."""
        kinds = {False, is_suspect}  # a suspect one takes a place of its share too
        if self.room(is_suspect) <= 0 or any(row.share in self._full(kind) for kind in kinds):
            return
        if is_long and self.long_places is not None:
            if self.long_places == 0:
                return
            self.long_places -= 1
        for kind in kinds:
            self._under_way[kind][row.share] += 1
        places = self._places[is_suspect]
        if places is not None:
            self._places[is_suspect] = places - 1
        self._left -= 1
        self.taken.append((row, is_suspect))

    def _full(self, is_suspect: bool) -> Collection[str]:
        limit = self._per_share[is_suspect]
        return [] if limit is None else [share for share, n in self._under_way[is_suspect].items() if n >= limit]


_SHARE = func.coalesce(job_events.c.share, job_events.c.host).label("share")
_CANDIDATE_COLUMNS = (
    job_events.c.job_id,
    job_events.c.seq,
    _SHARE,
    job_events.c.host,
    job_events.c.result_bytes,
    job_events.c.next_attempt_at,
)
_SENT_COLUMNS = (
    job_events.c.job_id,
    job_events.c.seq,
    job_events.c.key,
    job_events.c.webhook_id,
    job_events.c.target,
    job_events.c.host,
    job_events.c.share,
    job_events.c.payload,
    job_events.c.attempts,
    job_events.c.fence,
)


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
