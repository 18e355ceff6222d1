"""Visitors: browsers, told apart by a random id in a signed cookie.

Who may see a job (`services.JobService.require_visible` decides):

    of a known visitor       this visitor alone, by the cookie of the submission or of its answer
    of another client        by the job's id, everybody without a valid cookie; and whoever has the answer's cookie
    of nobody (video jobs)   everybody

Where callers need API keys, this holds among the jobs of one key.

A visitor is known if its request carried a valid cookie, or came from a browser, which keeps the cookie that it gets.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request
from itsdangerous import BadSignature, TimestampSigner
from starlette.responses import Response

from serve_app.api.http.options import ApiSettings, InjectedServices, InjectedSettings
from serve_app.jobs.record import Visitor
from serve_app.services import Services

COOKIE = "serve_app_visitor"
_LIFE = timedelta(days=180)
_RENEWED_AFTER = timedelta(days=30)
_CLOCKS_DIFFER = timedelta(minutes=5)  # those of two replicas, at most
_SALT = "serve_app.visitor"
_SCOPE_KEY = "serve_app.visitor_cookie"


async def _signer(request: Request, services: Services, settings: ApiSettings) -> TimestampSigner:
    """Return what signs with the newest secret and takes signatures of all."""
    signer: TimestampSigner | None = getattr(request.app.state, "visitor_signer", None)
    if signer is None:
        newest_first = settings.cookie_secrets or (await services.jobs.visitor_secret(),)
        signer = TimestampSigner(list(reversed(newest_first)), salt=_SALT, digest_method=hashlib.sha256)
        request.app.state.visitor_signer = signer
    return signer


async def _reader(request: Request, services: InjectedServices, settings: InjectedSettings) -> str | None:
    """Read the request's cookie, and have it renewed if it is old."""
    sent = request.cookies.get(COOKIE)
    if sent is None:
        return None
    signer = await _signer(request, services, settings)
    try:
        # without its `max_age`, which refuses what a replica has signed whose clock is ahead
        value, signed_at = signer.unsign(sent, return_timestamp=True)
    except BadSignature:
        return None
    age = signer.timestamp_to_datetime(signer.get_timestamp()) - signed_at
    if not -_CLOCKS_DIFFER <= age <= _LIFE:
        return None
    visitor_id = value.decode()
    if age > _RENEWED_AFTER:
        _give_cookie(request, signer, visitor_id)
    return visitor_id


Reader = Annotated[str | None, Depends(_reader)]
"""The id in the request's cookie; None: it has none, or one that is forged or expired."""


async def _author(request: Request, services: InjectedServices, settings: InjectedSettings, reader: Reader) -> Visitor:
    if reader is not None:
        return Visitor(reader)
    visitor = Visitor(uuid.uuid4().hex, is_known=not {"origin", "sec-fetch-site"}.isdisjoint(request.headers))
    _give_cookie(request, await _signer(request, services, settings), visitor.id)
    return visitor


Author = Annotated[Visitor, Depends(_author)]
"""Who submits a job; a new visitor where the request has no cookie, which the answer then sets."""


def _give_cookie(request: Request, signer: TimestampSigner, visitor_id: str) -> None:
    request.scope[_SCOPE_KEY] = signer.sign(visitor_id).decode()


def withhold_cookie(request: Request) -> None:
    """Do not set a new visitor's cookie after all: the client, which sent none, has submitted this job before."""
    request.scope.pop(_SCOPE_KEY, None)


def set_cookie(request: Request, response: Response, settings: ApiSettings) -> None:
    """Set the cookie of a new visitor, or an old cookie's renewal, if this request has led to either and succeeded."""
    value = request.scope.get(_SCOPE_KEY)
    if value is None or response.status_code >= 400:
        return
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    by_https = "https" in (request.url.scheme, forwarded)
    response.set_cookie(
        COOKIE,
        value,
        max_age=int(_LIFE.total_seconds()),
        path=request.scope.get("root_path", "").rstrip("/") or "/",
        secure=settings.cookie_secure == "always" or (settings.cookie_secure == "auto" and by_https),
        httponly=True,
        samesite="lax",
    )
