"""Submitting, finding, listing, estimating, deleting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_app.errors import InvalidRequest, JobConflict, JobNotFound, LeaseLost, Overloaded
from serve_app.jobs.record import JobStatus
from serve_app.jobs.store import QueueDepth
from serve_app.messages import Locale, Stage


def finish(store, clock, *, seconds):
    claim = store.claim("runner")
    clock.advance(seconds)
    store.complete(claim, {"text": claim.job.job_id})
    return claim.job.job_id


def test_a_submitted_job_is_found_as_it_was_sent(store, make_request, clock):
    request = make_request(language="ko", num_speakers=2, enable_gpu=False)
    job = store.submit(request, max_queued=None)
    assert store.get("job-1") == job
    assert job.request == request
    assert (job.status, job.progress, job.attempts, job.created_at) == (JobStatus.QUEUED, 0, 0, clock.now_s)
    assert job.message == "대기 중"


def test_messages_speak_the_stores_language(open_store, make_request):
    store = open_store(locale=Locale.EN)
    assert store.submit(make_request(), max_queued=None).message == "Queued"
    assert store.claim("runner").job.message == "Video processing has started"


def test_the_same_request_again_finds_the_same_job_even_when_the_queue_is_full(store, make_request):
    first = store.submit(make_request(), max_queued=1)
    assert store.submit(make_request(), max_queued=1) == first
    assert store.queue_depth() == QueueDepth(queued=1, running=0)


def test_the_same_id_for_another_request_is_a_conflict(store, make_request):
    store.submit(make_request(), max_queued=None)
    with pytest.raises(JobConflict, match="job-1"):
        store.submit(make_request(language="ko"), max_queued=None)
    assert store.get("job-1").request == make_request()


def test_twenty_at_once_make_one_job(open_store, make_request):
    stores = [open_store(), open_store()]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: stores[n % 2].submit(make_request(), max_queued=5), range(20)))
    assert len(set(answers)) == 1
    assert stores[0].queue_depth() == QueueDepth(queued=1, running=0)


def test_a_full_queue_refuses_and_says_when_to_come_again(store, make_request, clock):
    store.submit(make_request("a"), max_queued=2)
    store.submit(make_request("b"), max_queued=2)
    with pytest.raises(Overloaded) as caught:
        store.submit(make_request("c"), max_queued=2)
    assert caught.value.retry_after_s == 5.0  # nothing was measured yet
    finish(store, clock, seconds=30.0)
    store.submit(make_request("c"), max_queued=2)
    with pytest.raises(Overloaded) as caught:
        store.submit(make_request("d"), max_queued=2)
    assert caught.value.retry_after_s == 30.0  # one runner, thirty seconds a job
    with pytest.raises(JobNotFound):
        store.get("d")


def test_what_is_not_there_is_not_found(store):
    for ask in (store.get, store.queue_position, store.estimate_s, store.cancel, store.delete, store.deliveries):
        with pytest.raises(JobNotFound, match="nobody"):
            ask("nobody")
    for ask in (store.replay, store.events):
        with pytest.raises(JobNotFound, match="nobody"):
            ask("nobody")


def test_the_queue_is_first_come_first_served(store, make_request):
    for job_id in ("c", "a", "b"):
        store.submit(make_request(job_id), max_queued=None)
    assert [store.queue_position(job_id) for job_id in ("c", "a", "b")] == [0, 1, 2]
    taken = [store.claim("runner").job.job_id for _ in range(3)]
    assert taken == ["c", "a", "b"]
    assert store.queue_position("a") is None
    assert store.claim("runner") is None


def test_depth_counts_the_waiting_and_the_running(store, make_request, clock):
    assert store.queue_depth() == QueueDepth(0, 0)
    for n in range(4):
        store.submit(make_request(f"job-{n}"), max_queued=None)
    finish(store, clock, seconds=1)
    store.claim("runner")
    assert store.queue_depth() == QueueDepth(queued=2, running=1)


def test_estimates_come_from_measured_jobs(store, make_request, clock):
    for n in range(7):
        store.submit(make_request(f"job-{n}"), max_queued=None)
    assert store.estimate_s("job-0") is None
    finish(store, clock, seconds=10.0)
    finish(store, clock, seconds=20.0)
    store.claim("runner-a")  # job-2
    store.claim("runner-b")  # job-3
    clock.advance(4.0)
    assert store.estimate_s("job-0") == 0.0
    typical_s = store.estimate_s("job-2") + 4.0
    assert 10.0 <= typical_s <= 20.0
    assert store.estimate_s("job-3") == pytest.approx(typical_s - 4.0)
    # two places, which the jobs in work hold, then the two next ones
    assert store.estimate_s("job-4") == pytest.approx(typical_s - 4.0 + typical_s)
    assert store.estimate_s("job-5") == pytest.approx(typical_s - 4.0 + typical_s)
    assert store.estimate_s("job-6") == pytest.approx(2 * typical_s - 4.0 + typical_s)
    store.note_runner("runner-a", 3, 30.0)
    assert store.estimate_s("job-4") == pytest.approx(typical_s)  # a third place is free
    clock.advance(100.0)
    assert store.estimate_s("job-2") == 0.0


def test_pages_go_from_new_to_old_and_leave_results_out(store, make_request, clock):
    for n in range(5):
        store.submit(make_request(f"job-{n}"), max_queued=None)
    finish(store, clock, seconds=1)
    first = store.page(None, 2, None)
    second = store.page(None, 2, first.next_cursor)
    store.submit(make_request("later"), max_queued=None)  # does not shift what follows
    third = store.page(None, 2, second.next_cursor)
    assert [[job.job_id for job in page.jobs] for page in (first, second, third)] == [
        ["job-4", "job-3"],
        ["job-2", "job-1"],
        ["job-0"],
    ]
    assert third.next_cursor is None
    assert third.jobs[0].status == JobStatus.COMPLETED
    assert third.jobs[0].result is None


def test_pages_by_status(store, make_request, clock):
    for n in range(3):
        store.submit(make_request(f"job-{n}"), max_queued=None)
    finish(store, clock, seconds=1)
    assert [job.job_id for job in store.page(JobStatus.COMPLETED, 10, None).jobs] == ["job-0"]
    assert [job.job_id for job in store.page(JobStatus.QUEUED, 10, None).jobs] == ["job-2", "job-1"]
    exact = store.page(JobStatus.QUEUED, 2, None)
    assert exact.next_cursor is None


@pytest.mark.parametrize("cursor", ["x", "-1", "1; DROP TABLE jobs", "9" * 30, "²"])
def test_a_made_up_cursor_is_refused(store, cursor):
    with pytest.raises(InvalidRequest, match="cursor"):
        store.page(None, 10, cursor)


def test_only_ended_jobs_can_be_deleted(store, make_request, clock):
    store.submit(make_request(), max_queued=None)
    with pytest.raises(JobConflict, match="queued"):
        store.delete("job-1")
    claim = store.claim("runner")
    with pytest.raises(JobConflict, match="processing"):
        store.delete("job-1")
    store.complete(claim, {})
    store.delete("job-1")
    with pytest.raises(JobNotFound):
        store.get("job-1")
    assert store.events_after({"job-1": 0}) == {}


def test_a_deleted_id_can_be_used_again_and_its_old_runner_cannot_touch_it(store, make_request):
    store.submit(make_request(), max_queued=None)
    stale = store.claim("runner")
    store.complete(stale, {"text": "old"})
    store.delete("job-1")
    store.submit(make_request(), max_queued=None)
    fresh = store.claim("runner")
    assert fresh.fence > stale.fence
    assert store.get("job-1").result is None
    with pytest.raises(LeaseLost):
        store.complete(stale, {"text": "old"})
    assert store.get("job-1").status == JobStatus.PROCESSING


def test_jobs_expire_once_they_are_old_and_their_deliveries_over(store, make_request, clock):
    store.submit(make_request("delivered"), max_queued=None)
    store.submit(make_request("undelivered"), max_queued=None)
    store.submit(make_request("no-callback", callback_base=None), max_queued=None)
    store.submit(make_request("active"), max_queued=None)
    for _ in range(3):
        finish(store, clock, seconds=1)
    for due in store.claim_deliveries("courier", 10):
        if due.job_id == "delivered":
            store.record_delivered(due, status_code=200)
    clock.advance(100.0)
    store.submit(make_request("recent", callback_base=None), max_queued=None)
    store.claim("runner")  # "active"
    finish(store, clock, seconds=1)  # "recent"
    assert [job.job_id for job in store.expired(50.0)] == ["delivered", "no-callback"]
    for job_id in [job.job_id for job in store.expired(50.0)]:
        store.delete(job_id)
    assert store.expired(50.0) == []
    assert {job.job_id: job.has_ended for job in store.known()} == {
        "undelivered": True,
        "active": False,
        "recent": True,
    }
    assert {job.job_id for job in store.page(None, 10, None).jobs} == {"undelivered", "active", "recent"}


def test_the_operators_base_is_no_part_of_the_request(store, make_request):
    """It may change between a submission and its repetition; the job keeps the one that was in force."""
    first = make_request(callback_base=None, default_callback_base="https://old.example")
    store.submit(first, max_queued=None)
    again = store.submit(make_request(callback_base=None, default_callback_base="https://new.example"), max_queued=None)
    assert again.request.callback == "https://old.example"
    with pytest.raises(JobConflict):
        store.submit(make_request(callback_base="https://new.example"), max_queued=None)
    store.announce(store.claim("runner"), Stage.DOWNLOADED)
    (due,) = store.claim_deliveries("courier", 10)
    assert due.target == "https://old.example"


def test_a_request_stored_with_the_operators_base_equals_one_without(store, make_request):
    """Version 2 stored the base in force as if the client had given it."""
    store.submit(make_request(callback_base="https://old.example"), max_queued=None)
    store.submit(make_request(callback_base=None, default_callback_base="https://old.example"), max_queued=None)
    with pytest.raises(JobConflict):
        store.submit(make_request(callback_base=None), max_queued=None)
