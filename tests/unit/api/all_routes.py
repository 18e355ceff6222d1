"""All routes of an application, also those of the routers that it includes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from serve_app.api.app import DOCS_PATH, REDOC_PATH
from serve_app.api.http.failures import ApiRoute


def all_routes(app: Any) -> list[ApiRoute]:
    """Return every route but those of the documentation; AssertionError where one is not guarded by `Access`."""
    found = []
    for route in _walk(app.routes):
        if getattr(route, "path", "") in ("/openapi.json", DOCS_PATH, REDOC_PATH):
            continue
        assert isinstance(route, ApiRoute), f"{route!r} is no ApiRoute, so that nothing guards it"
        found.append(route)
    assert len(found) > 30  # the walk found the routes
    return found


def _walk(routes: Sequence[Any]) -> Iterator[Any]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            assert not route.include_context.prefix, "the paths of an included router would lack its prefix"
            yield from _walk(included.routes)
