"""What clients of the services replaced send, and their routes take: unknown fields, empty ones, languages, paths."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from serve_app.api.app import DOCS_PATH, REDOC_PATH, create_app
from serve_app.api.http.options import ApiSettings
from serve_app.languages import language_code
from serve_app.services import Services
from tests.unit.api.all_routes import all_routes
from tests.unit.api.memory_services import RESULT, JobsOnTable, MemoryAnalysis, MemoryDrums, MemoryImages, MemorySpeech

SUBMIT = "/api/upload-video/process-video"
VIDEO = {"job_id": "a", "video_url": "https://example.org/v.mp4"}
LINK = {"image_url": "https://example.org/cup.jpg"}
FILE = {"file": ("a.wav", b"RIFF")}
JSON = {"Content-Type": "application/json"}
OTHER_FILE = ("b.bin", b"x" * 3_000_000)
JSON_ROUTES = [(SUBMIT, VIDEO), ("/transcribe", VIDEO), ("/classify-reusable", LINK), ("/verify-beverage", LINK)]
FORM_ROUTES = ["/transcribe", "/classify-reusable", "/verify-beverage"]


def ignored(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [name for name in answer.headers.get("x-ignored-fields", "").split(", ") if name]


class TestUnknown:
    @pytest.mark.parametrize(("path", "body"), JSON_ROUTES)
    def test_json_fields(self, client: TestClient, path: str, body: dict[str, Any]) -> None:
        known = {"job_id"} if path == "/transcribe" else set()  # it is no field there
        answer = client.post(path, json={**body, "user_id": 7, "사용자": None, "nested": {"a": [1]}})
        assert ignored(answer) == [*known, "user_id", quote("사용자"), "nested"]

    @pytest.mark.parametrize("path", FORM_ROUTES)
    def test_form_fields_and_files(self, client: TestClient, path: str) -> None:
        files = [("file", FILE["file"]), ("thumbnail", OTHER_FILE), ("thumbnail", OTHER_FILE)]
        data = {"user_id": ["1", "2"], "note": "x" * 100_000, "empty": ""}
        assert ignored(client.post(path, data=data, files=files)) == ["user_id", "note", "empty", "thumbnail"]

    def test_many_form_fields_and_files(self, client: TestClient) -> None:
        files = [("file", FILE["file"]), *((f"picture{number}", ("a.png", b"x")) for number in range(100))]
        data = {**{f"note{number}": "x" for number in range(100)}, "language": "ko"}
        told = ignored(client.post("/transcribe", data=data, files=files))
        assert (told[0], told[-1]) == ("note0", "(184 more)")
        data = {f"note{number}": "x" for number in range(1001)}
        assert client.post("/transcribe", data=data, files=FILE).status_code == 422

    @pytest.mark.parametrize("path", [SUBMIT, *FORM_ROUTES])
    def test_query_parameters(self, client: TestClient, path: str) -> None:
        sent: dict[str, Any] = {"json": VIDEO} if path == SUBMIT else {"files": FILE}
        assert ignored(client.post(f"{path}?token=a&empty=", **sent)) == ["token"]

    def test_nothing_unknown_nothing_told(self, client: TestClient) -> None:
        assert "x-ignored-fields" not in client.post(SUBMIT, json=VIDEO).headers

    def test_names_are_bounded_and_encoded(self, client: TestClient) -> None:
        names = ["a\r\nSet-Cookie: x", "b, c", "k" * 10_000, *(f"n{number}" for number in range(20))]
        told = ignored(client.post(SUBMIT, json={**VIDEO, **dict.fromkeys(names, 1)}))
        assert told[:3] == ["a%0D%0ASet-Cookie%3A%20x", "b%2C%20c", "k" * 64]
        assert told[16:] == ["(7 more)"]
        half = client.post(SUBMIT, content=json.dumps({**VIDEO, "\ud800": 1}))
        assert ignored(half) == ["%3F"]

    def test_what_a_failure_ignored_is_told_too(self, client: TestClient) -> None:
        answer = client.post("/transcribe", data={"foo": "1", "backend": "no-such"}, files=FILE)
        assert (answer.status_code, answer.headers["x-ignored-fields"]) == (422, "foo")

    @pytest.mark.parametrize("path", ["/classify-reusable", "/verify-beverage"])
    def test_an_object_without_a_picture_is_refused(self, client: TestClient, path: str) -> None:
        answer = client.post(path, json={"image": "x"})
        assert answer.status_code == 422
        assert "image_url" in answer.json()["detail"][0]["msg"]

    @pytest.mark.parametrize("path", FORM_ROUTES)
    def test_a_file_of_another_name_alone_is_refused(self, client: TestClient, path: str) -> None:
        answer = client.post(path, files={"image": FILE["file"]})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "image"]
        assert "name it file" in answer.json()["detail"][0]["msg"]

    def test_an_option_sent_as_a_file_is_not_dropped(self, client: TestClient) -> None:
        answer = client.post("/transcribe", files={**FILE, "language": ("l.txt", b"ko")})
        assert answer.status_code == 422
        answer = client.post("/verify-beverage", files={**FILE, "confidence_threshold": ("t.txt", b"0.9")})
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "confidence_threshold"])

    @pytest.mark.parametrize("path", ["/transcribe-drums", "/generate-music", "/v1/audio/transcriptions"])
    def test_new_routes_refuse_them(self, client: TestClient, path: str) -> None:
        answer = client.post(path, data={"model": "whisper-1", "foo": "1"}, files=FILE)
        assert answer.status_code in (400, 422)
        assert "Unknown field" in answer.text

    def test_the_document_tells_which_objects_take_them(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        assert "additionalProperties" not in document["components"]["schemas"]["ProcessVideoRequest"]
        [drums] = document["paths"]["/transcribe-drums"]["post"]["requestBody"]["content"].values()
        assert drums["schema"]["additionalProperties"] is False


class TestThreshold:
    @pytest.mark.parametrize(
        "sent",
        [
            {"files": FILE, "data": {"confidence_threshold": "0.95"}},
            {"files": FILE, "params": {"confidence_threshold": "0.95"}},
            {"json": {**LINK, "confidence_threshold": 0.95}},
            {"json": {**LINK, "confidence_threshold": "0.95"}},
            {"json": LINK, "params": {"confidence_threshold": "0.95"}},
            {"files": FILE, "data": {"confidence_threshold": "0.95"}, "params": {"confidence_threshold": ".950"}},
        ],
    )
    def test_is_obeyed_wherever_it_is_sent(self, client: TestClient, sent: dict[str, Any]) -> None:
        answer = client.post("/verify-beverage", **sent)
        assert (ignored(answer), answer.json()["is_valid"]) == ([], False)  # the confidence is 0.88

    @pytest.mark.parametrize("value", ["", "  "])
    def test_an_empty_one_is_not_given(self, client: TestClient, value: str) -> None:
        for sent in ({"data": {"confidence_threshold": value}}, {"params": {"confidence_threshold": value}}):
            assert client.post("/verify-beverage", files=FILE, **sent).json()["is_valid"] is True

    def test_two_values_are_refused(self, client: TestClient) -> None:
        answer = client.post(
            "/verify-beverage?confidence_threshold=0.5", files=FILE, data={"confidence_threshold": "0.9"}
        )
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["query", "confidence_threshold"]

    @pytest.mark.parametrize(("value", "loc"), [("2", "query"), ("x", "query")])
    def test_a_wrong_one_is_named_with_its_place(self, client: TestClient, value: str, loc: str) -> None:
        answer = client.post("/verify-beverage", files=FILE, params={"confidence_threshold": value})
        assert (answer.status_code, answer.json()["detail"][0]["loc"][0]) == (422, loc)


class TestOptions:
    @pytest.mark.parametrize("where", ["data", "params"])
    def test_a_form_obeys_them_in_the_query_too(self, client: TestClient, speech: MemorySpeech, where: str) -> None:
        options = {"language": "Korean", "backend": "transformers", "prompt": "회의", "align": "no"}
        options |= {"enable_gpu": "false", "max_workers": "2"}
        assert ignored(client.post("/transcribe", files=FILE, **{where: options})) == []
        [asked] = speech.asked
        assert (asked.language, asked.backend, asked.prompt, asked.align) == ("ko", "transformers", "회의", False)
        assert (asked.enable_gpu, asked.max_workers) == (False, 2)

    def test_no_route_drops_one_in_the_query(
        self, client: TestClient, jobs: JobsOnTable, drums: MemoryDrums, speech: MemorySpeech
    ) -> None:
        assert ignored(client.post(f"{SUBMIT}?language=ko&max_workers=2&x=1", json=VIDEO)) == ["x"]
        request: Any = jobs.jobs["a"].request
        assert (request.language, request.max_workers) == ("ko", 2)
        assert client.post("/transcribe-drums?bpm=90&grid_kick=8", files=FILE).status_code == 200
        assert (drums.asked[0][1].bpm, *drums.asked[0][1].grid_division.values()) == (90.0, 8)
        assert client.post("/v1/audio/transcriptions?language=ko&model=whisper-1", files=FILE).status_code == 200
        assert speech.asked[0].language == "ko"
        assert client.post("/generate-music?duration=12", json=LINK).status_code == 200
        [piece] = [job.request for job in jobs.jobs.values() if job.request.kind != "video"]
        assert getattr(piece, "duration_s") == 12.0  # noqa: B009
        for path in ("/transcribe-drums?bpm=x", "/v1/audio/transcriptions?model=no-such"):
            assert client.post(path, files=FILE).status_code in (404, 422)

    def test_a_form_has_two_values(self, client: TestClient) -> None:
        answer = client.post("/transcribe?language=ko", files=FILE, data={"language": "en"})
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "language"])
        assert client.post("/transcribe?language=ko", files=FILE, data={"language": "ko-KR"}).status_code == 200

    def test_json_obeys_those_of_the_form(self, client: TestClient, analysis: MemoryAnalysis) -> None:
        body = {**VIDEO, "backend": "transformers", "prompt": "회의", "align": False, "diarize": True}
        assert ignored(client.post("/transcribe", json=body)) == ["job_id"]
        [asked] = analysis.asked
        assert (asked.backend, asked.prompt, asked.align) == ("transformers", "회의", False)
        refused = client.post("/transcribe", json={**VIDEO, "diarize": False})
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "diarize"])
        assert client.post("/transcribe", json={**VIDEO, "backend": "no-such"}).status_code == 422

    def test_json_without_a_type(self, client: TestClient, analysis: MemoryAnalysis) -> None:
        request = client.build_request("POST", "/transcribe", content=json.dumps({**VIDEO, "language": "ko"}))
        request.headers.pop("content-type", None)
        assert client.send(request).status_code == 200
        assert analysis.asked[0].language == "ko"

    @pytest.mark.parametrize("path", [SUBMIT, "/transcribe", "/v1/audio/transcriptions"])
    def test_a_compressed_body_is_refused_by_name(self, client: TestClient, path: str) -> None:
        packed = gzip.compress(json.dumps(VIDEO).encode())
        answer = client.post(path, content=packed, headers={**JSON, "Content-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
        assert "gzip" in answer.text
        # a mistake that many clients make
        assert client.post(SUBMIT, json=VIDEO, headers={"Content-Encoding": "utf-8"}).status_code == 200

    def test_json_without_language_is_english(self, client: TestClient, analysis: MemoryAnalysis) -> None:
        for body in (VIDEO, {**VIDEO, "language": None}, {**VIDEO, "language": " "}, {**VIDEO, "language": "auto"}):
            assert client.post("/transcribe", json=body).status_code == 200
        assert [asked.language for asked in analysis.asked] == ["en", "en", "en", "auto"]

    @pytest.mark.parametrize(
        ("given", "used"), [(0, 1), (-1, 1), (1000, 64), (10**30, 64), ("8", 8), (4.0, 4), ("", 4), (64, 64)]
    )
    def test_max_workers_is_clamped_with_a_note(
        self, client: TestClient, jobs: JobsOnTable, given: Any, used: int
    ) -> None:
        assert client.post(SUBMIT, json={**VIDEO, "max_workers": given}).status_code == 200
        request: Any = jobs.jobs["a"].request
        assert request.workers == used
        clamped = given not in ("8", 4.0, "", 64)
        expected = [f"max_workers can be 1 to 64; {used} was used"] if clamped else []
        assert request.option_notes() == expected

    def test_a_clamped_form_has_the_note(self, client: TestClient, speech: MemorySpeech) -> None:
        assert client.post("/transcribe", files=FILE, data={"max_workers": "0"}).status_code == 200
        assert (speech.asked[0].max_workers, *speech.asked[0].notes) == (1, "max_workers can be 1 to 64; 1 was used")

    @pytest.mark.parametrize("url", [" https://example.org/v.mp4\n", "https://example.org/v.mp4"])
    def test_an_address_is_taken_without_blanks(self, client: TestClient, jobs: JobsOnTable, url: str) -> None:
        body = {**VIDEO, "video_url": url, "fastapi_base_url": " https://h/ "}
        assert client.post(SUBMIT, json=body).status_code == 200
        request: Any = jobs.jobs["a"].request
        assert (request.video_url, request.callback_base) == ("https://example.org/v.mp4", "https://h")


@pytest.mark.parametrize("blank", ["", " ", "\t"])
class TestBlank:
    def test_fields_of_a_job(self, client: TestClient, jobs: JobsOnTable, blank: str) -> None:
        names = ("fastapi_base_url", "enable_gpu", "emotion_detection", "language", "max_workers")
        speakers = ("num_speakers", "min_speakers", "max_speakers")
        client.post(SUBMIT, json={**VIDEO, "job_id": "plain"})
        answer = client.post(SUBMIT, json={**VIDEO, **dict.fromkeys((*names, *speakers), blank)})
        assert answer.status_code == 200, answer.text
        plain, sent = (jobs.jobs[job_id].request.__dict__ for job_id in ("plain", "a"))
        assert {**plain, "job_id": "a"} == sent

    @pytest.mark.parametrize(
        ("path", "model"),
        [("/transcribe", "TranscribeForm"), ("/transcribe-drums", None), ("/v1/audio/transcriptions", None)],
    )
    def test_fields_of_a_form(self, client: TestClient, blank: str, path: str, model: str | None) -> None:
        [content] = [
            value
            for name, value in client.get("/openapi.json")
            .json()["paths"][path]["post"]["requestBody"]["content"]
            .items()
            if name == "multipart/form-data"
        ]
        names = set(content["schema"]["properties"]) - {"file", "model"}
        data = {**dict.fromkeys(names, blank), "model": "whisper-1"}
        if model:
            del data["model"]
        if path == "/transcribe-drums":
            del data["model"]
        answer = client.post(path, data=data, files=FILE)
        assert answer.status_code == 200, answer.text

    def test_queries(self, client: TestClient, blank: str) -> None:
        for path in ("/jobs", "/music", "/music/page"):
            answer = client.get(path, params=dict.fromkeys(("status", "limit", "cursor", "locale"), blank))
            assert answer.status_code == 200, answer.text

    def test_pictures(self, client: TestClient, images: MemoryImages, blank: str) -> None:
        assert client.post("/classify-reusable", json={"image_url": LINK["image_url"], "image_urls": []}).is_success
        assert client.post("/classify-reusable", json={"image_url": blank, "image_urls": ["v"]}).is_success
        assert client.post("/classify-reusable", json={"image_url": blank}).status_code == 422


class TestLanguages:
    @pytest.mark.parametrize(
        ("given", "code"),
        [
            (None, "auto"),
            ("None", "auto"),
            ("null", "auto"),
            ("AUTO", "auto"),
            ("KO", "ko"),
            ("ko-KR", "ko"),
            ("ko_KR.UTF-8", "ko"),
            ("zh-Hant-TW", "zh"),
            ("cmn", "zh"),
            (" Korean ", "ko"),
            ("Korean (South Korea)", "ko"),
            ("ENGLISH", "en"),
            ("en-us", "en"),
            ("한국어", "ko"),
            ("日本語", "ja"),
            ("Haitian Creole", "ht"),
            ("Français", "fr"),
            ("xx", "xx"),
            ("Klingon", "klingon"),
        ],
    )
    def test_spellings(self, given: str | None, code: str) -> None:
        assert language_code(given) == code

    @pytest.mark.parametrize("given", ["KO", "ko-KR", "ko_kr", "Korean", " korean ", "한국어"])
    def test_every_route(
        self, client: TestClient, jobs: JobsOnTable, speech: MemorySpeech, analysis: MemoryAnalysis, given: str
    ) -> None:
        assert client.post(SUBMIT, json={**VIDEO, "language": given}).status_code == 200
        assert client.post("/transcribe", json={**VIDEO, "language": given}).status_code == 200
        assert client.post("/transcribe", data={"language": given}, files=FILE).status_code == 200
        data = {"language": given, "model": "whisper-1"}
        assert client.post("/v1/audio/transcriptions", data=data, files=FILE).status_code == 200
        request: Any = jobs.jobs["a"].request
        assert [request.language, analysis.asked[0].language, *(asked.language for asked in speech.asked)] == ["ko"] * 4

    @pytest.mark.parametrize("given", ["fr", "French", "fr-FR", "xx"])
    def test_a_job_takes_five(self, client: TestClient, given: str) -> None:
        answer = client.post(SUBMIT, json={**VIDEO, "language": given})
        assert answer.status_code == 422
        assert all(f"'{code}'" in answer.json()["detail"][0]["msg"] for code in ("auto", "ko", "en", "ja", "zh"))


PNG = b"\x89PNG\r\n" + bytes(range(256))


class TestDataAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "data:image/png;base64," + base64.b64encode(PNG).decode(),
            "DATA:image/png;charset=x;BASE64," + base64.urlsafe_b64encode(PNG).decode().rstrip("="),
            "data:," + quote(PNG),
        ],
    )
    def test_a_picture(self, client: TestClient, images: MemoryImages, url: str) -> None:
        assert client.post("/classify-reusable", json={"image_url": url}).status_code == 200
        batch = client.post("/verify-beverage", json={"image_urls": [url, LINK["image_url"]]})
        assert [item["filename"] for item in batch.json()["results"]] == ["image", "cup.jpg"]
        assert images.asked == [("container", [PNG]), ("beverage", [PNG, LINK["image_url"]])]

    @pytest.mark.parametrize("url", ["data:", "data:image/png;base64,", "data:image/png;base64,***", "data:image/png"])
    def test_none(self, client: TestClient, url: str) -> None:
        answer = client.post("/classify-reusable", json={"image_url": url})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "IMAGE_UNREADABLE")

    def test_a_long_one(self, client_with: Callable[..., TestClient]) -> None:
        url = "data:image/png;base64," + base64.b64encode(bytes(1001)).decode()
        answer = client_with(max_image_bytes=1000).post("/classify-reusable", json={"image_url": url})
        assert answer.status_code == 413


class TestEnded:
    def test_a_job_submitted_again_is_processing_as_ever(self, client: TestClient, jobs: JobsOnTable) -> None:
        first = client.post(SUBMIT, json=VIDEO).json()
        jobs.run_complete("a", RESULT)
        again = client.post(SUBMIT, json=VIDEO).json()
        assert again == {**first, "estimated_time": 0}
        assert (again["status"], client.get("/jobs/a").json()["status"]) == ("processing", "completed")


class TestEvents:
    @pytest.mark.parametrize("last", ["", "x", "-1", "1.5", "4", "999", str(2**31), "9" * 5000, "０"])
    def test_a_foreign_number_is_ignored(self, client: TestClient, jobs: JobsOnTable, last: str) -> None:
        client.post(SUBMIT, json=VIDEO)
        jobs.run_stage("a", 10)
        jobs.run_stage("a", 60)
        jobs.run_complete("a", RESULT)
        answer = client.get("/jobs/a/events", headers={"Last-Event-ID": last.encode()})
        assert [line for line in answer.text.split("\n") if line.startswith("id: ")] == ["id: 1", "id: 2", "id: 3"]


class TestPaths:
    @pytest.mark.parametrize("path", ["/transcribe/", "//transcribe", "/transcribe//"])
    @pytest.mark.parametrize("root", ["", "/art"])
    def test_the_body_arrives(self, services: Services, speech: MemorySpeech, root: str, path: str) -> None:
        client = TestClient(create_app(services, ApiSettings()), root_path=root)
        answer = client.post(f"http://testserver{root}{path}", files=FILE, follow_redirects=False)
        assert answer.status_code == 200
        assert speech.contents == [b"RIFF"]

    def test_every_route(self, client: TestClient) -> None:
        for route in all_routes(client.app):
            path = route.path.format(job_id="a", name="a", model_id="a", form="srt")
            for method in route.methods:
                plain, slashed = (
                    client.request(method, f"http://testserver{each}", follow_redirects=False)
                    for each in (path, f"/{path}//")
                )
                assert slashed.status_code == plain.status_code, (method, path)
        assert client.get("/").status_code == 404

    def test_the_pages_keep_their_policy(self, client: TestClient) -> None:
        for path in (DOCS_PATH, REDOC_PATH):
            answer = client.get(f"{path}/")
            assert answer.status_code == 200
            assert "content-security-policy" not in answer.headers


class TestHead:
    def test_every_route_that_has_get(self, client: TestClient, jobs: JobsOnTable) -> None:
        client.post(SUBMIT, json=VIDEO)
        jobs.run_stage("a", 10)
        jobs.run_complete("a", RESULT)
        for path in (
            *("/jobs", "/jobs/a", "/jobs/a/result", "/jobs/a/transcript.srt", "/jobs/a/events", "/jobs/a/deliveries"),
            *("/health", "/health/live", "/health/ready", "/models", "/v1/models", "/v1/models/whisper-1"),
            *("/music", "/music/page", DOCS_PATH, REDOC_PATH, "/openapi.json", "/jobs/unknown", "/transcribe"),
        ):
            got, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            for name in ("content-type", "content-length", "etag", "allow"):
                assert head.headers.get(name) == got.headers.get(name), (path, name)

    def test_a_running_jobs_events_end_at_once(self, client: TestClient, jobs: JobsOnTable) -> None:
        client.post(SUBMIT, json=VIDEO)
        answer = client.head("/jobs/a/events")
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        assert jobs.open_streams == 0

    def test_no_range(self, client: TestClient, jobs: JobsOnTable) -> None:
        client.post(SUBMIT, json=VIDEO)
        jobs.run_complete("a", RESULT)
        answer = client.head("/jobs/a/result", headers={"Range": "bytes=0-9"})
        assert (answer.status_code, answer.headers["accept-ranges"]) == (200, "bytes")

    def test_the_document_lists_none(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        assert {method for operations in document["paths"].values() for method in operations} <= {
            "get",
            "post",
            "delete",
        }
