"""How our values are shown, where the routes' tests do not reach."""

from __future__ import annotations

import dataclasses

import pytest

from serve_app.api.video import answers as views
from serve_app.jobs.record import Job, JobStatus, VideoRequest
from serve_app.messages import Locale
from serve_app.services import SubmittedJob

JOB = Job(
    VideoRequest(job_id="a", video_url="v"), JobStatus.PROCESSING, 40, "화자 식별 중...", created_at=0.0, started_at=1.0
)


@pytest.mark.parametrize(
    ("posix_s", "text"),
    [(0.0, "1970-01-01T00:00:00Z"), (1705314600.0, "2024-01-15T10:30:00Z"), (1705314600.999, "2024-01-15T10:30:00Z")],
)
def test_timestamps_are_utc_in_whole_seconds(posix_s: float, text: str) -> None:
    assert views.timestamp(posix_s) == text


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (JobStatus.QUEUED, "processing"),
        (JobStatus.PROCESSING, "processing"),
        (JobStatus.COMPLETED, "completed"),
        (JobStatus.FAILED, "failed"),
        (JobStatus.CANCELLED, "cancelled"),
    ],
)
def test_statuses(status: JobStatus, shown: str) -> None:
    assert views.shown_status(status) == shown


def test_a_job_to_be_tried_again_does_not_look_ended() -> None:
    """Released at a failed attempt: times of that attempt are on record, and mean nothing to a client yet."""
    job = dataclasses.replace(JOB, status=JobStatus.QUEUED, completed_at=5.0, error_code="DOWNLOAD_ERROR")
    shown = views.view_job(job, queue_position=3).model_dump(exclude_unset=True)
    assert shown == {
        "status": "processing",
        "job_id": "a",
        "progress": 40,
        "message": "화자 식별 중...",
        "created_at": "1970-01-01T00:00:00Z",
        "queue_position": 3,
    }


def test_a_view_leaves_the_result_to_its_stored_text() -> None:
    done = dataclasses.replace(JOB, status=JobStatus.COMPLETED, completed_at=2.0, result_text='{"text": "all"}')
    assert "result" not in views.view_job(done).model_dump(exclude_unset=True)


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_an_ended_video_job_submitted_again_is_processing_as_in_the_contract(status: JobStatus) -> None:
    job = dataclasses.replace(JOB, status=status, completed_at=2.0, message="how it ended")
    shown = views.view_submitted(SubmittedJob(job, 50.0), Locale.KO, "/")
    assert (shown.status, shown.message, shown.estimated_time) == ("processing", "비디오 처리가 시작되었습니다", 0)
    assert shown.status_url == "/jobs/a"
