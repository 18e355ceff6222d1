"""SQLite's clock is the host's, and that is set: backwards, forwards, while jobs are in work."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.errors import LeaseLost
from serve_app.jobs.record import VideoRequest
from serve_app.jobs.store import JobStore
from tests.job_tables import make_job_table

LEASE_S = 15.0
HOUR_S = 3600.0


class Host:
    """Its wall clock, which a test sets, and the time since its start."""

    def __init__(self) -> None:
        self.steady_s = 1000.0
        self.offset_s = 1_800_000_000.0

    def wall(self) -> float:
        return self.steady_s + self.offset_s

    def steady(self) -> float:
        return self.steady_s


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def two(host: Host) -> tuple[JobStore, JobStore]:
    """The tables of two runners, both of which have looked for jobs before the clock is set."""
    ours, url = make_job_table(lease_s=LEASE_S, clock=host.wall, steady=host.steady)
    theirs = JobStore(url, lease_s=LEASE_S, clock=host.wall, steady=host.steady)
    for store in (ours, theirs):
        assert store.claim("nobody") is None
    submit(ours, "seen")
    claim = theirs.claim("nobody")
    assert claim is not None
    theirs.complete(claim, {"text": ""})
    return ours, theirs


def submit(store: JobStore, job_id: str = "a") -> None:
    store.submit(VideoRequest(job_id=job_id, video_url="https://example.com/a.mp4"), max_queued=None)


def test_a_queued_job_is_taken_at_once_after_the_clock_was_set_back(two: tuple[JobStore, JobStore], host: Host) -> None:
    ours, theirs = two
    submit(ours)
    host.offset_s -= HOUR_S
    assert theirs.claim("theirs") is not None


def test_a_job_that_waits_for_its_next_attempt_too(two: tuple[JobStore, JobStore], host: Host) -> None:
    ours, theirs = two
    submit(ours)
    claim = ours.claim("ours")
    assert claim is not None
    ours.fail(claim, "PROCESSING_ERROR", "-", retry_after_s=60.0)
    assert theirs.claim("theirs") is None
    host.offset_s -= HOUR_S
    assert theirs.claim("theirs") is not None


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S, -30.0, 30.0])
def test_a_dead_runners_job_is_taken_over_within_two_leases(
    two: tuple[JobStore, JobStore], host: Host, step_s: float
) -> None:
    ours, theirs = two
    submit(ours)
    assert ours.claim("ours") is not None
    theirs.claim("theirs")
    host.offset_s += step_s
    waited_s = 0.0
    while theirs.claim("theirs") is None:
        host.steady_s += 0.5
        waited_s += 0.5
        assert waited_s <= 2 * LEASE_S + 1
    assert waited_s >= LEASE_S - 1


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S, -30.0, 30.0])
def test_a_living_runner_keeps_its_job_and_no_crash_is_counted(
    two: tuple[JobStore, JobStore], host: Host, step_s: float
) -> None:
    ours, theirs = two
    submit(ours)
    claim = ours.claim("ours")
    assert claim is not None
    for tick in range(120):  # a minute; it renews every 2 s, the other looks every half second
        if tick == 21:
            host.offset_s += step_s
        assert theirs.claim("theirs") is None
        host.steady_s += 0.5
        if tick % 4 == 3:
            ours.renew(claim)
    try:
        ours.complete(claim, {"text": ""})
    except LeaseLost:  # pragma: no cover
        pytest.fail("the job was taken from a living runner")


def test_a_restarted_runner_takes_over_as_before(two: tuple[JobStore, JobStore], host: Host, tmp_path: Path) -> None:
    ours, theirs = two
    submit(ours)
    assert ours.claim("ours") is not None
    host.steady_s += LEASE_S
    assert theirs.claim("theirs") is not None


def test_claims_read_the_heads_of_an_index(two: tuple[JobStore, JobStore]) -> None:
    ours, _ = two
    plans = []
    ours._set_aside.add(7)
    with ours._db.read() as connection:
        from sqlalchemy import event

        seen: list[tuple[str, object]] = []
        event.listen(ours._db._engine, "before_cursor_execute", lambda c, cur, sql, args, *_: seen.append((sql, args)))
        ours._next_claimable(connection, ours._db.now(connection))
        for sql, args in [each for each in seen if each[0].startswith("SELECT")]:
            plans += [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", args)]  # type: ignore[arg-type]
    assert plans == ["SEARCH jobs USING INDEX jobs_by_status (status=?)"] * 2


def test_callbacks_do_not_wait_for_a_clock_that_was_set_back(two: tuple[JobStore, JobStore], host: Host) -> None:
    ours, theirs = two
    request = VideoRequest(job_id="a", video_url="https://example.com/a.mp4", callback_base="https://example.com")
    ours.submit(request, max_queued=None)
    claim = ours.claim("ours")
    assert claim is not None
    ours.announce(claim, 10)
    host.offset_s -= HOUR_S
    (first,) = theirs.claim_deliveries("theirs", 4)
    theirs.record_failure(first, error="-")
    host.offset_s -= HOUR_S
    (again,) = ours.claim_deliveries("ours", 4)
    assert again.attempts == 1
    host.offset_s -= HOUR_S
    assert theirs.claim_deliveries("theirs", 4) == [], "it may be on its way"
    host.steady_s += 2 * again.lease_s
    assert len(theirs.claim_deliveries("theirs", 4)) == 1, "its courier has died"
