"""Rows of a newer version, and damaged ones: they stop no other job, and say what they are."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import update

from serve_app.jobs.record import JobStatus, UnreadableRequest, VideoRequest
from serve_app.jobs.store import JobStore
from serve_app.jobs.tables import jobs
from tests.job_tables import make_job_table

DAMAGED = [
    {"kind": "video", "request": '{"job_id": "bad"}'},  # without what the kind needs
    {"kind": "video", "request": '{"job_id": "ba'},
    {"kind": "video", "request": "[]"},
    {"kind": "video", "request": '{"job_id": "bad", "video_url": "x", "locale": "tlh"}'},
    {"kind": "hologram", "request": '{"job_id": "bad", "depth": 3, "callback_base": "https://b.example"}'},
]


def request(job_id: str) -> VideoRequest:
    return VideoRequest(job_id=job_id, video_url="https://example.com/a.mp4")


@pytest.fixture
def store() -> JobStore:
    store, _ = make_job_table()
    for job_id in ("bad", "good"):
        store.submit(request(job_id), max_queued=None)
    return store


def change(store: JobStore, **values: str) -> None:
    with store._db.write() as (connection, _now):
        connection.execute(update(jobs).where(jobs.c.job_id == "bad").values(**values))


def test_fields_of_a_newer_version_are_left_out(store: JobStore) -> None:
    stored = {"job_id": "bad", "video_url": "https://example.com/a.mp4", "from_the_future": {"x": [1]}}
    change(store, request=json.dumps(stored))
    claim = store.claim("r")
    assert claim is not None
    assert claim.job.request == request("bad")


@pytest.mark.parametrize("row", DAMAGED)
def test_the_others_go_on_and_the_row_says_what_it_is(
    store: JobStore, row: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    change(store, **row)
    for expected in ("good", None, None):
        claim = store.claim("r")
        assert (claim and claim.job.job_id) == expected
    assert caplog.text.count("job bad: this version can't read its request") == 1
    shown = {job.job_id: job for job in store.page(None, 10, None).jobs}
    assert shown["good"].request == request("good")
    for bad in (shown["bad"], store.get("bad")):
        assert isinstance(bad.request, UnreadableRequest)
        assert "can't read the job" in bad.message
        assert bad.status == JobStatus.QUEUED
    assert store.cancel("bad").status == JobStatus.CANCELLED
    store.delete("bad")


def test_a_runner_that_can_read_it_takes_it(store: JobStore) -> None:
    """The others are runners of the version that stored it, during an update."""
    with store._db.read() as connection:
        kept = connection.execute(jobs.select().where(jobs.c.job_id == "bad")).one().request
    change(store, kind="hologram")
    assert store.claim("old").job.job_id == "good"  # type: ignore[union-attr]
    change(store, kind="video", request=kept)
    assert store.claim("old") is None
    newer = JobStore(str(store._db._engine.url))
    assert newer.claim("new").job.job_id == "bad"  # type: ignore[union-attr]
    newer.close()


def test_one_whose_runner_died_is_no_head_of_the_queue_either(store: JobStore) -> None:
    now = 1_800_000_000.0
    old, url = make_job_table(clock=lambda: now)
    old.submit(request("bad"), max_queued=None)
    assert old.claim("r") is not None
    old.submit(request("good"), max_queued=None)
    change(old, kind="hologram")
    now += 100.0
    other = JobStore(url, clock=lambda: now)
    claim = other.claim("s")
    assert claim is not None
    assert claim.job.job_id == "good"
    other.close()
