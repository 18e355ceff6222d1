"""Ranges and conditional requests (RFC 9110), over the functions alone; `music/test_media.py` has them over stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serve_app.api.http.ranges import RangeNotSatisfiable, answer_file, parse_range
from serve_app.errors import StorageError

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 1000)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 1000)),
        ("bytes=999-", (999, 1000)),
        ("bytes=-1", (999, 1000)),
        ("bytes=-500", (500, 1000)),
        ("bytes=-1000", (0, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=900-5000", (900, 1000)),
        ("bytes=0-999999999999999999", (0, 1000)),
        ("Bytes=1-2", (1, 3)),
        ("bytes= 1-2 ", (1, 3)),
        ("bytes=007-008", (7, 9)),
    ],
)
def test_one_range(header: str, part: tuple[int, int]) -> None:
    assert parse_range(header, SIZE) == part


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-1,3-4",
        "bytes=0-1, -1",
        "bytes=5-4",
        "bytes=2000-1999",
        "bytes=-",
        "bytes=",
        "bytes",
        "",
        "bytes=a-b",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=１-２",
        "bytes=0x1-2",
        "seconds=0-1",
        "items=0-1",
        "bytes:0-1",
        f"bytes={'9' * 5000}-",
    ],
)
def test_what_is_malformed_foreign_or_several_counts_as_none(header: str) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1000", "bytes=999999-", "bytes=-0"])
def test_range_without_a_byte(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, SIZE)


def test_no_range_of_an_empty_file_has_a_byte() -> None:
    for header in ("bytes=0-", "bytes=-1"):
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, 0)


class File:
    """A stored file that counts what is read of it."""

    num_bytes = SIZE
    etag = "v1"

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.fails_at = SIZE

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        self.asked.append((start, end))
        while start < end:
            if start >= self.fails_at:
                raise StorageError("gone")
            yield b"x" * min(100, end - start)
            start += 100

    async def signed_url(self, filename: str) -> str | None:
        return None


async def answering(file: File, **headers: str) -> Response:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "GET", "headers": sent})
    return await answer_file(request, file, "audio/mpeg", {"Cache-Control": "private"})


def answered(file: File, **headers: str) -> Response:
    return asyncio.run(answering(file, **headers))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"range": "bytes=0-9"}, 206),
        ({"range": "bytes=0-9", "if_range": '"v1"'}, 206),
        ({"range": "bytes=0-9", "if_range": '"v0"'}, 200),
        ({"range": "bytes=0-9", "if_range": 'W/"v1"'}, 200),  # a weak one does not promise the same bytes
        ({"range": "bytes=0-9", "if_range": "Sat, 29 Oct 1994 19:43:31 GMT"}, 200),
        ({"range": "bytes=5000-", "if_range": '"v0"'}, 200),
        ({"range": "bytes=5000-"}, 416),
        ({"if_none_match": '"v1"'}, 304),
        ({"if_none_match": 'W/"v1"'}, 304),
        ({"if_none_match": '"v0", "v1"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"v0"'}, 200),
        ({"if_none_match": "v1"}, 200),
        ({"if_none_match": '"v1"', "range": "bytes=0-9"}, 304),
        ({"if_none_match": '"v0"', "range": "bytes=0-9"}, 206),
    ],
)
def test_status(headers: dict[str, str], status: int) -> None:
    answer = answered(File(), **headers)
    assert answer.status_code == status
    assert answer.headers["etag"] == '"v1"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"] == "private"


def test_only_the_part_is_read() -> None:
    file = File()
    answer = answered(file, range="bytes=300-549")
    assert answer.headers["content-range"] == "bytes 300-549/1000"
    assert answer.headers["content-length"] == "250"
    assert file.asked == [(300, 550)]


def test_nothing_is_read_for_a_range_without_a_byte() -> None:
    file = File()
    answer = answered(file, range="bytes=1000-")
    assert answer.headers["content-range"] == "bytes */1000"
    assert answer.body == b""
    assert file.asked == []


def test_file_that_can_not_be_read_fails_before_the_answer_begins() -> None:
    file = File()
    file.fails_at = 0
    with pytest.raises(StorageError):
        answered(file)


def test_what_is_asked_for_is_sent_in_chunks() -> None:
    async def body(**headers: str) -> list[int]:
        answer = await answering(File(), **headers)
        assert isinstance(answer, StreamingResponse)
        return [len(chunk) async for chunk in answer.body_iterator]

    assert asyncio.run(body()) == [100] * 10
    assert asyncio.run(body(range="bytes=950-")) == [50]
    assert asyncio.run(body(range="bytes=0-249")) == [100, 100, 50]
