"""`error_from_response`: the error that a failed answer stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from serve_app.errors import InvalidRequest, MediaTooLarge, Overloaded, ProcessingError, ServeAppError, Unavailable
from serve_app.sentences import Sentence

_BODY_TOO_LARGE = "REQUEST_TOO_LARGE"


def error_from_response(answer: httpx.Response) -> ServeAppError:
    """Return an answer's error: its class by code and HTTP status, its text as detail."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    failure, fields = body.get("error"), body.get("detail")
    if isinstance(failure, dict):
        code, sentence = failure.get("code"), failure.get("message")
    else:
        # POST /transcribe: `error` is a sentence; a malformed request has FastAPI's `detail`
        code, sentence = InvalidRequest.code if isinstance(fields, list) else body.get("error_code"), failure
    detail = sentence if isinstance(sentence, str) and sentence else _told(fields) or _silent(answer)
    kind = _kind_of(code, answer.status_code)
    if issubclass(kind, Overloaded):
        retry_after = answer.headers.get("retry-after", "")
        return kind(detail, float(retry_after)) if retry_after.isdecimal() else kind(detail)
    return kind(detail)


def _told(fields: Any) -> str:
    """Return FastAPI's list of wrong fields as a sentence; "" where it is none."""
    told = [item for item in fields if isinstance(item, dict) and item.get("msg")] if isinstance(fields, list) else []
    return "; ".join(f"{'.'.join(map(str, item.get('loc') or ['body']))}: {item['msg']}" for item in told)


def _silent(answer: httpx.Response) -> Sentence:
    return Sentence(
        "{url} answered {status} {reason}", url=answer.url, status=answer.status_code, reason=answer.reason_phrase
    )


def _kind_of(code: str | None, status: int) -> type[ServeAppError]:
    kinds = list(_tree(ServeAppError))
    exact = [kind for kind in kinds if kind.code == code and kind.http_status == status]
    if exact:
        return exact[0]
    if status in (Overloaded.http_status, Unavailable.http_status):
        return Overloaded if status == Overloaded.http_status else Unavailable
    if status == MediaTooLarge.http_status and code in (ProcessingError.code, _BODY_TOO_LARGE):
        return MediaTooLarge  # POST /transcribe has no code of its own for an upload over the limit
    known = next((kind for kind in kinds if kind.code == code), None)
    # A gateway answers 502 while the process behind it is gone, which passes, as 503 does. 504 would come again: the
    # work takes longer than the gateway waits.
    return known or (Unavailable if status == httpx.codes.BAD_GATEWAY else ServeAppError)


def _tree(root: type[ServeAppError]) -> Iterator[type[ServeAppError]]:
    """Yield a class and its subclasses, level by level."""
    level = [root]
    while level:
        yield from level
        level = [kind for parent in level for kind in parent.__subclasses__()]
