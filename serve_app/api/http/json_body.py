"""JSON bodies of routes that also take forms, which FastAPI's parameters can't say: read by hand, told as it tells."""

from __future__ import annotations

import json
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from serve_app.api.http.uploads import media_type


def is_json(request: Request) -> bool:
    """Tell whether a request says that its body is JSON."""
    sent = media_type(request)
    return sent == "application/json" or sent.endswith("+json")


async def read_json(request: Request) -> Any:
    """Return a body's JSON; RequestValidationError where it is none."""
    raw = await request.body()
    try:
        # not model_validate_json: its errors would not be those that every other route tells
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        field = {"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error"}
        raise RequestValidationError([field]) from error
