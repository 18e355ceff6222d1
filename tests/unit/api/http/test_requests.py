"""JSON bodies that a route reads by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect, Request

from serve_app.api.http.requests import is_json, read_json


def request(*chunks: bytes | None, media_type: str | None = "application/json") -> Request:
    """Return a request whose body comes in chunks; None: the client leaves."""
    upcoming = list(chunks)

    async def receive() -> Any:
        chunk = upcoming.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(upcoming)}

    headers = [] if media_type is None else [(b"content-type", media_type.encode())]
    return Request({"type": "http", "headers": headers}, receive)


@pytest.mark.parametrize(
    ("media_type", "is_so"),
    [
        ("application/json", True),
        ("APPLICATION/JSON;charset=UTF-8", True),
        (" application/json ", True),
        ("application/vnd.api+json", True),
        ("application/jsonlines", False),
        ("text/json", False),
        ("multipart/form-data; boundary=application/json", False),
        ("", False),
        (None, False),
    ],
)
def test_what_says_that_it_is_json(media_type: str | None, is_so: bool) -> None:
    assert is_json(request(b"", media_type=media_type)) is is_so


def test_body_in_chunks() -> None:
    text = '{"a": ["다", null, 1.5]}'.encode()
    assert asyncio.run(read_json(request(text[:8], text[8:9], text[9:]))) == {"a": ["다", None, 1.5]}


@pytest.mark.parametrize("content", [b"", b"{'a': 1}", b'{"a": 1} x', b"\xff\xfe\x00", b"[" * 200_000])
def test_what_is_none_is_told_as_fastapi_tells_it(content: bytes) -> None:
    with pytest.raises(RequestValidationError) as raised:
        asyncio.run(read_json(request(content)))
    assert raised.value.errors() == [{"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error"}]


def test_client_that_leaves_half_way() -> None:
    with pytest.raises(ClientDisconnect):
        asyncio.run(read_json(request(b'{"a"', None)))
