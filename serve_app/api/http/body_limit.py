"""A bound on the bytes of a request's body.

Starlette's own middleware answers in plain text, past the routes' error forms; this one raises where the body is read.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message


def limited(request: Request, max_bytes: int) -> Request:
    """Return the request with a body that raises HTTPException 413 once it exceeds `max_bytes`.

    A declared length is checked at the first read; a chunked body is counted as it comes.
    """
    num_bytes = 0
    declared = request.headers.get("content-length", "")

    async def receive() -> Message:
        nonlocal num_bytes
        if declared.isdecimal() and int(declared) > max_bytes:
            raise _too_large(max_bytes)
        message = await request.receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        return message

    return Request(request.scope, receive)


def _too_large(max_bytes: int) -> HTTPException:
    # the rest of the body is not read, so the connection can't serve another request
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body exceeds {max_bytes} bytes", {"Connection": "close"}
    )
