"""Events for watchers, and deliveries: order, leases, retries, dead letters, replay."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event

from serve_app.errors import LeaseLost
from serve_app.jobs.events import JobNews
from serve_app.jobs.record import DeliveryStatus
from serve_app.messages import Stage

DELIVERY_LEASE_S = 30.0
DAY_S = 24 * 3600.0


@pytest.fixture
def make_events(store, make_request):
    """A function that makes a job with three events: 10 %, 25 %, completed."""

    def make(job_id="job-1", **changes):
        store.submit(make_request(job_id, **changes), max_queued=None)
        claim = store.claim("runner")
        assert claim.job.job_id == job_id
        store.announce(claim, Stage.DOWNLOADED, Stage.DETECTING_SPEECH)
        store.complete(claim, {"text": f"안녕 {job_id}"})

    return make


def claim_one(store):
    (due,) = store.claim_deliveries("courier", 10)
    return due


def statuses(store, job_id="job-1"):
    return [delivery.status for delivery in store.deliveries(job_id)]


def test_a_watcher_gets_what_it_has_not_seen(store, make_events, make_request):
    make_events("ended")
    store.submit(make_request("active"), max_queued=None)
    claim = store.claim("runner")
    store.announce(claim, Stage.DOWNLOADED)
    store.submit(make_request("queued"), max_queued=None)
    news = store.events_after({"ended": 1, "active": 0, "queued": 0, "nobody": 0})
    assert set(news) == {"ended", "active", "queued"}
    assert [(each.seq, each.payload["progress"]) for each in news["ended"].events] == [(2, 25), (3, 100)]
    assert news["ended"].events[-1].payload["result"] == {"text": "안녕 ended"}
    assert news["ended"].ended
    assert [each.seq for each in news["active"].events] == [1]
    assert not news["active"].ended
    assert news["queued"] == JobNews((), ended=False)
    assert store.events_after({"ended": 3}) == {"ended": JobNews((), ended=True)}
    assert store.events_after({}) == {}


def test_a_thousand_jobs_can_be_watched(store, make_events):
    make_events("job-1")
    asked = {f"nobody-{n}": 0 for n in range(1000)}
    assert [each.seq for each in store.events_after({**asked, "job-1": 0})["job-1"].events] == [1, 2, 3]


def test_deliveries_go_one_by_one_in_order(store, make_events):
    make_events()
    for seq, progress in ((1, 10), (2, 25), (3, 100)):
        due = claim_one(store)
        assert due.seq == seq
        assert json.loads(due.body)["progress"] == progress
        assert store.claim_deliveries("another", 10) == []  # nothing overtakes it
        assert store.record_delivered(due, status_code=200)
    assert store.claim_deliveries("courier", 10) == []
    assert statuses(store) == [DeliveryStatus.DELIVERED] * 3


def test_a_body_is_the_contracts_in_plain_utf8(store, make_events):
    make_events()
    for _ in range(2):
        store.record_delivered(claim_one(store), status_code=200)
    due = claim_one(store)
    assert "분석 완료".encode() in due.body
    assert json.loads(due.body) == store.events("job-1")[-1].payload
    assert (due.target, due.host) == ("https://backend.example", "backend.example")


def test_an_event_that_comes_while_another_is_under_way_waits(store, make_request):
    store.submit(make_request(), max_queued=None)
    claim = store.claim("runner")
    store.announce(claim, Stage.DOWNLOADED)
    first = claim_one(store)
    store.announce(claim, Stage.DETECTING_SPEECH)
    assert store.claim_deliveries("courier", 10) == []
    store.record_delivered(first, status_code=200)
    assert claim_one(store).seq == 2


def test_a_failure_is_tried_again_later_with_the_same_id_and_body(store, make_events, clock):
    make_events()
    first = claim_one(store)
    assert store.record_failure(first, error="HTTP 500", status_code=500) == DeliveryStatus.PENDING
    assert store.claim_deliveries("courier", 10) == []
    state = store.deliveries("job-1")[0]
    assert (state.attempts, state.last_error, state.last_status_code) == (1, "HTTP 500", 500)
    assert 0.25 <= state.next_attempt_at - clock.now_s <= 0.5
    clock.advance(0.5)
    again = claim_one(store)
    assert (again.seq, again.webhook_id, again.body) == (1, first.webhook_id, first.body)
    assert again.attempts == 1
    store.record_delivered(again, status_code=204)
    state = store.deliveries("job-1")[0]
    assert (state.status, state.attempts, state.last_error) == (DeliveryStatus.DELIVERED, 2, None)
    assert state.delivered_at == clock.now_s


def test_webhook_ids_are_never_shared(store, make_events):
    make_events("a")
    make_events("b")
    ids = [delivery.webhook_id for job_id in ("a", "b") for delivery in store.deliveries(job_id)]
    assert len(set(ids)) == 6
    assert all(webhook_id.startswith("msg_") for webhook_id in ids)


def test_a_receivers_wish_to_wait_is_kept(store, make_events, clock):
    make_events()
    store.record_failure(claim_one(store), error="HTTP 503", status_code=503, retry_after_s=90.0)
    clock.advance(89.0)
    assert store.claim_deliveries("courier", 10) == []
    clock.advance(1.0)
    assert claim_one(store).seq == 1


def test_a_courier_that_died_is_replaced_and_its_late_word_is_passed_over(store, make_events, clock):
    make_events()
    lost = claim_one(store)
    clock.advance(DELIVERY_LEASE_S)
    again = claim_one(store)
    assert again.webhook_id == lost.webhook_id
    assert store.record_failure(lost, error="late") is None
    assert store.record_delivered(lost, status_code=200) is False
    assert store.record_delivered(again, status_code=200) is True
    assert store.record_delivered(again, status_code=200) is False
    assert next((d.attempts, d.status) for d in store.deliveries("job-1")) == (1, DeliveryStatus.DELIVERED)


def test_a_claim_given_back_is_due_at_once_and_counts_for_nothing(store, make_events):
    make_events()
    store.give_back(claim_one(store))
    assert claim_one(store).attempts == 0


def test_what_stays_undelivered_for_a_day_is_dead_and_the_next_gets_its_chance(store, make_events, clock):
    make_events()
    clock.advance(DAY_S - 1)
    assert store.record_failure(claim_one(store), error="down") == DeliveryStatus.PENDING
    clock.advance(1.0)
    assert store.record_failure(claim_one(store), error="down") == DeliveryStatus.DEAD
    due = claim_one(store)
    assert due.seq == 2  # however old: it may be up again
    store.record_delivered(due, status_code=200)
    assert statuses(store) == [DeliveryStatus.DEAD, DeliveryStatus.DELIVERED, DeliveryStatus.PENDING]


def test_gone_ends_all_deliveries_of_the_job_and_of_no_other(store, make_events):
    make_events("job-1")
    make_events("other")
    first, other = store.claim_deliveries("courier", 10)
    assert store.record_failure(first, error="HTTP 410", status_code=410) == DeliveryStatus.DEAD
    assert statuses(store) == [DeliveryStatus.DEAD] * 3
    assert store.claim_deliveries("courier", 10) == []
    store.record_delivered(other, status_code=200)
    assert claim_one(store).job_id == "other"


def test_replay_sends_all_again_in_order_under_the_same_ids(store, make_events, clock):
    make_events()
    ids = [delivery.webhook_id for delivery in store.deliveries("job-1")]
    store.record_delivered(claim_one(store), status_code=200)
    under_way = claim_one(store)
    assert store.replay("job-1") == 3
    assert store.record_delivered(under_way, status_code=200) is False  # it comes again, in its turn
    seen = []
    for _ in range(3):
        due = claim_one(store)
        seen.append((due.seq, due.webhook_id))
        store.record_delivered(due, status_code=200)
    assert seen == list(zip((1, 2, 3), ids, strict=True))
    assert store.claim_deliveries("courier", 10) == []


def test_replay_wakes_the_dead(store, make_events, clock):
    make_events()
    store.record_failure(claim_one(store), error="HTTP 410", status_code=410)
    clock.advance(3 * DAY_S)
    assert store.replay("job-1") == 3
    assert store.record_failure(claim_one(store), error="HTTP 500", status_code=500) == DeliveryStatus.PENDING


def test_a_job_without_a_callback_has_events_and_no_deliveries(store, make_events):
    make_events("job-1", callback_base=None)
    assert [each.seq for each in store.events("job-1")] == [1, 2, 3]
    assert statuses(store) == [DeliveryStatus.NONE] * 3
    assert store.claim_deliveries("courier", 10) == []
    assert store.replay("job-1") == 0


def test_a_host_gets_its_share_and_no_more(store, make_events):
    for n in range(6):
        make_events(f"a-{n}", callback_base="https://a.example")
    make_events("b-0", callback_base="https://b.example")
    first = store.claim_deliveries("courier", 4, per_host=2)
    assert sorted(due.host for due in first) == ["a.example", "a.example", "b.example"]
    assert store.claim_deliveries("courier", 4, per_host=2, in_flight={"a.example": 2, "b.example": 1}) == []
    assert len(store.claim_deliveries("courier", 4, per_host=3, in_flight={"a.example": 2})) == 1


def test_a_host_with_a_long_queue_does_not_hide_the_others(store, make_events):
    for n in range(30):
        make_events(f"dead-{n}", callback_base="https://dead.example")
    make_events("live", callback_base="https://live.example")
    assert len(store.claim_deliveries("courier", 2, per_host=2)) == 2  # the longest waiting: of the dead host
    (due,) = store.claim_deliveries("courier", 2, per_host=2, in_flight={"dead.example": 2})
    assert due.host == "live.example"


def test_two_couriers_never_hold_the_same(open_store, store, make_events):
    for n in range(12):
        make_events(f"job-{n}")
    couriers = [store, open_store()]

    def drain(n):
        mine = []
        while due := couriers[n].claim_deliveries(f"courier-{n}", 3):
            mine += [(each.job_id, each.seq) for each in due]
            assert all(couriers[n].record_delivered(each, status_code=200) for each in due)
        return mine

    with ThreadPoolExecutor(2) as pool:
        drained = list(pool.map(drain, range(2)))
    # A courier stops when nothing is due just then, though its fellow's last ones may each have a successor.
    drained.append(drain(0))
    for n in range(12):
        by_courier = [[seq for job_id, seq in mine if job_id == f"job-{n}"] for mine in drained]
        assert all(seqs == sorted(seqs) for seqs in by_courier)
        assert sorted(seq for seqs in by_courier for seq in seqs) == [1, 2, 3]
    assert all(statuses(store, f"job-{n}") == [DeliveryStatus.DELIVERED] * 3 for n in range(12))


def test_an_event_added_while_the_last_delivery_ends_is_not_stranded(open_store, store, make_request):
    """A delivery that ends must see the event that is being added, or neither would make that one due."""
    courier = open_store()
    store.submit(make_request(), max_queued=None)
    claim = store.claim("runner")
    store.announce(claim, Stage.DOWNLOADED)
    first = claim_one(courier)
    ending = []
    with ThreadPoolExecutor(1) as pool:

        def end_delivery_before_commit(_connection):
            if not ending:
                ending.append(pool.submit(courier.record_delivered, first, status_code=200))
                with pytest.raises(TimeoutError):
                    ending[0].result(timeout=0.3)  # it waits for this transaction

        event.listen(store._db._engine, "commit", end_delivery_before_commit)
        store.announce(claim, Stage.DETECTING_SPEECH)
        assert ending[0].result(timeout=30.0) is True
    assert claim_one(courier).seq == 2


def test_a_refused_commit_tells_nobody(open_store, store, make_request, clock):
    store.submit(make_request(), max_queued=None)
    stale = store.claim("runner")
    clock.advance(15.0)
    open_store().claim("another")
    with pytest.raises(LeaseLost):
        store.commit_step(stale, "fetch", 1, seconds=1, announce=[Stage.DOWNLOADED])
    assert store.events("job-1") == []
    assert store.claim_deliveries("courier", 10) == []
