"""Jobs of visitors: who may see them, quotas, other kinds and languages, and the secret that replicas share."""

from __future__ import annotations

import threading

import pytest

from serve_app.errors import JobConflict, JobNotFound, QuotaExceeded
from serve_app.jobs.record import JobStatus, MusicRequest, Visitor
from serve_app.jobs.store import Quota
from serve_app.messages import Locale, MusicStage

ANNA, BEN = Visitor("anna"), Visitor("ben")
CURL = Visitor("curl", is_known=False)
QUOTA = Quota(active=2, per_hour=4)


def piece(job_id="m", **fields):
    return MusicRequest(job_id=job_id, image_url="https://example.com/a.jpg", **fields)


def order(store, job_id, visitor, quota=QUOTA):
    return store.submit(piece(job_id), max_queued=None, visitor=visitor, quota=quota)


def finish(store):
    store.complete(store.claim("r"), {})


def may_see(store, job_id, visitor):
    try:
        store.require_visible(job_id, visitor)
    except JobNotFound:
        return False
    return True


def test_a_known_visitors_job_is_its_own(store):
    order(store, "m", ANNA)
    assert [may_see(store, "m", visitor) for visitor in ("anna", "ben", None)] == [True, False, False]


def test_a_job_of_a_client_without_cookies_is_read_by_its_id(store):
    order(store, "m", CURL)
    assert [may_see(store, "m", visitor) for visitor in ("curl", None, "ben")] == [True, True, False]


def test_a_video_job_is_nobodys(store, make_request):
    store.submit(make_request(), max_queued=None)
    assert may_see(store, "job-1", None)
    assert may_see(store, "job-1", "anna")
    assert not may_see(store, "unknown", None)


def test_the_lists_hold_what_the_visitor_may_see(store, make_request):
    store.submit(make_request(), max_queued=None)
    order(store, "a", ANNA)
    order(store, "b", BEN)
    order(store, "c", CURL)

    def ids(*args, **options):
        return [job.job_id for job in store.page(None, 10, None, *args, **options).jobs]

    assert ids("anna", only_own=True) == ["a"]
    assert ids("anna") == ["a", "job-1"]
    assert ids("curl") == ["c", "job-1"]
    assert ids() == ["job-1"]  # the id of "c" is all that keeps it from strangers


def test_another_visitors_id_is_taken_and_tells_nothing(store):
    order(store, "m", ANNA)
    with pytest.raises(JobConflict, match="another request; choose another job_id"):
        order(store, "m", BEN)
    assert order(store, "m", ANNA).job_id == "m"


def test_a_client_without_cookies_may_repeat_its_request(store):
    order(store, "m", CURL)
    # its next request has no cookie either, and is given another one
    assert order(store, "m", Visitor("curl again", is_known=False)).visitor == "curl"


def test_too_many_in_work(store):
    order(store, "a", ANNA)
    order(store, "b", ANNA)
    with pytest.raises(QuotaExceeded, match="You have 2 pieces in work, and 2 are allowed at once") as refused:
        order(store, "c", ANNA)
    assert refused.value.retry_after_s > 0
    assert order(store, "a", ANNA).job_id == "a"  # the same again is no new piece
    order(store, "b1", BEN)
    finish(store)
    order(store, "c", ANNA)


def test_too_many_within_an_hour_also_where_they_were_deleted(store, clock):
    for job_id in "abcd":
        order(store, job_id, ANNA)
        finish(store)
        store.delete(job_id)
        clock.advance(60)
    with pytest.raises(QuotaExceeded, match=r"ordered 4 pieces within an hour.* try again in 56 min") as refused:
        order(store, "e", ANNA)
    assert refused.value.retry_after_s == 3600 - 4 * 60
    order(store, "ben", BEN)
    clock.advance(3600 - 4 * 60 + 1)
    order(store, "e", ANNA)


def test_visitors_at_once_do_not_pass_their_quota(open_store):
    stores = [open_store() for _ in range(6)]
    start = threading.Barrier(len(stores))
    refused = []

    def submit(number):
        start.wait()
        try:
            order(stores[number], f"m{number}", ANNA)
        except QuotaExceeded:
            refused.append(number)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == len(stores) - QUOTA.active


def test_a_jobs_language_and_kind_choose_its_messages(store):
    store.submit(piece(locale=Locale.EN), max_queued=None)
    assert store.get("m").message == "Queued"
    claim = store.claim("r")
    assert claim.job.message == "The music is being made"
    store.announce(claim, MusicStage.COMPOSING, MusicStage.COMPOSING + 7)
    assert (store.get("m").progress, store.get("m").message) == (37, "Making the music...")
    store.complete(claim, {"duration": 30.0})
    sent = [(event.payload.get("progress"), event.payload["message"]) for event in store.events("m")]
    assert sent == [(30, "Making the music..."), (37, "Making the music..."), (100, "The music is ready")]


def test_a_job_in_korean_by_default(store):
    store.submit(piece(), max_queued=None)
    store.cancel("m")
    assert store.get("m").message == "작업이 취소되었습니다"


def test_the_estimate_is_that_of_the_kind(store, clock, make_request):
    for request, seconds in ((make_request("v"), 100.0), (piece("m"), 4.0)):
        store.submit(request, max_queued=None)
        claim = store.claim("r")
        clock.advance(seconds)
        store.complete(claim, {})
    store.submit(make_request("v2"), max_queued=None)
    store.claim("r")
    store.submit(make_request("v3"), max_queued=None)
    store.submit(piece("m2"), max_queued=None)
    assert store.estimate_s("v2") == pytest.approx(100.0)
    assert store.estimate_s("v3") == pytest.approx(100.0 + 100.0)
    assert store.estimate_s("m2") == pytest.approx(100.0 + 100.0 + 4.0)


def test_the_secret_is_one_for_all_and_stays(open_store):
    first, second = open_store(), open_store()
    secret = first.secret("visitors")
    assert len(secret) >= 32
    assert second.secret("visitors") == secret != second.secret("other")


def test_a_deleted_job_frees_its_id(store):
    order(store, "m", ANNA)
    finish(store)
    assert store.get("m").status == JobStatus.COMPLETED
    store.delete("m")
    assert order(store, "m", BEN).visitor == "ben"
