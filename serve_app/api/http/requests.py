"""Bodies of requests: their limits, JSON that a route reads by hand, and objects whose fields are checked.

Numbers and booleans are read as leniently as by the services replaced ("4" and "true" are fine), and an explicit null
means "not given". Unknown fields and unsafe text are refused with a sentence that names the field.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Self, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from serve_app.api.http.wrong_fields import sentence_of

MAX_URL_CHARS = 8192  # presigned S3 URLs with session tokens reach about 2000

_MAX_KEYS = 4  # of an object, times its fields: with more it is no request of this kind, and each costs an error

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_multipart(request: Request) -> bool:
    return media_type(request) == "multipart/form-data"


def is_json(request: Request) -> bool:
    sent = media_type(request)
    return sent == "application/json" or sent.endswith("+json")


async def read_json(request: Request) -> Any:
    """Return a body's JSON, for a route that also takes forms; RequestValidationError as FastAPI raises it."""
    raw = await request.body()
    try:
        # not model_validate_json: its errors would not be those of the other routes
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        field = {"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error"}
        raise RequestValidationError([field]) from error


def limited(request: Request, max_bytes: int) -> Request:
    """Return the request with a body that raises HTTPException 413 once it exceeds `max_bytes`.

    A declared length is checked before the first read; a chunked body is counted as it comes. Starlette's own
    middleware would answer in plain text, past the routes' error forms.
    """
    declared = request.headers.get("content-length", "")
    num_bytes = int(declared) if declared.isdecimal() and int(declared) > max_bytes else 0

    async def receive() -> Message:
        nonlocal num_bytes
        message: Message = {}
        if num_bytes <= max_bytes:
            message = await request.receive()
            num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            # the rest of the body is not read, so the connection can't serve another request
            raise HTTPException(413, f"The body exceeds {max_bytes} bytes", {"Connection": "close"})
        return message

    return Request(request.scope, receive)


def check_text(text: str) -> str:
    if _CONTROL_CHARACTER.search(text):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return text


def blank_to_none(value: Any) -> Any:
    return None if value == "" else value


MediaUrl = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS), AfterValidator(check_text)]
OptionalMediaUrl = Annotated[MediaUrl | None, BeforeValidator(blank_to_none)]


class WireRequest(BaseModel, extra="forbid", frozen=True):
    """A JSON object whose every field is known."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, dict):
            if len(data) > _MAX_KEYS * len(cls.model_fields):
                raise PydanticCustomError(
                    "too_many_fields",
                    "This object has {num} fields, of the {known} that this request knows; leave the others out",
                    {"num": len(data), "known": len(cls.model_fields)},
                )
            data = {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}
        try:
            return handler(data)
        except ValidationError as error:
            details = [
                InitErrorDetails(
                    type=PydanticCustomError(
                        item["type"], "{sentence}", {"sentence": cls._sentence(item["type"], sentence_of(item))}
                    ),
                    loc=item["loc"],
                    input=None,
                )
                for item in error.errors(include_url=False, include_input=False)
            ]
            raise ValidationError.from_exception_data(cls.__name__, details) from error

    @classmethod
    def _sentence(cls, kind: str, sentence: str) -> Any:
        if kind == "extra_forbidden":
            return f"Unknown field. Allowed: {', '.join(cls.model_fields)}"
        if kind in ("model_type", "model_attributes_type"):
            return "Send a JSON object, with Content-Type: application/json"
        return sentence


_RequestT = TypeVar("_RequestT", bound=WireRequest)


def checked(kind: type[_RequestT], data: Any) -> _RequestT:
    """Validate what a route has read by hand; RequestValidationError, as FastAPI raises it, names each wrong field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        fields = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(fields) from error
