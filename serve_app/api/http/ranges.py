"""Answers with a stored file: whole, in part (RFC 9110, sections 13 and 14), or "not modified"."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serve_app.services import StoredFile

# one range alone; eighteen digits are more than any file has bytes
_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)
_ETAG = re.compile(r'(?:W/)?("[^"]*")')


class RangeNotSatisfiable(Exception):
    """Raised when a range has no byte in common with the file."""


def parse_range(header: str, num_bytes: int) -> tuple[int, int] | None:
    """Return the first byte of a range and the one after its last; RangeNotSatisfiable.

    None, for the whole file: the header is malformed, of another unit, or asks for several ranges, which a server may
    ignore.
    """
    found = _RANGE.fullmatch(header)
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, end = max(0, num_bytes - int(suffix)), num_bytes
    else:
        start, end = int(first), min(int(last) + 1, num_bytes) if last else num_bytes
        if last and int(last) < start:
            return None
    if start >= num_bytes:
        raise RangeNotSatisfiable
    return start, end


async def answer_file(request: Request, file: StoredFile, media_type: str, headers: Mapping[str, str]) -> Response:
    """Answer GET with a file, streamed; StorageError where its first bytes can't be read.

    One range is answered with 206, several with the whole file. The file has a strong `ETag` and no date, so that
    `If-Range` with a date never holds.
    """
    etag = f'"{file.etag}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", **headers}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or etag in _ETAG.findall(known):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    status, start, end = HTTPStatus.OK, 0, file.num_bytes
    if _range_applies(request, etag):
        try:
            part = parse_range(request.headers["range"], file.num_bytes)
        except RangeNotSatisfiable:
            headers["Content-Range"] = f"bytes */{file.num_bytes}"
            return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
        if part is not None:
            status, (start, end) = HTTPStatus.PARTIAL_CONTENT, part
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.num_bytes}"
    headers["Content-Length"] = str(end - start)
    chunks = file.read(start, end)
    first = await anext(chunks, b"")  # what fails here still gets an answer of its own
    return StreamingResponse(_joined(first, chunks), status, headers, media_type)


def _range_applies(request: Request, etag: str) -> bool:
    if len(request.headers.getlist("range")) != 1:
        return False
    return request.headers.get("if-range", etag).strip() == etag


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
