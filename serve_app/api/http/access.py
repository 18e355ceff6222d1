"""Who may call a route: by API key, by the site whose page sent the request, and by the name it was sent to.

Every route declares what it takes, by `needs(Scope…)` or `open_to_all`; one that declares nothing can't be built.

    keys on     a route takes a key with its scope: 401 without a valid one, 403 without the scope
    keys off    everybody may call, by a name of this server: DNS rebinding sends another in `Host` (421)
    always      a page of another site may change nothing (403)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.responses import Response

from serve_app.api.http.accept import wants_page
from serve_app.api.http.browsers import check_host, check_site
from serve_app.api.http.options import ApiSettings
from serve_app.api.http.rate_limit import RateLimiter
from serve_app.api.http.request_context import API_KEY
from serve_app.errors import NotAllowed, NotIdentified, StorageUnavailable
from serve_app.jobs.record import ApiKey, Scope
from serve_app.sentences import Sentence
from serve_app.services import KeyService

_RATE = "serve_app.rate_limit"
_DECLARED = "serve_app_scope"
_SEND = Sentence("send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
_MAKE = Sentence("the operator makes one with `serve-app keys create`")

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "API key, where the operator asks for keys"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "any name, and the API key as the password"},
}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Declare the scope that a route's callers need where keys are on."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _DECLARED, scope)
        return endpoint

    return declare


def open_to_all(endpoint: Endpoint) -> Endpoint:
    """Declare a route that takes no key; `Caller` is one that was sent and is valid."""
    setattr(endpoint, _DECLARED, None)
    return endpoint


def declared_scope(endpoint: Callable[..., Any]) -> Scope | None:
    """Return what a route declares; None: it is open. TypeError: it declares nothing."""
    if not hasattr(endpoint, _DECLARED):
        raise TypeError(f"{endpoint.__name__} declares no scope: decorate it with needs(Scope.…) or open_to_all")
    scope: Scope | None = getattr(endpoint, _DECLARED)
    return scope


class Access:
    """Admits requests to the routes of one application."""

    def __init__(self, keys: KeyService, settings: ApiSettings) -> None:
        self._keys = keys
        self._settings = settings
        self._limiter = RateLimiter()

    async def admit(self, request: Request, scope: Scope | None) -> None:
        """Check a request before its body is read.

        Raises:
            NotIdentified: no valid key.
            NotAllowed: the key lacks the scope, or a page of another site sent this.
            RateLimited: the key has used up its requests.
            StorageUnavailable: keys can't be checked.
            HTTPException: 421, `Host` is no name of this server.
        """
        check_host(request.headers, self._settings.hosts)
        if request.method not in ("GET", "HEAD"):
            check_site(request.headers, self._settings.cors_origins)
        if not self._settings.keys_on:
            return
        if scope is None:
            await self._look_at(request)
            return
        key = await self._identify(request.headers)
        request.scope[API_KEY] = key
        if key.requests_per_minute is not None:
            rate = self._limiter.take(key.id, key.requests_per_minute)
            request.scope[_RATE] = rate.headers()
            rate.require()
        if not key.allows(scope):
            has = ", ".join(sorted(key.scopes))
            raise NotAllowed(
                Sentence("This needs an API key with the scope {scope}; yours has {has}", scope=scope, has=has)
            )

    async def _look_at(self, request: Request) -> None:
        secret = _secret(request.headers)
        if secret is not None:
            try:
                request.scope[API_KEY] = await self._keys.find(secret)
            except StorageUnavailable:  # a probe must not fail by it
                return

    async def _identify(self, headers: Headers) -> ApiKey:
        secret = _secret(headers)
        key = None if secret is None else await self._keys.find(secret)
        if key is not None:
            return key
        if not await self._keys.exist():
            raise NotIdentified(
                Sentence(
                    "This service asks for an API key, and there is none yet: {make}; then {send}",
                    make=_MAKE,
                    send=_SEND,
                )
            )
        if secret is None:
            raise NotIdentified(Sentence("This service asks for an API key: {send}; {make}", send=_SEND, make=_MAKE))
        raise NotIdentified(Sentence("This API key is unknown, or was revoked; {make}", make=_MAKE))


def _secret(headers: Headers) -> str | None:
    """Return the key that a request carries; `X-API-Key` wins: `Authorization` may be for a gateway."""
    if own := headers.get("x-api-key", "").strip():
        return own
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    elif scheme.lower() != "bearer":
        return None
    return value.strip() or None


async def _caller(request: Request) -> ApiKey | None:
    key: ApiKey | None = request.scope.get(API_KEY)
    return key


Caller = Annotated[ApiKey | None, Depends(_caller)]
"""The key of the request; None: keys are off, or the route is open and none was sent."""


async def _shows_details(request: Request) -> bool:
    settings: ApiSettings = request.app.state.settings
    key = await _caller(request)
    return not settings.keys_on or (key is not None and key.allows(Scope.ADMIN))


ShowsDetails = Annotated[bool, Depends(_shows_details)]
"""Whether an open route may answer what is meant for the operator alone."""


def challenge(request: Request) -> str:
    """Return the `WWW-Authenticate` of a 401: a browser that opens a page asks for the key itself."""
    return 'Basic realm="serve-app", charset="UTF-8"' if wants_page(request) else 'Bearer realm="serve-app"'


def add_rate_headers(request: Request, response: Response) -> None:
    """Tell a key with a limit how much of it is left."""
    response.headers.update(request.scope.get(_RATE, {}))
