"""Estimates over the job table: what is measured, what is known of a job when, the queue before it, and the cost."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import event

from serve_app.errors import LeaseLost
from serve_app.jobs.record import JobStatus, MusicRequest
from serve_app.messages import MusicStage, Stage

# seconds from each mark to the next, for a minute of sound with half a minute of speech
STAGES = {0: 1.0, Stage.DOWNLOADED: 1.0, Stage.DETECTING_SPEECH: 1.0, Stage.TRANSCRIBING: 5.0, Stage.MERGING: 2.0}
MINUTE_S = sum(STAGES.values())


def run(store, clock, make_request, job_id, *, minutes=1.0, times=1.0, **options):
    """Bring a job to its end as a runner does, with stages in proportion to its length."""
    store.submit(make_request(job_id, **options), max_queued=None)
    claim = store.claim("runner")
    for mark, following in zip([0, *Stage][:-1], Stage, strict=True):
        if mark == Stage.DIARIZING:
            store.note_sound(claim, 60.0 * minutes, 30.0 * minutes)
        clock.advance(STAGES.get(mark, 0.0) * minutes * times)
        if following < Stage.COMPLETED:
            store.announce(claim, following)
    store.complete(claim, {"text": ""})


def learn(store, clock, make_request):
    for number, minutes in enumerate((1.0, 4.0, 0.5, 10.0)):
        run(store, clock, make_request, f"past-{number}", minutes=minutes)


def test_a_job_is_followed_from_its_submission_to_its_end(store, clock, make_request):
    assert store.submit(make_request("first"), max_queued=None).length_s is None
    assert store.estimate_s("first") is None
    run_first = store.claim("runner")
    clock.advance(1.0)
    store.complete(run_first, {})
    learn(store, clock, make_request)

    store.submit(make_request("now"), max_queued=None)
    assert store.estimate_s("now") == pytest.approx(2.5 * MINUTE_S, rel=0.7)  # the usual length
    claim = store.claim("runner")
    store.note_sound(claim, 120.0)
    store.announce(claim, Stage.DOWNLOADED)
    assert store.estimate_s("now") == pytest.approx(2 * (MINUTE_S - 1.0), rel=0.01)
    clock.advance(1.5)
    assert store.estimate_s("now") == pytest.approx(2 * (MINUTE_S - 1.0) - 1.5, rel=0.01)
    store.announce(claim, Stage.DETECTING_SPEECH, Stage.DIARIZING, Stage.TRANSCRIBING)
    assert store.estimate_s("now") == pytest.approx(2 * 7.0, rel=0.01)
    store.advance(claim, 70)
    assert store.estimate_s("now") == pytest.approx(2 * (5.0 / 3 + 2.0), rel=0.01)
    clock.advance(1000.0)
    assert store.estimate_s("now") == pytest.approx(2 * 2.0, rel=0.01)
    assert store.estimates_s([store.get("now")]) == {"now": store.estimate_s("now")}
    store.complete(claim, {})
    assert store.estimate_s("now") == 0.0
    assert store.estimates_s([store.get("now")]) == {}


def test_lengths_from_ten_seconds_to_half_an_hour_are_within_the_goal(store, clock, make_request):
    rng = random.Random(7)
    for number in range(20):
        minutes = 10 ** rng.uniform(-0.78, 1.48)
        run(store, clock, make_request, f"past-{number}", minutes=minutes, times=rng.gauss(1.0, 0.1))
    near = 0
    for number in range(10):
        minutes = 10 ** rng.uniform(-0.78, 1.48)
        store.submit(make_request(f"now-{number}"), max_queued=None)
        claim = store.claim("runner")
        store.note_sound(claim, 60.0 * minutes)
        store.announce(claim, Stage.DOWNLOADED)
        near += abs(store.estimate_s(f"now-{number}") / (minutes * (MINUTE_S - 1.0)) - 1) <= 0.3
        store.fail(claim, "PROCESSING_ERROR", "-", retry_after_s=None)
    assert near >= 8


def test_progress_within_a_stage_is_shown_but_no_event(store, clock, make_request):
    store.submit(make_request("a"), max_queued=None)
    claim = store.claim("runner")
    store.announce(claim, Stage.DOWNLOADED, Stage.DETECTING_SPEECH, Stage.DIARIZING, Stage.TRANSCRIBING)
    clock.advance(5.0)
    for percent in (64, 70, 66, 70):
        store.advance(claim, percent)
    job = store.get("a")
    assert (job.progress, job.message, job.progress_at) == (70, "음성을 텍스트로 변환 중...", clock.now_s)
    store.announce(claim, Stage.TRANSCRIBING)  # of a branch that is behind
    assert store.get("a").progress == 70
    store.announce(claim, Stage.RECOGNIZING_EMOTION, Stage.MERGING)
    store.complete(claim, {"text": ""})
    sent = [event.payload["progress"] for event in store.events("a")]
    assert sent == [*Stage]
    with pytest.raises(LeaseLost):
        store.advance(claim, 99)


def test_a_lost_claim_stores_nothing(store, clock, make_request):
    store.submit(make_request("a"), max_queued=None)
    stale = store.claim("stale")
    clock.advance(1000.0)
    store.claim("heir")
    for write in (lambda: store.advance(stale, 5), lambda: store.note_sound(stale, 60.0)):
        with pytest.raises(LeaseLost):
            write()
    assert (store.get("a").progress, store.get("a").length_s) == (0, None)


def test_a_job_that_is_tried_again_is_estimated_from_where_it_is_and_not_measured(store, clock, make_request):
    learn(store, clock, make_request)
    store.submit(make_request("again"), max_queued=None)
    claim = store.claim("runner")
    store.note_sound(claim, 60.0)
    store.announce(claim, Stage.DOWNLOADED)
    store.fail(claim, "PROCESSING_ERROR", "-", retry_after_s=100.0)
    assert store.estimate_s("again") == pytest.approx(100.0 + MINUTE_S - 1.0, rel=0.01)
    clock.advance(100.0)
    claim = store.claim("runner")
    assert store.estimate_s("again") == pytest.approx(MINUTE_S - 1.0, rel=0.01)
    clock.advance(5000.0)
    store.complete(claim, {})
    run(store, clock, make_request, "last")
    store.submit(make_request("now"), max_queued=None)
    assert store.estimate_s("now") < 10 * MINUTE_S


def test_options_that_change_the_speed_are_told_apart(store, clock, make_request):
    for number in range(4):
        run(store, clock, make_request, f"en-{number}", language="en")
        run(store, clock, make_request, f"ko-{number}", language="ko", times=3.0)
    store.submit(make_request("en", language="en"), max_queued=None)
    store.submit(make_request("ko", language="ko"), max_queued=None)
    en = store.claim("runner").job
    ko = store.claim("runner").job
    told = store.estimates_s([en, ko])
    assert told["en"] == pytest.approx(MINUTE_S, rel=0.01)
    assert told["ko"] == pytest.approx(3 * MINUTE_S, rel=0.01)


def test_the_queue_before_a_job(store, clock, make_request):
    learn(store, clock, make_request)
    store.note_runner("runner", 1, 30.0)
    for number in range(3):
        store.submit(make_request(f"now-{number}"), max_queued=None)
    own_s = store.estimate_s("now-0")
    assert store.estimate_s("now-1") == pytest.approx(2 * own_s)  # the free place is for the one before
    claim = store.claim("runner")
    store.note_sound(claim, 60.0)
    assert store.estimate_s("now-1") == pytest.approx(MINUTE_S + own_s, rel=0.01)
    assert store.estimate_s("now-2") == pytest.approx(MINUTE_S + 2 * own_s, rel=0.01)
    clock.advance(1.0)
    assert store.estimate_s("now-2") == pytest.approx(MINUTE_S - 1.0 + 2 * own_s, rel=0.01)
    store.note_runner("second", 2, 30.0)
    assert store.estimate_s("now-2") == pytest.approx(own_s)
    clock.advance(31.0)  # both runners are taken for dead; the job in work shows one place
    assert store.estimate_s("now-1") > own_s
    store.note_runner("second", 2, 30.0)
    store.note_runner("second", 2, 0.0)
    assert store.estimate_s("now-1") > own_s


def test_music_has_its_length_in_the_request(store, clock):
    def piece(job_id, duration_s):
        return MusicRequest(job_id=job_id, image_url="https://example.com/a.jpg", duration_s=duration_s)

    for number, duration_s in enumerate((10.0, 30.0, 60.0)):
        store.submit(piece(f"past-{number}", duration_s), max_queued=None)
        claim = store.claim("runner")
        for mark in MusicStage:
            clock.advance(1.0 if mark != MusicStage.MASTERING else duration_s)
            if mark < MusicStage.COMPLETED:
                store.announce(claim, mark)
            if mark == MusicStage.COMPOSING:
                store.announce(claim, mark + 7)  # an engine tells its progress
        store.complete(claim, {})
    store.submit(piece("now", 120.0), max_queued=None)
    assert store.estimate_s("now") == pytest.approx(7.0 + 120.0, rel=0.05)


def test_speeds_are_read_seldom_and_however_many_jobs_there_were_in_few_rows(store, clock, make_request):
    for number in range(62):
        run(store, clock, make_request, f"past-{number}")
    store.submit(make_request("now"), max_queued=None)
    statements, num_rows = [], []
    engine = store._db._engine

    @event.listens_for(engine, "after_cursor_execute")
    def count(connection, cursor, statement, *_):
        statements.append(statement)
        if "job_events" in statement:
            num_rows.append(statement.count("?") + statement.count("%("))

    store._measured.clear()
    store.estimate_s("now")
    assert any("job_events" in statement for statement in statements)
    assert num_rows[0] < 100
    statements.clear()
    for _ in range(3):
        store.estimate_s("now")
    assert not any("job_events" in statement for statement in statements)
    run(store, clock, make_request, "next")  # takes "now", for longer than speeds are kept
    assert store.get("now").status is JobStatus.COMPLETED
    statements.clear()
    store.estimate_s("next")
    assert any("job_events" in statement for statement in statements)
