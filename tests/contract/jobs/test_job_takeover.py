"""Leases, fences, crashes: what is left when a runner dies, and what a runner left over can't do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from serve_app.errors import JobConflict, LeaseLost
from serve_app.jobs.record import JobStatus
from serve_app.messages import Stage

LEASE_S = 15.0

# A runner in a process of its own, which is killed inside the transaction that would have committed its second step.
DYING_RUNNER = """
import os, signal, sys
from sqlalchemy import event
from serve_app.jobs.store import JobStore
from serve_app.messages import Stage

store = JobStore(sys.argv[1])
claim = store.claim("doomed")
store.commit_step(claim, "fetch", "kept", seconds=1.0, announce=[Stage.DOWNLOADED])
die = lambda connection: os.kill(os.getpid(), signal.SIGKILL)
event.listen(store._db._engine, "commit", die)
store.commit_step(claim, "vad", "lost", seconds=1.0, announce=[Stage.DETECTING_SPEECH])
"""


@pytest.fixture
def two(open_store):
    return open_store(), open_store()


def test_a_lease_holds_until_it_runs_out(two, make_request, clock):
    ours, theirs = two
    ours.submit(make_request(), max_queued=None)
    claim = ours.claim("ours")
    clock.advance(LEASE_S - 0.1)
    assert theirs.claim("theirs") is None
    ours.renew(claim)
    clock.advance(LEASE_S - 0.1)
    assert theirs.claim("theirs") is None
    clock.advance(0.1)
    taken = theirs.claim("theirs")
    assert taken.job.job_id == "job-1"
    assert taken.fence > claim.fence
    assert taken.job.attempts == 0  # a crash is no failed attempt
    assert taken.job.started_at == claim.job.started_at


@pytest.mark.parametrize("write", ["announce", "commit_step"])
def test_work_is_a_sign_of_life(two, make_request, clock, write):
    ours, theirs = two
    ours.submit(make_request(), max_queued=None)
    claim = ours.claim("ours")
    clock.advance(LEASE_S - 1)
    if write == "announce":
        ours.announce(claim, Stage.DOWNLOADED)
    else:
        ours.commit_step(claim, "fetch", 1, seconds=14)
    clock.advance(LEASE_S - 1)
    assert theirs.claim("theirs") is None


def test_a_takeover_resumes_after_the_last_finished_step(two, make_request, clock):
    ours, theirs = two
    ours.submit(make_request(), max_queued=None)
    claim = ours.claim("ours")
    ours.commit_step(claim, "fetch", {"url": "file"}, seconds=1, announce=[Stage.DOWNLOADED])
    ours.announce(claim, Stage.DETECTING_SPEECH)
    clock.advance(LEASE_S)
    taken = theirs.claim("theirs")
    assert theirs.steps("job-1") == {"fetch": {"url": "file"}}
    assert taken.job.progress == 25
    theirs.announce(taken, Stage.DOWNLOADED, Stage.DETECTING_SPEECH, Stage.DIARIZING)
    assert [event.payload["progress"] for event in theirs.events("job-1")] == [10, 25, 40]


def test_a_stale_runner_is_refused_at_every_write(two, make_request, clock):
    ours, theirs = two
    ours.submit(make_request(), max_queued=None)
    stale = ours.claim("ours")
    clock.advance(LEASE_S)
    taken = theirs.claim("theirs")
    theirs.commit_step(taken, "fetch", "theirs", seconds=1, announce=[Stage.DOWNLOADED])
    before = theirs.get("job-1")
    for write in (
        lambda: ours.renew(stale),
        lambda: ours.announce(stale, Stage.MERGING),
        lambda: ours.commit_step(stale, "fetch", "ours", seconds=1),
        lambda: ours.commit_step(stale, "vad", "ours", seconds=1, announce=[Stage.DIARIZING]),
        lambda: ours.complete(stale, {"text": "ours"}),
        lambda: ours.fail(stale, "PROCESSING_ERROR", "ours", retry_after_s=None),
        lambda: ours.fail(stale, "PROCESSING_ERROR", "ours", retry_after_s=1.0),
        lambda: ours.release(stale),
        lambda: ours.finish_cancel(stale),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert ours.get("job-1") == before
    assert ours.steps("job-1") == {"fetch": "theirs"}
    assert [event.payload["progress"] for event in ours.events("job-1")] == [10]
    theirs.complete(taken, {"text": "theirs"})
    assert ours.get("job-1").result == {"text": "theirs"}


def test_a_runner_that_claims_its_own_job_again_is_another_holder(store, make_request, clock):
    store.submit(make_request(), max_queued=None)
    first = store.claim("runner")
    clock.advance(LEASE_S)
    second = store.claim("runner")
    with pytest.raises(LeaseLost):
        store.renew(first)
    assert store.renew(second) is False


def test_a_runner_whose_lease_ran_out_unnoticed_may_go_on(two, make_request, clock):
    ours, _ = two
    ours.submit(make_request(), max_queued=None)
    claim = ours.claim("ours")
    clock.advance(10 * LEASE_S)
    assert ours.complete(claim, {}).status == JobStatus.COMPLETED


def test_a_job_that_kills_its_runners_is_given_up(open_store, make_request, clock):
    store = open_store(max_crashes=2)
    store.submit(make_request(), max_queued=None)
    store.submit(make_request("innocent"), max_queued=None)
    assert [_claim_and_die(store, clock) for _ in range(3)] == ["job-1"] * 3
    assert store.claim("runner").job.job_id == "innocent"
    job = store.get("job-1")
    assert (job.status, job.error_code) == (JobStatus.FAILED, "PROCESSING_ERROR")
    assert job.error_message.startswith(
        "처리 중 오류가 발생했습니다: 이 작업을 처리하던 실행기가 연속으로 3번 중단되어"
    )
    assert [event.payload["status"] for event in store.events("job-1")] == ["failed"]


def test_crashes_with_progress_between_are_forgiven(open_store, make_request, clock):
    store = open_store(max_crashes=2)
    store.submit(make_request(), max_queued=None)
    claim = store.claim("runner")
    for step in range(5):
        store.commit_step(claim, f"step-{step}", step, seconds=1)
        clock.advance(LEASE_S)
        assert _claim_and_die(store, clock) == "job-1"
        claim = store.claim("runner")  # the second takeover in a row, as many as may be
        assert claim.job.job_id == "job-1"


def _claim_and_die(store, clock):
    claim = store.claim("runner")
    clock.advance(LEASE_S)
    return claim.job.job_id


def test_a_cancelled_job_whose_runner_died_is_not_taken_over(two, make_request, clock):
    ours, theirs = two
    ours.submit(make_request(), max_queued=None)
    ours.claim("ours")
    ours.cancel("job-1")
    clock.advance(LEASE_S)
    assert theirs.claim("theirs") is None
    assert theirs.get("job-1").status == JobStatus.CANCELLED
    assert [event.payload["status"] for event in theirs.events("job-1")] == ["cancelled"]


def test_a_job_whose_runner_died_is_cancelled_at_once(two, make_request, clock):
    ours, theirs = two
    ours.submit(make_request(), max_queued=None)
    claim = ours.claim("ours")
    clock.advance(LEASE_S)
    assert theirs.cancel("job-1").status == JobStatus.CANCELLED
    with pytest.raises(LeaseLost):
        ours.complete(claim, {})


def test_no_job_is_taken_twice_or_left(open_store, make_request):
    stores = [open_store(), open_store()]
    job_ids = [f"job-{n}" for n in range(24)]
    for job_id in job_ids:
        stores[0].submit(make_request(job_id), max_queued=None)

    def drain(n):
        taken = []
        while (claim := stores[n % 2].claim(f"runner-{n}")) is not None:
            stores[n % 2].announce(claim, Stage.DOWNLOADED)
            stores[n % 2].complete(claim, {"by": claim.owner})
            taken.append(claim.job.job_id)
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = [job_id for some in pool.map(drain, range(6)) for job_id in some]
    assert sorted(taken) == sorted(job_ids)
    news = stores[0].events_after(dict.fromkeys(job_ids, 0))
    assert all([event.seq for event in each.events] == [1, 2] for each in news.values())


def test_cancel_against_complete_has_one_winner(open_store, make_request):
    runner, client = open_store(), open_store()
    for n in range(12):
        runner.submit(make_request(f"job-{n}"), max_queued=None)
        claim = runner.claim("runner")
        start = Barrier(2)

        def finish(claim=claim, start=start):
            start.wait()
            runner.complete(claim, {"text": "done"})

        def cancel(n=n, start=start):
            start.wait()
            try:
                return client.cancel(f"job-{n}").status
            except JobConflict:
                return None

        with ThreadPoolExecutor(2) as pool:
            finished, cancelled = pool.submit(finish), pool.submit(cancel)
            finished.result()
            assert cancelled.result() in (JobStatus.PROCESSING, None)
        assert [event.payload["status"] for event in client.events(f"job-{n}")] == ["completed"]


def test_claim_against_cancel_has_one_winner(open_store, make_request):
    runner, client = open_store(), open_store()
    for n in range(12):
        runner.submit(make_request(f"job-{n}"), max_queued=None)
        start = Barrier(2)

        def take(start=start):
            start.wait()
            return runner.claim("runner")

        def cancel(n=n, start=start):
            start.wait()
            return client.cancel(f"job-{n}").status

        with ThreadPoolExecutor(2) as pool:
            taking, cancelling = pool.submit(take), pool.submit(cancel)
            claim, status = taking.result(), cancelling.result()
        if claim is None:
            assert status == JobStatus.CANCELLED
        else:
            assert status == JobStatus.PROCESSING
            assert runner.renew(claim) is True
            runner.finish_cancel(claim)
        assert [event.payload["status"] for event in client.events(f"job-{n}")] == ["cancelled"]


def test_a_runner_killed_inside_a_transaction_leaves_nothing_of_it(open_store, make_request, database_url):
    store = open_store(clock=lambda: time.time() + 3600.0)  # every lease of the other process has run out
    open_store(clock=None).submit(make_request(), max_queued=None)
    died = subprocess.run(
        [sys.executable, "-c", DYING_RUNNER, database_url],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert store.steps("job-1") == {"fetch": "kept"}
    assert [event.payload["progress"] for event in store.events("job-1")] == [10]
    taken = store.claim("heir")
    assert taken.job.job_id == "job-1"
    store.commit_step(taken, "vad", "done", seconds=1.0, announce=[Stage.DOWNLOADED, Stage.DETECTING_SPEECH])
    store.complete(taken, {"text": "done"})
    assert [event.payload["progress"] for event in store.events("job-1")] == [10, 25, 100]
