"""Forms and requests of clients in other languages, byte by byte, on the shared graph."""

from __future__ import annotations

import json

import pytest

from serve_app.commands.demo.local_graph import LocalGraph
from tests.integration.drawn_images import drawn_jpeg
from tests.integration.wire_forms import DIALECTS, Dialect, Wire

PICTURE = drawn_jpeg("beverage", "with_beverage", 1, (160, 120))
GO = next(dialect for dialect in DIALECTS if dialect.name == "Go mime/multipart")
FORM = GO.body([], [PICTURE])
TYPE = f"Content-Type: {GO.content_type}"


@pytest.fixture(scope="module", autouse=True)
def _is_up(graph: LocalGraph) -> None:
    with Wire(graph.base_url, 240.0) as wire:
        for path in ("/classify-reusable", "/verify-beverage?confidence_threshold=0"):
            answer = wire.post(path, FORM, TYPE)
            assert answer.status == 200, answer.body
        assert answer.json["is_valid"] is True, "or the tests below could not tell that a threshold was obeyed"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_form_of(graph: LocalGraph, dialect: Dialect) -> None:
    """Two pictures, so that the answer shows their names; a known field, an unknown and an empty one."""
    fields = [("confidence_threshold", "1"), ("memo", "매장 3호점"), ("user_id", "")]
    with Wire(graph.base_url) as wire:
        answer = wire.post(
            "/verify-beverage", dialect.body(fields, [PICTURE, PICTURE]), f"Content-Type: {dialect.content_type}"
        )
    assert answer.status == 200, answer.body.decode()
    results = answer.json["results"]
    assert [result["filename"] for result in results] == [dialect.shown] * 2
    assert all(result["has_beverage"] for result in results)
    assert not any(result["is_valid"] for result in results), "the threshold in the form is obeyed"
    assert "memo" in answer.headers["x-ignored-fields"]


def test_a_length_that_is_not_told(graph: LocalGraph) -> None:
    """Chunks, as .NET's StreamContent, Java's HttpClient and Go's pipes send them; some end inside a boundary."""
    pieces = [FORM[at : at + 997] for at in range(0, len(FORM), 997)]
    with Wire(graph.base_url) as wire:
        assert wire.post_chunks("/classify-reusable", pieces, TYPE).status == 200
        body = json.dumps({"job_id": "../bad", "video_url": "https://example.com/a.mp4"}).encode()
        refused = wire.post_chunks(
            "/api/upload-video/process-video", [body[:7], body[7:]], "Content-Type: application/json; charset=utf-8"
        )
        assert refused.status == 422
        assert refused.json["detail"][0]["loc"] == ["body", "job_id"], "FastAPI's form, which the old clients read"


def test_a_client_that_waits_before_it_sends_the_body(graph: LocalGraph) -> None:
    """`Expect: 100-continue`: .NET Framework and curl wait for an answer, up to 350 ms and 1 s."""
    with Wire(graph.base_url) as wire:
        wire.send(
            wire.head("POST /classify-reusable HTTP/1.1", TYPE, f"Content-Length: {len(FORM)}", "Expect: 100-continue")
        )
        assert wire.read_until_continue().startswith(b"HTTP/1.1 100 ")
        wire.send(FORM)
        assert wire.answer("POST").status == 200
        # a client that does not wait: the answer is the same, and the connection goes on
        assert wire.post("/classify-reusable", FORM, TYPE, "Expect: 100-continue").status == 200


@pytest.mark.parametrize("keep_alive", [False, True])
def test_http_1_0(graph: LocalGraph, keep_alive: bool) -> None:
    """As nginx's `proxy_pass` and ApacheBench send by default: no chunks in the answer."""
    headers = (TYPE, "Connection: keep-alive") if keep_alive else (TYPE,)
    with Wire(graph.base_url) as wire:
        answer = wire.post("/classify-reusable", FORM, *headers, version="1.0")
        assert answer.status == 200
        assert "transfer-encoding" not in answer.headers
        assert "is_reusable" in answer.json
        if keep_alive:
            assert wire.post("/classify-reusable", FORM, *headers, version="1.0").status == 200
        else:
            assert wire.is_closed()


def test_a_connection_serves_on_after_failures(graph: LocalGraph) -> None:
    """Pooled connections of requests, OkHttp and .NET: what failed has been read to its end."""
    with Wire(graph.base_url) as wire:
        for path, body, media_type, status in [
            ("/classify-reusable", b"{}", "application/json", 422),
            ("/classify-reusable", b"x" * 300_000, "text/plain", 415),
            ("/classify-reusable", b"no form", GO.content_type, 422),
            ("/classify-reusable", GO.body([], [b"no picture"]), GO.content_type, 422),
            ("/no-such-route", FORM, GO.content_type, 404),
            ("/transcribe", b"{", "application/json", 422),
            ("/transcribe", GO.body([("backend", "kaldi")], [b"RIFF"]), GO.content_type, 422),
            ("/v1/audio/transcriptions", GO.body([("model", "none")], [b"RIFF"]), GO.content_type, 404),
            ("/api/upload-video/process-video", b"[]", "application/json", 422),
        ]:
            answer = wire.post(path, body, f"Content-Type: {media_type}")
            assert answer.status == status, (path, answer.body)
            assert answer.headers.get("connection", "keep-alive") != "close", path
        assert wire.post("/classify-reusable", FORM, TYPE).status == 200


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "application/json, text/plain, */*",
        "text/html,application/xml;q=0.9",
        "image/*",
    ],
)
def test_every_accept_gets_json_where_there_is_nothing_else(graph: LocalGraph, accept: str | None) -> None:
    headers = [] if accept is None else [f"Accept: {accept}"]
    with Wire(graph.base_url) as wire:
        answers = [wire.post("/classify-reusable", FORM, TYPE, *headers)]
        for path in ("/health", "/v1/models"):
            wire.send(wire.head(f"GET {path} HTTP/1.1", *headers))
            answers.append(wire.answer("GET"))
    assert [answer.status for answer in answers] == [200] * 3
    assert all(answer.headers["content-type"].startswith("application/json") for answer in answers)


def test_head_wherever_there_is_get(graph: LocalGraph) -> None:
    with Wire(graph.base_url) as wire:
        for path in ("/health", "/health/live", "/health/ready", "/jobs", "/v1/models", "/models", "/docs", "/music"):
            wire.send(wire.head(f"GET {path} HTTP/1.1"))
            got = wire.answer("GET")
            wire.send(wire.head(f"HEAD {path} HTTP/1.1"))
            asked = wire.answer("HEAD")  # reads no body: one would be taken for the next answer
            assert (asked.status, asked.body) == (got.status, b""), path
            assert asked.headers["content-type"] == got.headers["content-type"], path
        wire.send(wire.head("HEAD /jobs/no-such-job HTTP/1.1"))
        assert wire.answer("HEAD").status == 404


def test_a_slash_too_many_loses_no_body(graph: LocalGraph) -> None:
    """The old servers answered 307, after which requests and curl -L send the body again, and others nothing."""
    with Wire(graph.base_url) as wire:
        answer = wire.post("/classify-reusable/", FORM, TYPE)
        assert answer.status == 200, answer.body
        assert "is_reusable" in answer.json
        answer = wire.post("/verify-beverage/?confidence_threshold=1", FORM, TYPE)
        assert answer.json["is_valid"] is False
        # a base address that ends with one
        assert "is_reusable" in wire.post("//classify-reusable", FORM, TYPE).json
        for path in ("/health/", "//health"):
            wire.send(wire.head(f"GET {path} HTTP/1.1"))
            assert wire.answer("GET").json["status"] == "healthy", path


def test_an_offer_of_http_2_is_passed_over(graph: LocalGraph) -> None:
    """Java's HttpClient offers it with each first request over plain HTTP."""
    offer = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    )
    with Wire(graph.base_url) as wire:
        answer = wire.post("/classify-reusable", FORM, TYPE, *offer)
        assert answer.status == 200, answer.body
        assert "is_reusable" in answer.json


def test_a_file_without_a_name_is_told_so(graph: LocalGraph) -> None:
    """A part of a small and of a large file: Starlette takes both for text."""
    with Wire(graph.base_url) as wire:
        for num_bytes in (500, 200_000):
            body = GO.body([("file", "x" * num_bytes)], [])
            answer = wire.post("/classify-reusable", body, TYPE)
            assert answer.status == 422
            assert "filename" in answer.json["error"]["message"], answer.json
