"""`POST /classify-reusable` and `POST /verify-beverage`: the fixed answers, batches, limits and failures."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.api.images.requests import MAX_FILES
from serve_app.results import LabelScores
from serve_app.sentences import Locale
from serve_app.services import ImageClassification, Services
from tests.unit.api.live import DEADLINE_S, serving, until
from tests.unit.api.memory_services import VERSION, MemoryImages

CLASSIFY, VERIFY = "/classify-reusable", "/verify-beverage"
BOTH = pytest.mark.parametrize("path", [CLASSIFY, VERIFY])

REUSABLE = {
    "is_reusable": True,
    "confidence": 0.92,
    "predicted_class": "reusable",
    "probabilities": {"disposable": 0.08, "reusable": 0.92},
    "message": "✅ Reusable container detected (confidence: 92.0%)",
}
WITH_BEVERAGE = {
    "has_beverage": True,
    "confidence": 0.88,
    "predicted_class": "with_beverage",
    "is_valid": True,
    "probabilities": {"empty": 0.05, "with_beverage": 0.88, "unclear": 0.07},
    "message": "Beverage detected - Valid usage",
}
BODIES = {CLASSIFY: REUSABLE, VERIFY: WITH_BEVERAGE}


def upload(client: Any, path: str = CLASSIFY, content: bytes = b"\xff\xd8..", filename: str = "cup.jpg") -> Any:
    return client.post(path, files={"file": (filename, content)})


def upload_all(client: Any, *names: str, path: str = CLASSIFY) -> Any:
    return client.post(path, files=[("file", (name, name.encode())) for name in names])


def found(**scores: float) -> ImageClassification:
    return ImageClassification(LabelScores(max(scores, key=scores.__getitem__), scores), VERSION)


class TestAnswer:
    def test_reusable(self, client: TestClient, images: MemoryImages) -> None:
        answer = upload(client, content=b"\xff\xd8jpeg")
        assert answer.status_code == 200
        assert answer.json() == REUSABLE
        assert list(answer.json()) == list(REUSABLE)
        assert answer.headers["x-model-version"] == VERSION
        assert images.asked == [("container", [b"\xff\xd8jpeg"])]

    def test_disposable(self, client: TestClient, images: MemoryImages) -> None:
        images.found["container"] = found(disposable=0.756, reusable=0.244)
        assert upload(client).json() == {
            "is_reusable": False,
            "confidence": 0.756,
            "predicted_class": "disposable",
            "probabilities": {"disposable": 0.756, "reusable": 0.244},
            "message": "❌ Disposable container detected (confidence: 75.6%)",
        }

    def test_beverage(self, client: TestClient, images: MemoryImages) -> None:
        answer = upload(client, VERIFY)
        assert answer.json() == WITH_BEVERAGE
        assert list(answer.json()) == list(WITH_BEVERAGE)
        assert answer.headers["x-model-version"] == VERSION
        assert images.asked == [("beverage", [b"\xff\xd8.."])]

    @pytest.mark.parametrize(
        ("threshold", "is_valid"), [("0", True), ("0.87", True), ("0.88", True), ("0.880001", False), ("1", False)]
    )
    def test_threshold(self, client: TestClient, threshold: str, is_valid: bool) -> None:
        body = upload(client, f"{VERIFY}?confidence_threshold={threshold}").json()
        told = "Beverage detected, but not with enough confidence (88.0%) - Please retake the photo"
        assert body == WITH_BEVERAGE | ({} if is_valid else {"is_valid": False, "message": told})

    @pytest.mark.parametrize(("confidence", "is_valid"), [(0.71, True), (0.7, True), (0.69, False)])
    def test_threshold_is_0_7_unless_said(
        self, client: TestClient, images: MemoryImages, confidence: float, is_valid: bool
    ) -> None:
        images.found["beverage"] = found(empty=0.0, with_beverage=confidence, unclear=1 - confidence)
        body = upload(client, VERIFY).json()
        assert (body["confidence"], body["has_beverage"], body["is_valid"]) == (confidence, True, is_valid)

    @pytest.mark.parametrize(
        ("scores", "message"),
        [
            ({"empty": 0.9, "with_beverage": 0.06, "unclear": 0.04}, "No beverage detected - Invalid usage"),
            ({"empty": 0.04, "with_beverage": 0.06, "unclear": 0.9}, "Unclear image - Please retake the photo"),
        ],
    )
    def test_no_beverage_is_never_valid(
        self, client: TestClient, images: MemoryImages, scores: dict[str, float], message: str
    ) -> None:
        images.found["beverage"] = found(**scores)
        assert upload(client, f"{VERIFY}?confidence_threshold=0").json() == {
            "has_beverage": False,
            "confidence": 0.9,
            "predicted_class": max(scores, key=scores.__getitem__),
            "is_valid": False,
            "probabilities": scores,
            "message": message,
        }

    @pytest.mark.parametrize("threshold", ["-0.01", "1.01", "high", "nan"])
    def test_threshold_out_of_bounds(self, client: TestClient, images: MemoryImages, threshold: str) -> None:
        answer = upload(client, f"{VERIFY}?confidence_threshold={threshold}")
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["query", "confidence_threshold"]
        assert answer.json()["error"]["message"].startswith("query.confidence_threshold: ")
        assert images.asked == []

    def test_version_that_no_header_can_hold(self, client: TestClient, images: MemoryImages) -> None:
        images.found["container"] = replace(images.found["container"], model_version="분류기\r\nx: y.pth (0123abcd)")
        header = upload(client).headers["x-model-version"]
        assert header == "%EB%B6%84%EB%A5%98%EA%B8%B0%0D%0Ax: y.pth (0123abcd)"

    def test_other_fields_of_the_form_are_no_matter(self, client: TestClient) -> None:
        answer = client.post(CLASSIFY, files={"file": ("a.jpg", b"x")}, data={"user_id": "7"})
        assert answer.json() == REUSABLE


class TestSeveralFiles:
    @BOTH
    def test_each_is_answered_in_order(self, client: TestClient, images: MemoryImages, path: str) -> None:
        answer = upload_all(client, "b.jpg", "a.jpg", "b.jpg", path=path)
        assert answer.status_code == 200
        assert answer.json() == {"results": [{"filename": n} | BODIES[path] for n in ("b.jpg", "a.jpg", "b.jpg")]}
        assert answer.headers["x-model-version"] == VERSION
        assert [seen for _, seen in images.asked] == [[b"b.jpg", b"a.jpg", b"b.jpg"]]

    @BOTH
    def test_one_that_fails_and_an_empty_one_leave_the_others(
        self, client: TestClient, images: MemoryImages, path: str
    ) -> None:
        images.failures = {b"bad": errors.ImageUnreadable("no picture"), b"": errors.ImageUnreadable("empty")}
        sent = [(name, name.encode()) for name in ("a.jpg", "bad")] + [("void.jpg", b""), ("c.jpg", b"c")]
        answer = client.post(path, files=[("file", each) for each in sent])
        assert answer.status_code == 200
        request_id = answer.headers["x-request-id"]
        failures = [
            {"error": {"code": "IMAGE_UNREADABLE", "message": told, "request_id": request_id}}
            for told in ("no picture", "empty")
        ]
        assert answer.json()["results"] == [
            {"filename": "a.jpg"} | BODIES[path],
            {"filename": "bad"} | failures[0],
            {"filename": "void.jpg"} | failures[1],
            {"filename": "c.jpg"} | BODIES[path],
        ]

    def test_all_fail(self, client: TestClient, images: MemoryImages) -> None:
        images.failures = dict.fromkeys((b"a", b"b"), errors.ModelLoadingError("no weights"))
        answer = upload_all(client, "a", "b")
        assert [each["error"]["code"] for each in answer.json()["results"]] == ["MODEL_LOADING_ERROR"] * 2
        assert "x-model-version" not in answer.headers

    def test_answers_of_two_versions_name_both(self, client: TestClient, images: MemoryImages) -> None:
        new = replace(images.found["container"], model_version="new, better.pth (89abcdef)")
        images.failures = {b"b": new}  # type: ignore[dict-item]
        answer = upload_all(client, "a", "b", "a")
        assert answer.headers["x-model-version"] == f"{VERSION}, new%2C better.pth (89abcdef)"

    def test_threshold_is_for_all(self, client: TestClient) -> None:
        results = upload_all(client, "a", "b", path=f"{VERIFY}?confidence_threshold=0.9").json()["results"]
        assert [each["is_valid"] for each in results] == [False, False]

    def test_most(self, client: TestClient, images: MemoryImages) -> None:
        names = [f"{number}.jpg" for number in range(MAX_FILES)]
        assert [each["filename"] for each in upload_all(client, *names).json()["results"]] == names
        assert len(images.asked) == 1

    def test_names_are_fit_to_be_shown(self, client: TestClient) -> None:
        # written by hand: httpx would escape them
        names = [b"a\x1b[31mb.jpg", b"../../etc/passwd", "북\u202egpj".encode(), b"x\x00y\x7f.png"]
        parts = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\nx\r\n'
            for name in names
        )
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = client.post(CLASSIFY, content=parts + b"--b--\r\n", headers=headers)
        shown = [each["filename"] for each in answer.json()["results"]]
        assert shown == ["a[31mb.jpg", "passwd", "북gpj", "xy.png"]


class TestAddresses:
    @BOTH
    def test_one(self, client: TestClient, images: MemoryImages, path: str) -> None:
        url = "https://bucket.example/cup.jpg?X-Amz-Signature=secret"
        answer = client.post(path, json={"image_url": url, "image_urls": None})
        assert answer.status_code == 200
        assert answer.json() == BODIES[path]
        assert answer.headers["x-model-version"] == VERSION
        assert [seen for _, seen in images.asked] == [[url]]

    @BOTH
    def test_several(self, client: TestClient, images: MemoryImages, path: str) -> None:
        urls = [
            "https://h.example/b/cup%201.jpg?sig=secret#x",
            "s3://bucket/a.png",
            "https://h.example/bad.png",
            "https://h.example/%1b%0a..%2fx.png",
            "https://h.example",
            "https://[",
        ]
        images.failures = {urls[2]: errors.DownloadError("404 Not Found")}
        answer = client.post(path, json={"image_urls": urls})
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [each["filename"] for each in results] == ["cup 1.jpg", "a.png", "bad.png", "x.png", "media", "["]
        assert results[2] == {
            "filename": "bad.png",
            "error": {
                "code": "DOWNLOAD_ERROR",
                "message": "404 Not Found",
                "request_id": answer.headers["x-request-id"],
            },
        }
        assert results[0] == {"filename": "cup 1.jpg"} | BODIES[path]
        assert "secret" not in answer.text
        assert [seen for _, seen in images.asked] == [urls]

    def test_one_in_a_list_is_a_batch(self, client: TestClient) -> None:
        answer = client.post(CLASSIFY, json={"image_urls": ["https://h/a.png"]})
        assert answer.json() == {"results": [{"filename": "a.png"} | REUSABLE]}

    def test_most(self, client: TestClient) -> None:
        answer = client.post(CLASSIFY, json={"image_urls": ["https://h/a.png"] * MAX_FILES})
        assert len(answer.json()["results"]) == MAX_FILES

    def test_threshold_is_in_the_address(self, client: TestClient) -> None:
        answer = client.post(f"{VERIFY}?confidence_threshold=0.9", json={"image_url": "https://h/a.png"})
        assert answer.json()["is_valid"] is False

    @pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/problem+json"])
    def test_kinds_of_json(self, client: TestClient, media_type: str) -> None:
        content = json.dumps({"image_url": "https://h/a.png"})
        answer = client.post(CLASSIFY, content=content, headers={"Content-Type": media_type})
        assert answer.json() == REUSABLE

    @pytest.mark.parametrize(
        ("body", "location", "told"),
        [
            ({"image_url": "https://h/a", "image_urls": ["https://h/b"]}, [], "Give either image_url or image_urls"),
            ({}, [], "Give either image_url or image_urls"),
            ({"image_url": None, "image_urls": None}, [], "Give either image_url or image_urls"),
            ({"image_urls": []}, [], "Give either image_url or image_urls"),
            ({"image_urls": ["https://h/a"] * (MAX_FILES + 1)}, ["image_urls"], "at most 32 items"),
            ({"image_urls": "https://h/a"}, ["image_urls"], "valid list"),
            ({"image_urls": ["https://h/a", 7]}, ["image_urls", 1], "valid string"),
            ({"image_urls": ["https://h/a", ""]}, ["image_urls", 1], "at least 1 character"),
            ({"image_url": ""}, [], "Give either image_url or image_urls"),
            ({"image_url": 7}, ["image_url"], "valid string"),
            ({"image_url": ["https://h/a"]}, ["image_url"], "valid string"),
            ({"image_url": "https://h/a\r\nb"}, ["image_url"], "Control characters"),
            ({"image_url": "https://h/" + "a" * 9000}, ["image_url"], "at most 8192 characters"),
            ({"url": "https://h/a"}, [], "Give either image_url or image_urls"),
            (["https://h/a"], [], "Send a JSON object"),
            ("https://h/a", [], "Send a JSON object"),
            (None, [], "Send a JSON object"),
        ],
    )
    def test_wrong_body(
        self, client: TestClient, images: MemoryImages, body: Any, location: list[Any], told: str
    ) -> None:
        answer = client.post(CLASSIFY, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        [problem] = answer.json()["detail"]
        assert problem["loc"] == ["body", *location]
        assert told in problem["msg"]
        error = answer.json()["error"]
        assert error["code"] == "INVALID_REQUEST"
        assert told in error["message"]
        assert images.asked == []

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff\xfe\x00", b"[" * 200_000, b"image_url=https://h/a"], ids=repr
    )
    def test_not_json(self, client: TestClient, content: bytes) -> None:
        answer = client.post(CLASSIFY, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["error"]["message"] == "body: JSON decode error"

    @pytest.mark.parametrize(
        ("content", "location"),
        [(rb'{"image_url": "https://h/\ud800.png"}', ["body", "image_url"]), (rb'{"\udfff": 1}', ["body"])],
    )
    def test_half_a_character(
        self, client: TestClient, images: MemoryImages, content: bytes, location: list[str]
    ) -> None:
        answer = client.post(CLASSIFY, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == location
        assert images.asked == []

    def test_body_over_the_limit_of_json(self, client_with: Callable[..., TestClient], images: MemoryImages) -> None:
        client = client_with(max_body_bytes=1024)
        answer = client.post(CLASSIFY, json={"image_urls": ["https://h/" + "a" * 500] * 3})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "REQUEST_TOO_LARGE")
        assert answer.json()["detail"] == "The body exceeds 1024 bytes"
        assert images.asked == []


class TestWrongForm:
    @BOTH
    @pytest.mark.parametrize(
        ("files", "location", "told"),
        [
            ({"image": ("a.jpg", b"x")}, ["image"], "No file is expected here; name it file"),
            ({"file": ("a.jpg", b"")}, ["file"], "The file is empty"),
            ({"file": (None, b"\xff\xd8")}, ["file"], "sent as text: send it as a part with a filename"),
            ({"note": (None, b"x")}, ["file"], "The file is missing"),
            ([("file", (str(n), b"x")) for n in range(MAX_FILES + 1)], [], "Send up to 32 files, each named file"),
        ],
    )
    def test_files(
        self, client: TestClient, images: MemoryImages, path: str, files: Any, location: list[str], told: str
    ) -> None:
        answer = client.post(path, files=files)
        assert answer.status_code == 422
        [problem] = answer.json()["detail"]
        assert problem["loc"] == ["body", *location]
        assert told in problem["msg"]
        assert answer.json()["error"]["code"] == "INVALID_REQUEST"
        assert images.asked == []

    @pytest.mark.parametrize(
        ("media_type", "content", "told"),
        [
            ("multipart/form-data; boundary=b", b"--b--\r\n", "The file is missing"),
            ("multipart/form-data; boundary=b", b"", "cut off"),
            ("multipart/form-data", b"--b--\r\n", "boundary"),
            (
                "multipart/form-data; boundary=b",
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\xd8 and no end',
                "cut off",
            ),
        ],
    )
    def test_malformed(
        self, client: TestClient, images: MemoryImages, media_type: str, content: bytes, told: str
    ) -> None:
        answer = client.post(CLASSIFY, content=content, headers={"Content-Type": media_type})
        assert answer.status_code == 422
        assert told in answer.json()["detail"][0]["msg"]
        assert images.asked == []

    @BOTH
    @pytest.mark.parametrize("media_type", [None, "image/jpeg", "application/x-www-form-urlencoded", "text/json"])
    def test_other_types(self, client: TestClient, images: MemoryImages, path: str, media_type: str | None) -> None:
        headers = {} if media_type is None else {"Content-Type": media_type}
        answer = client.post(path, content=b"\xff\xd8", headers=headers)
        assert answer.status_code == 415
        assert answer.json()["error"]["code"] == "UNSUPPORTED_MEDIA_TYPE"
        assert "multipart/form-data with a file, or application/json with image_url" in answer.json()["detail"]
        assert images.asked == []

    def test_other_method(self, client: TestClient) -> None:
        answer = client.get(CLASSIFY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")


def send_in_chunks(app: FastAPI, chunks: Iterator[bytes], path: str = CLASSIFY) -> tuple[int, dict[str, str], Any]:
    """Send a form whose body comes in these chunks, as they are asked for; return the answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": next(chunks), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=b")],
    }
    asyncio.run(app(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


def long_form(*small: bytes, num_chunks: int = 50) -> Iterator[bytes]:
    """Yield small files, and a long one after them."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for content in small:
        yield head + content + b"\r\n"
    yield head
    for _ in range(num_chunks):
        yield b"x" * 1000


class TestLimits:
    @BOTH
    @pytest.mark.parametrize("small", [(), (b"y" * 4000,)], ids=["the only one", "second"])
    def test_file_too_long_is_not_read_to_its_end(
        self, services: Services, images: MemoryImages, small: tuple[bytes, ...], path: str
    ) -> None:
        chunks = long_form(*small)
        status, headers, body = send_in_chunks(
            create_app(services, ApiSettings(max_image_bytes=5000, locale=Locale.EN)), chunks, path
        )
        assert status == 413
        assert headers["connection"] == "close"
        assert body["error"]["code"] == "REQUEST_TOO_LARGE"
        assert body["detail"] == body["error"]["message"] == "A file exceeds 5000 bytes"
        assert len(list(chunks)) == 44
        assert images.asked == []

    def test_file_of_just_that_many_bytes(self, client_with: Callable[..., TestClient], images: MemoryImages) -> None:
        client = client_with(max_image_bytes=5000)
        assert upload(client, content=b"x" * 5000).json() == REUSABLE
        assert upload(client, content=b"x" * 5001).json()["detail"] == "A file exceeds 5000 bytes"
        several = [("file", (name, b"x" * 4999)) for name in "abc"]  # the limit is of each
        assert len(client.post(CLASSIFY, files=several).json()["results"]) == 3

    def test_whole_form(self, client_with: Callable[..., TestClient], images: MemoryImages) -> None:
        client = client_with(max_upload_bytes=100_000, max_image_bytes=90_000)
        answer = client.post(CLASSIFY, files=[("file", (name, b"x" * 60_000)) for name in "abc"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "REQUEST_TOO_LARGE")
        assert answer.json()["detail"] == f"The body exceeds {100_000 + 65_536} bytes"
        assert answer.headers["connection"] == "close"
        assert images.asked == []

    def test_form_of_the_most_pictures(self, client_with: Callable[..., TestClient], images: MemoryImages) -> None:
        """However much may be uploaded elsewhere, a form here is no longer than its pictures may be."""
        client = client_with(max_image_bytes=2000)
        pictures = [("file", (str(n), b"x" * 2000)) for n in range(MAX_FILES)]
        fields = {"a": "x" * 30_000, "b": "x" * 40_000}
        assert len(client.post(CLASSIFY, files=pictures, data={"a": fields["a"]}).json()["results"]) == MAX_FILES
        answer = client.post(CLASSIFY, files=pictures, data=fields)
        assert answer.status_code == 413
        assert answer.json()["detail"] == f"The body exceeds {MAX_FILES * 2000 + 65_536} bytes"
        assert len(images.asked) == 1


FAILURES = [
    (errors.ImageUnreadable("no picture"), 422, "IMAGE_UNREADABLE", "no picture"),
    (errors.ImageTooLarge("too many pixels"), 413, "IMAGE_TOO_LARGE", "too many pixels"),
    (errors.DownloadError("404 Not Found"), 400, "DOWNLOAD_ERROR", "404 Not Found"),
    (errors.AddressRefused("a private address"), 400, "DOWNLOAD_ERROR", "a private address"),
    (errors.MediaTooLarge("too long"), 413, "DOWNLOAD_ERROR", "too long"),
    (errors.DownloadInterrupted("503 Busy"), 502, "DOWNLOAD_ERROR", "503 Busy"),
    (errors.ModelLoadingError("no file"), 503, "MODEL_LOADING_ERROR", "A model could not be loaded: no file"),
    (errors.GpuMemoryError("x"), 503, "GPU_MEMORY_ERROR", "Out of GPU memory: x"),
    (errors.ProcessingError("x"), 500, "PROCESSING_ERROR", "An error occurred during processing: x"),
    (errors.Unavailable("starting", 7.1), 503, "UNAVAILABLE", "starting"),
    (errors.Overloaded("full", 7.1), 429, "OVERLOADED", "full"),
]


class TestFailure:
    @BOTH
    @pytest.mark.parametrize(
        ("error", "status", "code", "message"), FAILURES, ids=[type(each[0]).__name__ for each in FAILURES]
    )
    def test_of_the_one_picture(
        self,
        client_with: Callable[..., TestClient],
        images: MemoryImages,
        path: str,
        error: Exception,
        status: int,
        code: str,
        message: str,
    ) -> None:
        client = client_with(locale=Locale.EN)
        images.failures = {b"x": error, "https://h/a": error}
        for answer in (upload(client, path, b"x"), client.post(path, json={"image_url": "https://h/a"})):
            assert answer.status_code == status
            assert answer.json() == {
                "detail": message,
                "error": {"code": code, "message": message, "request_id": answer.headers["x-request-id"]},
            }
            waits = {errors.Unavailable: "8", errors.Overloaded: "8"}.get(type(error), "30")
            assert answer.headers.get("retry-after") == (waits if status in (503, 429) else None)
            assert "x-model-version" not in answer.headers

    @pytest.mark.parametrize(
        "error", [errors.DownloadError("404 Not Found"), errors.AddressRefused("refused"), errors.MediaTooLarge("big")]
    )
    @pytest.mark.parametrize("locale", list(Locale))
    def test_of_a_download_does_not_speak_of_a_video(
        self, client_with: Callable[..., TestClient], images: MemoryImages, error: Exception, locale: Locale
    ) -> None:
        client = client_with(locale=locale)
        images.failures = {"https://h/a": error}
        one = client.post(CLASSIFY, json={"image_url": "https://h/a"})
        several = client.post(CLASSIFY, json={"image_urls": ["https://h/a", "https://h/b"]})
        told = str(error)
        assert one.json()["detail"] == one.json()["error"]["message"] == told
        assert several.json()["results"][0]["error"]["message"] == told

    @BOTH
    @pytest.mark.parametrize(
        ("busy", "status"), [(errors.Unavailable("busy", 4.2), 503), (errors.Overloaded("full", 4.2), 429)]
    )
    def test_full_service(
        self, client: TestClient, images: MemoryImages, path: str, busy: Exception, status: int
    ) -> None:
        images.busy = busy
        bodies = (
            upload(client, path),
            upload_all(client, "a", "b", path=path),
            client.post(path, json={"image_urls": ["https://h/a", "https://h/b"]}),
        )
        for answer in bodies:
            assert (answer.status_code, answer.headers["retry-after"]) == (status, "5")
            assert answer.json()["detail"] == str(busy.args[0])

    @BOTH
    def test_unexpected_one_keeps_its_secrets(
        self, client: TestClient, images: MemoryImages, caplog: pytest.LogCaptureFixture, path: str
    ) -> None:
        images.failures = {b"a": KeyError("hunter2")}
        alone, several = upload_all(client, "a", path=path), upload_all(client, "a", "b", path=path)
        assert alone.status_code == 500
        assert several.status_code == 200
        for error in (alone.json()["error"], several.json()["results"][0]["error"]):
            assert error["code"] == "INTERNAL_ERROR"
            assert "request id" in error["message"]
        assert "hunter2" not in alone.text + several.text
        assert caplog.text.count("hunter2") >= 2  # the operator finds it
        assert several.json()["results"][1] == {"filename": "b"} | BODIES[path]

    def test_request_id_is_the_callers(self, client: TestClient, images: MemoryImages) -> None:
        images.failures = {b"x": errors.ImageUnreadable("x")}
        answer = client.post(CLASSIFY, files={"file": ("a", b"x")}, headers={"X-Request-ID": "mine-7"})
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"] == "mine-7"


@BOTH
def test_route_is_documented(client: TestClient, path: str) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]
    assert operation["requestBody"]["required"] is True
    assert set(content) == {"multipart/form-data", "application/json"}
    form, links = content["multipart/form-data"]["schema"], content["application/json"]["schema"]
    assert form["required"] == ["file"]
    assert form["properties"]["file"]["maxItems"] == MAX_FILES
    assert form["properties"]["file"]["items"] == {"type": "string", "format": "binary"}
    options = ["confidence_threshold"] if path == VERIFY else []
    assert set(links["properties"]) == {"image_url", "image_urls", *options}
    assert set(form["properties"]) == {"file", *options}
    assert "additionalProperties" not in {*links, *form}  # others are ignored
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    names = [each["$ref"].rpartition("/")[2] for each in schema["anyOf"]]
    kind = "Container" if path == CLASSIFY else "Beverage"
    assert names == [f"{kind}View", f"{kind}BatchView"]
    assert list(document["components"]["schemas"][names[0]]["properties"]) == list(BODIES[path])
    assert {"400", "413", "415", "422", "503"} <= set(operation["responses"])
    parameters = [(each["name"], each["schema"]) for each in operation.get("parameters", [])]
    if path == VERIFY:
        [(name, bounds)] = parameters
        assert (name, bounds["default"], bounds["minimum"], bounds["maximum"]) == ("confidence_threshold", 0.7, 0, 1)
    else:
        assert parameters == []


def test_pages_of_other_origins_may_read_the_version(client_with: Callable[..., TestClient]) -> None:
    client = client_with(cors_origins=("https://a.example",))
    answer = client.post(CLASSIFY, files={"file": ("a", b"x")}, headers={"Origin": "https://a.example"})
    assert answer.headers["x-model-version"] == VERSION
    assert "X-Model-Version" in answer.headers["access-control-expose-headers"].split(", ")


def test_files_are_closed_after_the_answer(client: TestClient, images: MemoryImages) -> None:
    upload_all(client, "a.jpg", "b.jpg")
    images.busy = None
    images.failures = {b"c.jpg": errors.ImageUnreadable("x")}
    upload_all(client, "c.jpg")
    assert [file.closed for file in images.files] == [True] * 3


@pytest.mark.parametrize("by_address", [False, True], ids=["form", "json"])
def test_leaving_client_ends_the_work(
    services: Services, images: MemoryImages, caplog: pytest.LogCaptureFixture, by_address: bool
) -> None:
    images.hangs = True
    caplog.set_level(logging.INFO, "serve_app")
    body: dict[str, Any] = {"json": {"image_url": "https://h/a"}} if by_address else {"files": {"file": ("a", b"x")}}
    with serving(create_app(services, ApiSettings())) as url:
        request = httpx.Request("POST", f"{url}{CLASSIFY}", **body)
        content = request.read()
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        with socket.create_connection((request.url.host, request.url.port or 80), DEADLINE_S) as connection:
            connection.sendall(f"POST {request.url.path} HTTP/1.1\r\n{headers}\r\n".encode() + content)
            assert images.started.wait(DEADLINE_S)
        assert images.cancelled.wait(DEADLINE_S)
        until(lambda: all(file.closed for file in images.files), "the picture closed")
        until(lambda: any(record.name == "serve_app.access" for record in caplog.records), "the line in the log")
    assert len(images.files) == (0 if by_address else 1)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "serve_app.access"]
    assert [line["status"] for line in lines] == [499]


class TestLog:
    def test_each_picture_has_a_line(
        self, client: TestClient, images: MemoryImages, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "serve_app.access.images"):
            client.post(CLASSIFY, files={"file": ("컵 1.jpg", b"x")}, headers={"x-request-id": "abc-1"})
            client.post(VERIFY, json={"image_url": "https://a.example/cup.jpg?key=secret"})
        first, second = [each.message for each in caplog.records if each.name == "serve_app.access.images"]
        assert first == f'container "컵 1.jpg": reusable, confidence 0.9200, {VERSION}, request abc-1'
        assert second.startswith(f'beverage "cup.jpg": with_beverage, confidence 0.8800, {VERSION}, request ')

    @pytest.mark.parametrize("name", ['a"b\\c.jpg', "a\u2028b.jpg", "%0aINFO forged.jpg", "a\u202egpj.jpg"])
    def test_a_name_is_one_line_in_quotes(
        self, name: str, client: TestClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "serve_app.access.images"):
            upload(client, filename=name)
        [line] = [each.message for each in caplog.records if each.name == "serve_app.access.images"]
        assert line.isprintable()
        shown, end = json.JSONDecoder().raw_decode(line.removeprefix("container "))
        assert shown.endswith(".jpg")
        assert line.removeprefix("container ")[end:].startswith(": reusable")

    def test_a_batch_has_a_line_for_each_that_was_classified(
        self, client: TestClient, images: MemoryImages, caplog: pytest.LogCaptureFixture
    ) -> None:
        images.failures[b"b.jpg"] = errors.ImageUnreadable("The file is empty")
        with caplog.at_level(logging.INFO, "serve_app.access.images"):
            upload_all(client, "a.jpg", "b.jpg", "c.jpg")
        lines = [each.message for each in caplog.records if each.name == "serve_app.access.images"]
        assert [line.split(":")[0] for line in lines] == ['container "a.jpg"', 'container "c.jpg"']
