"""`OldClientsMiddleware`: paths with more slashes than a route has, and HEAD wherever there is GET."""

from __future__ import annotations

import re

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SLASHES = re.compile("/{2,}")


class _HeadAnswered(OSError):
    """Ends an answer whose body nobody reads. Starlette takes an OSError of `send` for a client that has left."""


class OldClientsMiddleware:
    """Serves `/transcribe/` and `//transcribe` as `/transcribe`, and HEAD as GET without the body.

    A redirect would not do: many clients send GET, or no body, to the address that it names.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["path"] = _plain_path(scope["path"], scope.get("root_path", ""))
        if scope["method"] == "HEAD":
            await self._answer_head(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_head(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                await send(message)
            elif message.get("more_body"):
                raise _HeadAnswered

        # a HEAD has no range (RFC 9110, section 14.2)
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"range"]
        scope["method"], scope["headers"] = "GET", headers
        try:
            await self._app(scope, receive, send_head)
        except (_HeadAnswered, ClientDisconnect):
            pass
        finally:
            scope["method"] = "HEAD"  # for the log
        if has_begun:
            await send({"type": "http.response.body", "body": b""})


def _plain_path(path: str, root_path: str) -> str:
    """Return a path without empty parts; that of the application itself ends with a slash."""
    plain = _SLASHES.sub("/", path).rstrip("/")
    return plain if plain and plain != _SLASHES.sub("/", root_path).rstrip("/") else f"{plain}/"
