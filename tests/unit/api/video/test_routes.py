"""The video job routes, against the contract's tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from serve_app import errors
from serve_app.api.video import answers as views
from serve_app.jobs.record import VideoRequest
from serve_app.messages import JobKind, Locale, Stage, accepted_message, error_message
from tests.unit.api.conftest import in_korean
from tests.unit.api.memory_services import RESULT, JobsOnTable

SUBMIT = "/api/upload-video/process-video"
BODY = {
    "job_id": "550e8400-e29b-41d4-a716-446655440000",
    "video_url": "https://s3.amazonaws.com/bucket/video.mp4",
    "fastapi_base_url": "https://backend.example",
    "enable_gpu": True,
    "emotion_detection": True,
    "language": "ko",
    "max_workers": 4,
}


def submit(client: TestClient, job_id: str = "job-1", **fields: Any) -> Any:
    return client.post(SUBMIT, json={"job_id": job_id, "video_url": "https://example.org/v.mp4", **fields})


class TestSubmit:
    @in_korean
    def test_answers_exactly_as_the_contract(self, client: TestClient) -> None:
        answer = client.post(SUBMIT, json=BODY)
        assert answer.status_code == 200
        job_id = BODY["job_id"]
        # the raw text: order of fields, and Korean that is not escaped
        assert answer.text == (
            f'{{"job_id":"{job_id}","status":"processing","message":"비디오 처리가 시작되었습니다",'
            f'"status_url":"/jobs/{job_id}","estimated_time":300}}'
        )

    def test_stores_every_field(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client, **{**BODY, "enable_gpu": False, "min_speakers": 1, "max_speakers": 3, "num_speakers": 2})
        assert [job.request for job in jobs.jobs.values()] == [
            VideoRequest(
                job_id=BODY["job_id"],
                video_url=BODY["video_url"],
                callback_base="https://backend.example",
                enable_gpu=False,
                emotion_detection=True,
                language="ko",
                max_workers=4,
                num_speakers=2,
                min_speakers=1,
                max_speakers=3,
            )
        ]

    def test_defaults_are_the_contracts(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client)
        assert jobs.jobs["job-1"].request == VideoRequest(job_id="job-1", video_url="https://example.org/v.mp4")

    def test_backend_url_is_the_default_callback_base(
        self, client_with: Callable[..., TestClient], jobs: JobsOnTable
    ) -> None:
        client = client_with(backend_url="https://default.example")
        submit(client, "a")
        submit(client, "b", fastapi_base_url="https://own.example/")
        submit(client, "c", fastapi_base_url="")
        bases = {job_id: job.request.callback for job_id, job in jobs.jobs.items()}
        assert bases == {"a": "https://default.example", "b": "https://own.example", "c": "https://default.example"}

    def test_english_by_setting(self, client_with: Callable[..., TestClient]) -> None:
        assert submit(client_with(locale=Locale.EN)).json()["message"] == accepted_message(JobKind.VIDEO, Locale.EN)

    @pytest.mark.parametrize(
        ("estimated_s", "shown"), [(None, 300), (41.2, 42), (0.01, 1), (0.0, 1), (float("inf"), 300), (7200.0, 7200)]
    )
    def test_estimate_is_whole_seconds(
        self, client: TestClient, jobs: JobsOnTable, estimated_s: float | None, shown: int
    ) -> None:
        jobs.estimated_s = estimated_s
        assert submit(client).json()["estimated_time"] == shown

    @in_korean
    def test_same_request_again_is_processing_as_in_the_contract(self, client: TestClient, jobs: JobsOnTable) -> None:
        assert submit(client).json()["status"] == "processing"
        jobs.run_start("job-1")
        jobs.run_complete("job-1", RESULT)
        again = submit(client)
        assert again.status_code == 200
        assert again.json() == {
            "job_id": "job-1",
            "status": "processing",
            "message": "비디오 처리가 시작되었습니다",
            "status_url": "/jobs/job-1",
            "estimated_time": 0,
        }
        assert len(jobs.jobs) == 1

    def test_same_id_with_another_request_conflicts(self, client: TestClient) -> None:
        submit(client)
        answer = submit(client, language="en")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "JOB_CONFLICT"
        assert answer.json()["detail"] == "Job job-1 was submitted before with another request; choose another job_id"

    def test_another_audio_track_is_another_request(self, client: TestClient, jobs: JobsOnTable) -> None:
        assert submit(client, audio_track=1).status_code == submit(client, audio_track=1).status_code == 200
        assert cast(VideoRequest, jobs.jobs["job-1"].request).audio_track == 1
        for other in ({"audio_track": 0}, {}):
            assert submit(client, **other).status_code == 409
        assert submit(client, "job-2", audio_track=-1).status_code == 422

    def test_full_queue_tells_when_to_come_back(self, client: TestClient) -> None:
        for number in range(3):
            assert submit(client, f"job-{number}").status_code == 200
        answer = submit(client, "one-too-many")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert answer.json()["error"]["code"] == "OVERLOADED"

    def test_refused_callback_base_names_the_field(self, client: TestClient, jobs: JobsOnTable) -> None:
        answer = submit(client, fastapi_base_url="http://private.example")
        assert answer.status_code == 422
        assert answer.json()["detail"] == [
            {
                "type": "callback_refused",
                "loc": ["body", "fastapi_base_url"],
                "msg": "http://private.example resolves to a private address",
            }
        ]
        assert answer.json()["error"]["code"] == "CALLBACK_REFUSED"
        assert jobs.jobs == {}

    @pytest.mark.parametrize(
        "url",
        ["http://127.0.0.1/v.mp4", "ftp://example.org/v.mp4", "file:///etc/passwd", "gopher://x", "/etc/passwd", "v"],
    )
    def test_refused_address_is_a_job_that_fails_not_a_refused_request(
        self, client: TestClient, jobs: JobsOnTable, url: str
    ) -> None:
        assert submit(client, video_url=url).status_code == 200
        assert jobs.jobs["job-1"].request.video_url == url

    @pytest.mark.parametrize(
        ("fields", "location", "told"),
        [
            ({"job_id": None}, "job_id", "Field required"),
            ({"job_id": ""}, "job_id", "Field required"),
            ({"job_id": "a b"}, "job_id", "1 to 128 letters, digits, '.', '_' or '-', not starting with '.'"),
            ({"job_id": "a/b"}, "job_id", "1 to 128 letters"),
            ({"job_id": ".hidden"}, "job_id", "not starting with '.'"),
            ({"job_id": "x" * 129}, "job_id", "1 to 128"),
            ({"job_id": "한글"}, "job_id", "letters"),
            ({"job_id": "a\n"}, "job_id", "letters"),
            ({"job_id": 7}, "job_id", "valid string"),
            ({"video_url": None}, "video_url", "Field required"),
            ({"video_url": ""}, "video_url", "Field required"),
            ({"video_url": "http://x/\x00"}, "video_url", "Control characters"),
            ({"video_url": "h" * 8193}, "video_url", "at most 8192"),
            ({"language": "de"}, "language", "'auto', 'ko', 'en', 'ja' or 'zh'"),
            ({"max_workers": 2.5}, "max_workers", "valid integer"),
            ({"num_speakers": 0}, "num_speakers", "greater than or equal to 1"),
            ({"min_speakers": -1}, "min_speakers", "greater than or equal to 1"),
            ({"min_speakers": 3, "max_speakers": 2}, "max_speakers", "must not be below min_speakers"),
            ({"max_speakers": 2, "num_speakers": 3}, "num_speakers", "between min_speakers and max_speakers"),
            ({"min_speakers": 2, "num_speakers": 1}, "num_speakers", "between min_speakers and max_speakers"),
            ({"enable_gpu": "maybe"}, "enable_gpu", "valid boolean"),
            ({"fastapi_base_url": "backend.example"}, "fastapi_base_url", "http:// or https://"),
            ({"fastapi_base_url": "ftp://backend.example"}, "fastapi_base_url", "http:// or https://"),
            ({"fastapi_base_url": "http://h:99999"}, "fastapi_base_url", "Not a URL"),
            ({"fastapi_base_url": "http://u:p@h"}, "fastapi_base_url", "passwords"),
            ({"fastapi_base_url": "http://h/?a=1"}, "fastapi_base_url", "query"),
        ],
    )
    def test_wrong_field_is_named_with_what_is_allowed(
        self, client: TestClient, jobs: JobsOnTable, fields: dict[str, Any], location: str, told: str
    ) -> None:
        answer = submit(client, **fields)
        assert answer.status_code == 422
        (problem,) = answer.json()["detail"]
        assert problem["loc"] == ["body", location]
        assert told in problem["msg"]
        assert set(problem) == {"type", "loc", "msg"}
        assert answer.json()["error"]["code"] == "INVALID_REQUEST"
        assert location in answer.json()["error"]["message"]
        assert jobs.jobs == {}

    def test_every_problem_is_told_at_once(self, client: TestClient) -> None:
        problems = submit(client, job_id="a b", language="de", foo=1).json()["detail"]
        assert {problem["loc"][1] for problem in problems} == {"job_id", "language"}

    @pytest.mark.parametrize(
        ("given", "field", "stored"),
        [
            ({"enable_gpu": "false"}, "enable_gpu", False),
            ({"emotion_detection": 0}, "emotion_detection", False),
            ({"max_workers": "8"}, "max_workers", 8),
            ({"max_workers": 8.0}, "max_workers", 8),
            ({"language": None}, "language", "auto"),
            ({"num_speakers": None}, "num_speakers", None),
            ({"fastapi_base_url": None}, "callback_base", None),
            ({"fastapi_base_url": "https://h/base//"}, "callback_base", "https://h/base"),
        ],
    )
    def test_lenient_where_clients_were_used_to_it(
        self, client: TestClient, jobs: JobsOnTable, given: dict[str, Any], field: str, stored: Any
    ) -> None:
        assert submit(client, **given).status_code == 200
        assert getattr(jobs.jobs["job-1"].request, field) == stored

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 422),
            (b"null", 422),
            (b"[]", 422),
            (b'"text"', 422),
            (b'{"job_id": "a",', 422),
            (b'{"job_id": NaN, "video_url": Infinity}', 422),
            (b'{"job_id": "a", "video_url": "\\ud800"}', 422),
            (b'{"job_id": "a", "video_url": "v", "max_workers": 1e999}', 422),
            (b"\x80\x81", 400),
            (b"[" * 100_000, 400),
            (b'{"max_workers": ' + b"9" * 5000 + b"}", 400),
        ],
    )
    def test_hostile_body_is_refused_cleanly(self, client: TestClient, body: bytes, status: int) -> None:
        answer = client.post(SUBMIT, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status
        assert answer.json()["detail"]
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]

    @pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded"])
    def test_other_media_type_tells_what_to_send(self, client: TestClient, media_type: str) -> None:
        answer = client.post(SUBMIT, content=json.dumps(BODY), headers={"content-type": media_type})
        assert answer.status_code == 422
        assert "Content-Type: application/json" in answer.json()["detail"][0]["msg"]

    def test_unexpected_failure_tells_nothing_of_itself(self, client: TestClient, jobs: JobsOnTable) -> None:
        jobs.fail_with = RuntimeError("password hunter2 at /srv/secret")
        answer = submit(client)
        assert answer.status_code == 500
        assert "hunter2" not in answer.text
        assert "RuntimeError" not in answer.text
        assert answer.json()["error"]["code"] == "INTERNAL_ERROR"
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


class TestGet:
    def test_waiting_job_shows_as_processing_with_its_place(self, client: TestClient) -> None:
        submit(client, "first")
        submit(client, "second")
        assert client.get("/jobs/second").json() == {
            "status": "processing",
            "job_id": "second",
            "progress": 0,
            "message": "대기 중",
            "created_at": "2024-01-15T10:30:01Z",
            "queue_position": 1,
        }

    def test_what_is_left_is_told_until_the_end(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client, "past")
        assert "estimated_remaining_s" not in client.get("/jobs/past").json()  # nothing was measured
        jobs.run_start("past")
        jobs.run_complete("past", {"text": ""})
        assert "estimated_remaining_s" not in client.get("/jobs/past").json()
        submit(client, "now")
        submit(client, "next")
        assert client.get("/jobs/now").json()["estimated_remaining_s"] == 45.2
        jobs.run_start("now")
        jobs.now_s += 5.0
        assert client.get("/jobs/now").json()["estimated_remaining_s"] == 40.2
        assert client.get("/jobs/next").json()["estimated_remaining_s"] == 85.4
        listed = {job["job_id"]: job.get("estimated_remaining_s") for job in client.get("/jobs").json()["jobs"]}
        assert listed == {"next": None, "now": 40.2, "past": None}
        jobs.now_s += 1000.0
        assert client.get("/jobs/now").json()["estimated_remaining_s"] == 0.0
        assert submit(client, "last").json()["estimated_time"] == 91

    def test_progress_moves_within_a_stage_and_callbacks_keep_to_the_stages(
        self, client: TestClient, jobs: JobsOnTable
    ) -> None:
        submit(client)
        claim = jobs.run_start("job-1")
        jobs.run_stage("job-1", Stage.TRANSCRIBING)
        jobs.store.advance(claim, 66)
        job = client.get("/jobs/job-1").json()
        assert (job["progress"], job["message"]) == (66, "음성을 텍스트로 변환 중...")
        [sent] = jobs.store.events("job-1")
        assert sent.payload == {
            "job_id": "job-1",
            "status": "processing",
            "progress": 60,
            "message": "음성을 텍스트로 변환 중...",
        }

    @pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.COMPLETED])
    def test_running_job(self, client: TestClient, jobs: JobsOnTable, stage: Stage) -> None:
        submit(client)
        jobs.run_start("job-1")
        jobs.run_stage("job-1", stage)
        job = client.get("/jobs/job-1").json()
        contract = {
            10: "비디오 다운로드 완료",
            25: "음성 구간 감지 중...",
            40: "화자 식별 중...",
            60: "음성을 텍스트로 변환 중...",
            75: "감정 분석 중...",
            90: "결과 정리 중...",
        }
        assert (job["status"], job["message"]) == ("processing", contract[job["progress"]])
        assert job.keys() == {"status", "job_id", "progress", "message", "created_at"}

    def test_completed_job(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client)
        jobs.run_start("job-1")
        jobs.run_complete("job-1", RESULT)
        answer = client.get("/jobs/job-1")
        job = answer.json()
        assert list(job.items())[:3] == [
            ("status", "completed"),
            ("processing_time", 45.2),
            ("completed_at", "2024-01-15T10:30:55Z"),
        ]
        assert job == {
            "status": "completed",
            "processing_time": 45.2,
            "completed_at": "2024-01-15T10:30:55Z",
            "job_id": "job-1",
            "progress": 100,
            "message": "분석 완료",
            "created_at": "2024-01-15T10:30:00Z",
            "result": RESULT,
        }
        assert "안녕하세요" in answer.text
        assert '"pitch_hz":null' in answer.text  # a null inside the result is a statement, and stays

    def test_a_result_of_another_version_is_sent_as_it_was_stored(self, client: TestClient, jobs: JobsOnTable) -> None:
        stored = {"of a later version": {"b": None, "a": 1}, "duration": 120, "segments": [{"text": "x"}]}
        submit(client)
        jobs.run_complete("job-1", stored)  # type: ignore[arg-type]
        assert client.get("/jobs/job-1").text.endswith(
            '"result":{"of a later version":{"b":null,"a":1},"duration":120,"segments":[{"text":"x"}]}}'
        )

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (
                errors.DownloadError("404 Not Found"),
                "DOWNLOAD_ERROR",
                "비디오 파일을 다운로드할 수 없습니다: 404 Not Found",
            ),
            (errors.AddressRefused("private"), "DOWNLOAD_ERROR", "비디오 파일을 다운로드할 수 없습니다: private"),
            (errors.AudioExtractionError("no audio"), "AUDIO_EXTRACTION_ERROR", "오디오 추출 실패: no audio"),
            (errors.ProcessingError("x"), "PROCESSING_ERROR", "처리 중 오류가 발생했습니다: x"),
            (errors.ModelLoadingError("x"), "MODEL_LOADING_ERROR", "모델을 불러올 수 없습니다: x"),
            (errors.GpuMemoryError("x"), "GPU_MEMORY_ERROR", "GPU 메모리가 부족합니다: x"),
        ],
    )
    def test_failed_job(
        self, client: TestClient, jobs: JobsOnTable, error: errors.ServeAppError, code: str, message: str
    ) -> None:
        submit(client)
        jobs.run_start("job-1")
        jobs.run_fail("job-1", code, error_message(error, Locale.KO))
        job = client.get("/jobs/job-1").json()
        assert (job["status"], job["error_code"], job["error_message"]) == ("failed", code, message)
        assert "result" not in job
        assert job["completed_at"] == "2024-01-15T10:30:55Z"

    def test_job_cancelled_before_it_began_has_no_processing_time(self, client: TestClient) -> None:
        submit(client)
        client.post("/jobs/job-1/cancel")
        job = client.get("/jobs/job-1").json()
        assert job["status"] == "cancelled"
        assert "processing_time" not in job
        assert "queue_position" not in job

    def test_unknown_id(self, client: TestClient) -> None:
        answer = client.get("/jobs/nobody")
        assert answer.status_code == 404
        assert answer.json() == {
            "detail": "No job has the id nobody",
            "error": {
                "code": "JOB_NOT_FOUND",
                "message": "No job has the id nobody",
                "request_id": answer.headers["x-request-id"],
            },
        }

    @pytest.mark.parametrize("job_id", [".a", "a%20b", "%ED%95%9C", "x" * 129, "a%0A"])
    def test_malformed_id(self, client: TestClient, job_id: str) -> None:
        answer = client.get(f"/jobs/{job_id}")
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["path", "job_id"]
        assert "128" in answer.json()["detail"][0]["msg"]


class TestList:
    def test_pages_newest_first_without_results(self, client: TestClient, jobs: JobsOnTable) -> None:
        for job_id in "abc":
            submit(client, job_id)
        jobs.run_start("a")
        jobs.run_complete("a", RESULT)
        first = client.get("/jobs", params={"limit": 2}).json()
        assert [job["job_id"] for job in first["jobs"]] == ["c", "b"]
        second = client.get("/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
        assert [(job["job_id"], job["status"], "result" in job) for job in second["jobs"]] == [
            ("a", "completed", False)
        ]
        assert second["next_cursor"] is None

    def test_by_status(self, client: TestClient, jobs: JobsOnTable) -> None:
        for job_id in "abc":
            submit(client, job_id)
        jobs.run_start("b")
        jobs.run_fail("c", "DOWNLOAD_ERROR", "x")
        found = {
            status: [job["job_id"] for job in client.get("/jobs", params={"status": status}).json()["jobs"]]
            for status in ("queued", "processing", "failed", "completed", "cancelled")
        }
        assert found == {"queued": ["a"], "processing": ["b"], "failed": ["c"], "completed": [], "cancelled": []}

    @pytest.mark.parametrize(
        ("params", "told"),
        [
            ({"status": "done"}, "'queued', 'processing', 'completed', 'failed' or 'cancelled'"),
            ({"limit": 0}, "greater than or equal to 1"),
            ({"limit": 101}, "less than or equal to 100"),
            ({"cursor": "x" * 513}, "at most 512"),
            ({"cursor": "forged"}, "next_cursor of an earlier page"),
        ],
    )
    def test_wrong_query_in_the_shape_of_new_routes(
        self, client: TestClient, params: dict[str, Any], told: str
    ) -> None:
        answer = client.get("/jobs", params=params)
        assert answer.status_code == 422
        assert answer.json().keys() == {"error"}
        error = answer.json()["error"]
        assert error["code"] == "INVALID_REQUEST"
        assert next(iter(params)) in error["message"]
        assert told in error["message"]


class TestCancelAndDelete:
    def test_waiting_job_is_cancelled_at_once(self, client: TestClient) -> None:
        submit(client)
        answer = client.post("/jobs/job-1/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert answer.json()["message"] == "작업이 취소되었습니다"
        assert client.post("/jobs/job-1/cancel").json()["status"] == "cancelled"  # again: nothing changes

    def test_running_job_is_asked(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client)
        jobs.run_start("job-1")
        assert client.post("/jobs/job-1/cancel").json()["status"] == "processing"
        assert jobs.jobs["job-1"].cancel_requested

    def test_ended_job_can_not_be_cancelled(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client)
        jobs.run_start("job-1")
        jobs.run_complete("job-1", RESULT)
        answer = client.post("/jobs/job-1/cancel")
        assert answer.status_code == 409
        assert answer.json().keys() == {"error"}
        assert answer.json()["error"]["code"] == "JOB_CONFLICT"

    def test_delete(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client)
        refused = client.delete("/jobs/job-1")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "JOB_CONFLICT")
        client.post("/jobs/job-1/cancel")
        removed = client.delete("/jobs/job-1")
        assert (removed.status_code, removed.content) == (204, b"")
        assert jobs.jobs == {}
        assert client.delete("/jobs/job-1").status_code == 404

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/jobs/nobody/cancel"),
            ("DELETE", "/jobs/nobody"),
            ("GET", "/jobs/nobody/events"),
            ("GET", "/jobs/nobody/deliveries"),
            ("POST", "/jobs/nobody/deliveries/replay"),
        ],
    )
    def test_unknown_id_in_the_shape_of_new_routes(self, client: TestClient, method: str, path: str) -> None:
        answer = client.request(method, path)
        assert answer.status_code == 404
        assert answer.json() == {
            "error": {
                "code": "JOB_NOT_FOUND",
                "message": "No job has the id nobody",
                "request_id": answer.headers["x-request-id"],
            }
        }


class TestDeliveries:
    def test_lists_what_was_sent(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client, fastapi_base_url="https://backend.example")
        jobs.run_stage("job-1", Stage.DOWNLOADED)
        [due] = jobs.store.claim_deliveries("courier", 10)
        jobs.now_s += 5.0
        jobs.store.record_delivered(due, status_code=200)
        body = client.get("/jobs/job-1/deliveries").json()
        assert body == {
            "job_id": "job-1",
            "deliveries": [
                {
                    "seq": 1,
                    "webhook_id": due.webhook_id,
                    "status": "delivered",
                    "attempts": 1,
                    "created_at": "2024-01-15T10:30:10Z",
                    "next_attempt_at": None,
                    "delivered_at": "2024-01-15T10:30:15Z",
                    "last_error": None,
                    "last_status_code": 200,
                    "payload": {
                        "job_id": "job-1",
                        "status": "processing",
                        "progress": 10,
                        "message": "비디오 다운로드 완료",
                    },
                }
            ],
        }

    def test_replays(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client, fastapi_base_url="https://backend.example")
        jobs.run_start("job-1")
        jobs.run_stage("job-1", Stage.DOWNLOADED)
        jobs.run_stage("job-1", Stage.DIARIZING)
        answer = client.post("/jobs/job-1/deliveries/replay")
        assert (answer.status_code, answer.json()) == (202, {"job_id": "job-1", "replayed": 2})


class TestEvents:
    def run_to_the_end(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client)
        jobs.run_start("job-1")
        for stage in (Stage.DOWNLOADED, Stage.DETECTING_SPEECH):
            jobs.run_stage("job-1", stage)
        jobs.run_complete("job-1", RESULT)

    def test_ended_job_is_told_from_the_beginning(self, client: TestClient, jobs: JobsOnTable) -> None:
        self.run_to_the_end(client, jobs)
        answer = client.get("/jobs/job-1/events")
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        retry, *events, end = answer.text.split("\n\n")
        assert (retry, end) == ("retry: 3000", "")
        assert [event.split("\n")[:2] for event in events] == [
            ["id: 1", "event: progress"],
            ["id: 2", "event: progress"],
            ["id: 3", "event: completed"],
        ]
        payloads = [json.loads(event.split("\n")[2].removeprefix("data: ")) for event in events]
        assert payloads == [event.payload for event in jobs.store.events("job-1")]
        for payload in payloads:
            views.CallbackPayload.model_validate(payload)
        assert "음성 구간 감지 중..." in answer.text

    @pytest.mark.parametrize(("last", "rest"), [("0", ["1", "2", "3"]), ("1", ["2", "3"]), ("2", ["3"])])
    def test_resumes_after_last_event_id(
        self, client: TestClient, jobs: JobsOnTable, last: str, rest: list[str]
    ) -> None:
        self.run_to_the_end(client, jobs)
        answer = client.get("/jobs/job-1/events", headers={"Last-Event-ID": last})
        assert [line[4:] for line in answer.text.split("\n") if line.startswith("id: ")] == rest

    def test_nothing_left_stops_reconnection(self, client: TestClient, jobs: JobsOnTable) -> None:
        self.run_to_the_end(client, jobs)
        answer = client.get("/jobs/job-1/events", headers={"Last-Event-ID": "3"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert jobs.open_streams == 0


def test_a_body_without_a_content_type_is_taken_as_json(client: TestClient) -> None:
    """As FastAPI did for the systems replaced; its present default refuses it."""
    request = client.build_request("POST", SUBMIT, content=json.dumps(BODY))
    request.headers.pop("content-type", None)
    assert client.send(request).status_code == 200
