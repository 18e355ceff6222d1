"""`while_connected`: work that ends when its client leaves; a server reports the departure, but stops no route."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
from starlette.requests import ClientDisconnect, Request

_T = TypeVar("_T")


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Return what work returns; once the client has left, cancel it and wait for its end.

    The request's body must have been read: the next message can then only be the client's departure.

    Raises:
        ClientDisconnect: the client has left, and nobody is there to answer.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        # what the work uses (an open upload) may only be taken away once it has really ended
        with anyio.CancelScope(shield=True):
            await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
