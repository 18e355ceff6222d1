"""Receivers that fail or are slow don't take the places of the others."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import event, insert

from serve_app.jobs.outbox import ClaimLimits
from serve_app.jobs.record import DeliveryStatus, JobStatus
from serve_app.jobs.tables import encode_request, job_events, jobs
from serve_app.messages import Stage


@pytest.fixture
def add(store, make_request):
    """A function that makes a job whose first event waits for delivery."""

    def add_job(job_id, host):
        store.submit(make_request(job_id, callback_base=f"https://{host}"), max_queued=None)
        claim = store.claim("runner")
        store.announce(claim, Stage.DOWNLOADED)
        return claim

    return add_job


def claimed(store, limit=16, **options):
    return [due.job_id for due in store.claim_deliveries("courier", limit, **options)]


def test_first_attempts_come_before_retries_that_wait_longer(store, add, clock):
    for n in range(6):
        add(f"failed-{n}", f"h{n}.example.com")
    for due in store.claim_deliveries("courier", 10):
        store.record_failure(due, error="HTTP 500", status_code=500)
    clock.advance(1.0)
    add("new", "honest.example")
    assert claimed(store, 1) == ["new"]


def test_hosts_under_one_name_share_its_places(store, add):
    for n in range(6):
        add(f"n{n}", f"n{n}.evil.example")
    add("honest", "honest.example")
    assert claimed(store, per_host=4) == ["n0", "n1", "n2", "n3", "honest"]
    assert claimed(store, per_host=4, in_flight={"evil.example": 4}) == []


def test_ports_of_one_address_share_its_places(store, add):
    for n in range(6):
        add(f"n{n}", f"192.0.2.1:{9000 + n}")
    assert claimed(store, per_host=4) == ["n0", "n1", "n2", "n3"]


def test_a_suspect_share_has_few_places_but_its_good_hosts_have_their_own(store, add, clock):
    for n in range(8):
        add(f"n{n}", f"n{n}.evil.example")
        add(f"m{n}", f"m{n}.worse.example")
        clock.advance(0.1)
    add("good", "good.evil.example")
    add("honest", "honest.example")
    limits = ClaimLimits(
        shares=("evil.example", "worse.example"),
        trusted=("good.evil.example",),
        paused=("n0.evil.example",),
        places=3,
        per_share=2,
    )
    assert claimed(store, per_host=4, limits=limits) == ["good", "honest", "m0", "n1", "m1"]


def test_no_place_for_suspect_deliveries_leaves_the_others_theirs(store, add, clock):
    add("failed", "a.example.com")
    (due,) = store.claim_deliveries("courier", 10)
    store.record_failure(due, error="HTTP 500", status_code=500)
    clock.advance(1.0)
    add("new", "b.example")
    assert claimed(store, limits=ClaimLimits(places=0)) == ["new"]
    assert claimed(store, limits=ClaimLimits(other_places=0)) == ["failed"]


def test_long_bodies_leave_places_to_the_others(store, add, make_request, clock):
    for n in range(3):
        store.submit(make_request(f"long-{n}", callback_base=f"https://h{n}.example"), max_queued=None)
        store.complete(store.claim("runner"), {"text": "x" * ((1 << 20) + 1)})
        clock.advance(1.0)
    add("short", "honest.example")
    assert claimed(store, limits=ClaimLimits(long_places=1)) == ["long-0", "short"]
    assert claimed(store, limits=ClaimLimits(long_places=0)) == []
    assert claimed(store) == ["long-1", "long-2"]


def add_pending(store, make_request, num_pending, now_s):
    """Store jobs of one attacker whose only event has failed once and is due again."""
    request = encode_request(make_request("x"))
    job = {"kind": "video", "request": request, "status": JobStatus.FAILED, "progress": 0, "message": "-"}
    job |= {"created_at": now_s, "attempts": 1, "crashes": 0, "due_at": now_s, "fence": 0, "cancel_requested": False}
    failed = {"key": "failed", "created_at": now_s, "payload": "{}", "delivery": DeliveryStatus.PENDING, "attempts": 1}
    failed |= {"fence": 1, "next_attempt_at": now_s - 5.0, "give_up_at": now_s + 9e4, "share": "evil.example", "seq": 1}
    hosts = {f"x{num_pending}-{n}": f"n{n}.evil.example" for n in range(num_pending)}
    with store._db.write() as (connection, _now):
        connection.execute(insert(jobs), [{**job, "job_id": job_id, "private": False} for job_id in hosts])
        events = [
            {**failed, "job_id": job_id, "webhook_id": job_id, "host": host, "target": f"https://{host}"}
            for job_id, host in hosts.items()
        ]
        connection.execute(insert(job_events), events)


def test_a_claim_does_not_read_the_retries_of_others(make_request, add, store, clock):
    """Counts the steps of SQLite's machine; each row or entry that it reads takes some."""
    if not store._db.is_sqlite:
        pytest.skip("Postgres counts no steps")
    steps = []

    def count(raw: sqlite3.Connection, *_rest):
        raw.set_progress_handler(lambda: steps.append(1) and None, 1)

    event.listen(store._db._engine, "checkout", count)
    needed = []
    for num_more in (100, 20_000):
        add_pending(store, make_request, num_more, clock.now_s)
        add(f"honest-{num_more}", "honest.example")
        steps.clear()
        assert claimed(store, limits=ClaimLimits(shares=("evil.example",), places=0)) == [f"honest-{num_more}"]
        needed.append(len(steps))
    assert needed[1] < 1.5 * needed[0]


def test_claims_read_the_indexes_of_pending_events(store, add):
    if not store._db.is_sqlite:
        pytest.skip("Postgres reads small tables whole")
    add("new", "honest.example")
    seen = []
    event.listen(store._db._engine, "before_cursor_execute", lambda _c, _k, sql, args, *_rest: seen.append((sql, args)))
    claimed(store, limits=ClaimLimits(shares=("evil.example",), trusted=("a",), paused=("b",), places=2, per_share=1))
    queries = [(sql, args) for sql, args in seen if sql.startswith("SELECT job_events.job_id")]
    with store._db.read() as connection:
        plans = [str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", args).all()) for sql, args in queries]
    assert any("job_events_first (next_attempt_at<?)" in plan for plan in plans)
    assert any("job_events_due (next_attempt_at<?)" in plan for plan in plans)
    assert len(plans) == 8  # half of them for times from before the clock was set; a quarter to look for any due
    assert not any("SCAN job_events" in plan or "TEMP B-TREE" in plan for plan in plans)
