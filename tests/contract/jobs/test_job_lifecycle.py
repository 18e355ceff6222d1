"""One runner: steps, progress, ends, retries, cancelling."""

from __future__ import annotations

import pytest

from serve_app.errors import JobConflict, LeaseLost
from serve_app.jobs.record import JobStatus
from serve_app.messages import Stage

CALLBACK_FIELDS = {"job_id", "status", "progress", "message", "result", "error_message", "error_code"}


@pytest.fixture
def claim(store, make_request):
    store.submit(make_request(), max_queued=None)
    return store.claim("runner")


def payloads(store, job_id="job-1"):
    return [event.payload for event in store.events(job_id)]


def test_a_claim_starts_a_job(store, make_request, clock):
    store.submit(make_request(), max_queued=None)
    clock.advance(7.0)
    claim = store.claim("runner")
    assert claim.owner == "runner"
    assert claim.job == store.get("job-1")
    assert claim.job.status == JobStatus.PROCESSING
    assert claim.job.started_at == clock.now_s
    assert claim.job.message == "비디오 처리가 시작되었습니다"


def test_the_whole_contract_in_order(store, claim, clock):
    store.commit_step(claim, "fetch", {"url": "file"}, seconds=1.0, announce=[Stage.DOWNLOADED])
    store.announce(claim, Stage.DETECTING_SPEECH)
    store.commit_step(claim, "vad", [], seconds=1.0, announce=[Stage.DIARIZING, Stage.TRANSCRIBING])
    store.announce(claim, Stage.RECOGNIZING_EMOTION, Stage.MERGING)
    clock.advance(45.0)
    store.complete(claim, {"text": "안녕하세요", "segments": []})

    def processing(progress, message):
        return {"job_id": "job-1", "status": "processing", "progress": progress, "message": message}

    assert payloads(store) == [
        processing(10, "비디오 다운로드 완료"),
        processing(25, "음성 구간 감지 중..."),
        processing(40, "화자 식별 중..."),
        processing(60, "음성을 텍스트로 변환 중..."),
        processing(75, "감정 분석 중..."),
        processing(90, "결과 정리 중..."),
        {
            "job_id": "job-1",
            "status": "completed",
            "progress": 100,
            "message": "분석 완료",
            "result": {"text": "안녕하세요", "segments": []},
        },
    ]
    assert [event.seq for event in store.events("job-1")] == [1, 2, 3, 4, 5, 6, 7]
    job = store.get("job-1")
    assert (job.status, job.progress, job.message) == (JobStatus.COMPLETED, 100, "분석 완료")
    assert job.result == {"text": "안녕하세요", "segments": []}
    assert job.processing_s == 45.0


def test_step_results_are_kept_until_the_end_and_their_seconds_longer(store, claim, clock):
    store.commit_step(claim, "fetch", {"url": "file"}, seconds=1.5)
    clock.advance(1)
    store.commit_step(claim, "nothing", None, seconds=0.5)
    assert store.steps("job-1") == {"fetch": {"url": "file"}, "nothing": None}
    store.complete(claim, {})
    assert store.steps("job-1") == {}
    assert store.step_seconds("job-1") == {"fetch": 1.5, "nothing": 0.5}


def test_a_step_committed_again_changes_nothing(store, claim):
    store.commit_step(claim, "fetch", "first", seconds=1.0, announce=[Stage.DOWNLOADED])
    store.commit_step(claim, "fetch", "second", seconds=2.0, announce=[Stage.DOWNLOADED])
    assert store.steps("job-1") == {"fetch": "first"}
    assert len(store.events("job-1")) == 1


def test_progress_never_goes_down_nor_repeats(store, claim):
    store.announce(claim, Stage.TRANSCRIBING)
    store.announce(claim, Stage.DIARIZING)  # the other branch, late
    store.announce(claim, Stage.TRANSCRIBING)
    store.announce(claim, Stage.MERGING, Stage.RECOGNIZING_EMOTION)  # in one call: in order
    assert [payload["progress"] for payload in payloads(store)] == [60, 75, 90]
    assert store.get("job-1").progress == 90


def test_only_the_end_announces_the_end(store, claim):
    with pytest.raises(ValueError, match="complete"):
        store.commit_step(claim, "step", 1, seconds=0, announce=[Stage.MERGING, Stage.COMPLETED])
    assert store.steps("job-1") == {}  # all or nothing
    assert store.events("job-1") == []


def test_a_result_that_json_cannot_hold_is_refused_before_anything_is_written(store, claim):
    with pytest.raises(ValueError, match="JSON"):
        store.complete(claim, {"confidence": float("nan")})
    assert store.get("job-1").status == JobStatus.PROCESSING


def test_a_failure_for_good(store, claim):
    job = store.fail(claim, "DOWNLOAD_ERROR", "비디오 파일을 다운로드할 수 없습니다: 404 Not Found", retry_after_s=None)
    assert job == store.get("job-1")
    assert (job.status, job.error_code, job.attempts) == (JobStatus.FAILED, "DOWNLOAD_ERROR", 1)
    assert payloads(store) == [
        {
            "job_id": "job-1",
            "status": "failed",
            "error_message": "비디오 파일을 다운로드할 수 없습니다: 404 Not Found",
            "error_code": "DOWNLOAD_ERROR",
        }
    ]


def test_a_failure_that_may_pass_is_tried_again_later_with_its_steps(store, claim, clock):
    store.commit_step(claim, "fetch", "kept", seconds=1.0, announce=[Stage.DOWNLOADED])
    job = store.fail(claim, "PROCESSING_ERROR", "passing", retry_after_s=8.0)
    assert (job.status, job.attempts, job.progress, job.error_code) == (JobStatus.QUEUED, 1, 10, None)
    clock.advance(7.9)
    assert store.claim("runner") is None
    clock.advance(0.1)
    second = store.claim("runner")
    assert second.fence > claim.fence
    assert second.job.attempts == 1
    assert store.steps("job-1") == {"fetch": "kept"}
    assert len(store.events("job-1")) == 1  # nothing tells the client


def test_attempts_run_out(store, claim, clock):
    for attempt in (1, 2):
        assert store.fail(claim, "PROCESSING_ERROR", "again", retry_after_s=1.0).attempts == attempt
        clock.advance(1.0)
        claim = store.claim("runner")
    assert store.fail(claim, "PROCESSING_ERROR", "third", retry_after_s=1.0).status == JobStatus.FAILED
    assert [payload["error_message"] for payload in payloads(store)] == ["third"]
    assert store.claim("runner") is None


def test_a_waiting_retry_lets_others_pass(store, claim, make_request, clock):
    store.submit(make_request("other"), max_queued=None)
    store.fail(claim, "PROCESSING_ERROR", "again", retry_after_s=60.0)
    assert store.claim("runner").job.job_id == "other"


def test_releasing_costs_nothing(store, claim, make_request):
    store.submit(make_request("other"), max_queued=None)
    store.commit_step(claim, "fetch", "kept", seconds=1.0, announce=[Stage.DOWNLOADED])
    job = store.release(claim)
    assert (job.status, job.attempts, job.progress) == (JobStatus.QUEUED, 0, 10)
    again = store.claim("another runner")
    assert again.job.job_id == "job-1"  # it keeps its place
    assert again.job.message == "비디오 다운로드 완료"


def test_a_queued_job_is_cancelled_at_once(store, make_request):
    store.submit(make_request(), max_queued=None)
    job = store.cancel("job-1")
    assert job.status == JobStatus.CANCELLED
    assert payloads(store) == [{"job_id": "job-1", "status": "cancelled", "message": "작업이 취소되었습니다"}]
    assert store.claim("runner") is None
    assert store.cancel("job-1") == job  # asking again is harmless
    assert len(store.events("job-1")) == 1


def test_a_running_job_is_asked_to_end(store, claim):
    assert store.renew(claim) is False
    job = store.cancel("job-1")
    assert (job.status, job.cancel_requested) == (JobStatus.PROCESSING, True)
    assert store.renew(claim) is True
    assert store.finish_cancel(claim).status == JobStatus.CANCELLED
    assert [payload["status"] for payload in payloads(store)] == ["cancelled"]


def test_a_shutdown_is_no_cancellation(store, claim):
    with pytest.raises(JobConflict, match="release"):
        store.finish_cancel(claim)
    assert store.get("job-1").status == JobStatus.PROCESSING


@pytest.mark.parametrize("handed_back", ["release", "fail"])
def test_a_job_handed_back_after_its_end_was_asked_for_ends(store, claim, handed_back):
    store.cancel("job-1")
    if handed_back == "release":
        job = store.release(claim)
    else:
        job = store.fail(claim, "PROCESSING_ERROR", "again", retry_after_s=1.0)
    assert job.status == JobStatus.CANCELLED
    assert [payload["status"] for payload in payloads(store)] == ["cancelled"]


def test_a_cancellation_that_comes_too_late_loses(store, claim):
    store.cancel("job-1")
    assert store.complete(claim, {"text": "done"}).status == JobStatus.COMPLETED
    with pytest.raises(JobConflict, match="completed"):
        store.cancel("job-1")
    with pytest.raises(LeaseLost):
        store.finish_cancel(claim)
    assert [payload["status"] for payload in payloads(store)] == ["completed"]


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
def test_an_ended_job_stays_as_it_is(store, claim, end):
    if end == "complete":
        store.complete(claim, {"text": "done"})
    elif end == "fail":
        store.fail(claim, "PROCESSING_ERROR", "bad", retry_after_s=None)
    else:
        store.cancel("job-1")
        store.finish_cancel(claim)
    before = store.get("job-1")
    for write in (
        lambda: store.renew(claim),
        lambda: store.announce(claim, Stage.MERGING),
        lambda: store.commit_step(claim, "late", 1, seconds=0),
        lambda: store.complete(claim, {}),
        lambda: store.fail(claim, "PROCESSING_ERROR", "bad", retry_after_s=1.0),
        lambda: store.release(claim),
        lambda: store.finish_cancel(claim),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert store.get("job-1") == before
    assert len(store.events("job-1")) == 1


def test_payloads_have_the_contracts_fields_and_never_null(store, make_request, clock):
    for job_id in ("completed", "failed", "cancelled"):
        store.submit(make_request(job_id), max_queued=None)
        claim = store.claim("runner")
        store.announce(claim, Stage.DOWNLOADED)
        if job_id == "completed":
            store.complete(claim, {"text": ""})
        elif job_id == "failed":
            store.fail(claim, "PROCESSING_ERROR", "bad", retry_after_s=None)
        else:
            store.cancel(job_id)
            store.finish_cancel(claim)
        for payload in payloads(store, job_id):
            assert set(payload) <= CALLBACK_FIELDS
            assert None not in payload.values()
            assert payload["job_id"] == job_id
        assert payloads(store, job_id)[-1]["status"] == job_id


def test_text_that_a_database_would_refuse(store, claim):
    store.commit_step(claim, "odd", "nul \x00 half \ud800", seconds=0)
    assert store.steps("job-1") == {"odd": "nul \x00 half ?"}
    store.fail(claim, "PROCESSING_ERROR", "nul \x00 half \ud800", retry_after_s=None)
    assert store.get("job-1").error_message == "nul  half ?"
