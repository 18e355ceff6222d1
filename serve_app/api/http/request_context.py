"""`RequestContextMiddleware`: a request's id, its line in the access log, security headers, and the last answer."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.sentences import Locale, Sentence, translated

_SCOPE_KEY = "serve_app.request_id"
API_KEY = "serve_app.api_key"  # where `access` puts the caller's ApiKey
_SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

UNEXPECTED = Sentence("An unexpected error occurred; the operator finds it in the log by the request id")

_log = logging.getLogger(__name__)
_access_log = logging.getLogger("serve_app.access")

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
# an answer that is a page has a policy of its own; a browser that is made to show another must run nothing of it
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"


def request_id_of(scope: Mapping[str, Any]) -> str:
    return str(scope.get(_SCOPE_KEY, ""))


def route_path(scope: Mapping[str, Any]) -> str:
    """Return a request's path without the prefix under which a proxy or Serve shows the application."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


class RequestContextMiddleware:
    """Gives each request an id, logs it, adds security headers, and answers 500 to errors that nothing else caught.

    A client's `x-request-id` is taken if it is safe to log and echo (1 to 128 letters, digits, '.', '_', '-').

    Args:
        app: the application inside.
        page_paths: paths that answer pages with scripts, which the API's content policy would break.
        echo_request_id: whether to add `x-request-id` to answers; not where the server in front does.
        locale: language of that 500.
    """

    def __init__(
        self, app: ASGIApp, *, page_paths: frozenset[str], echo_request_id: bool, locale: Locale = Locale.KO
    ) -> None:
        self._app = app
        self._locale = locale
        self._page_paths = page_paths
        self._echo_request_id = echo_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _SAFE_REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        scope[_SCOPE_KEY] = request_id
        started_s = time.perf_counter()
        status = 0

        async def send_hardened(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if self._echo_request_id:
                    headers["X-Request-ID"] = request_id
                if route_path(scope) not in self._page_paths:
                    headers.setdefault("Content-Security-Policy", _API_POLICY)
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_hardened)
        except Exception:
            _log.exception("request %s failed outside its route", request_id)
            if status:
                raise  # half an answer is sent: only a broken connection shows the client the failure
            message = translated(UNEXPECTED, self._locale)
            body = {"error": {"code": "INTERNAL_ERROR", "message": message, "request_id": request_id}}
            await JSONResponse(body, 500)(scope, receive, send_hardened)
        finally:
            _write_access_line(scope, request_id, status, time.perf_counter() - started_s)


def _write_access_line(scope: Scope, request_id: str, status: int, took_s: float) -> None:
    """Log one JSON object: its escapes keep a client's text from forging lines or colouring a terminal.

    The query is left out: it is where secrets end up. A status of 0 means that the client left before the answer.
    """
    # probes come every few seconds, and are of no interest while all is well
    level = logging.DEBUG if route_path(scope).startswith("/health") and status < 500 else logging.INFO
    if not _access_log.isEnabledFor(level):
        return
    client = scope.get("client")
    line = {
        "request_id": request_id,
        "method": scope["method"],
        "path": scope["path"][:512],
        "status": status,
        "duration_ms": round(took_s * 1000, 1),
        "client": client[0] if client else None,
    }
    if (key := scope.get(API_KEY)) is not None:
        line["api_key"] = key.id
    _access_log.log(level, "%s", json.dumps(line))
