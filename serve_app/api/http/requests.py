"""Bodies of requests: their limits, JSON that a route reads by hand, and objects whose fields are checked.

Numbers and booleans are read as leniently as by the services replaced ("4" and "true" are fine). An explicit null, an
empty text and an empty list mean "not given", in a query too. Unsafe text is refused with a sentence that names the
field. So are unknown fields, but on the routes of those services: there the header `X-Ignored-Fields` names them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import quote, unquote_plus

from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from serve_app.api.http.wrong_fields import sentence_of
from serve_app.sentences import Sentence

MAX_URL_CHARS = 8192  # presigned S3 URLs with session tokens reach about 2000

_MAX_KEYS = 4  # of an object, times its fields: with more it is no request of this kind, and each costs an error

IGNORED_HEADER = "X-Ignored-Fields"
_IGNORED = "serve_app.ignored_fields"
_MAX_IGNORED = 16  # names in the header; of more, their number
_MAX_IGNORED_CHARS = 64  # of a name

_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})  # of Content-Encoding

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
    """Return the request with a body that raises HTTPException 413 once it exceeds `max_bytes`; 415 if compressed.

    Its query is without the parameters that are empty. A declared length is checked before the first read; a chunked
    body is counted as it comes. Starlette's own middleware would answer in plain text, past the routes' error forms.
    """
    # other values are no compression, such as a charset that a client writes there
    if (encoding := request.headers.get("content-encoding", "").strip().lower()) in _COMPRESSED:
        sentence = Sentence("Send the body without compression; {encoding} is not read here", encoding=encoding)
        raise HTTPException(415, sentence, {"Accept-Encoding": "identity"})
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
            raise HTTPException(413, Sentence("The body exceeds {num} bytes", num=max_bytes), {"Connection": "close"})
        return message

    request.scope["query_string"] = _given(request.scope.get("query_string", b""))
    return Request(request.scope, receive)


def _given(query: bytes) -> bytes:
    """Return a query without its empty parameters."""
    pairs = query.split(b"&")
    return b"&".join(pair for pair in pairs if unquote_plus(pair.partition(b"=")[2].decode("latin-1")).strip())


def note_ignored(request: Request, names: Iterable[str]) -> None:
    """Note what the caller sent and nothing reads, for `add_ignored_header`."""
    request.scope.setdefault(_IGNORED, {}).update(dict.fromkeys(names))


def add_ignored_header(request: Request, response: Response) -> None:
    """Name what was ignored, percent-encoded, as the names are the caller's text."""
    names = list(request.scope.get(_IGNORED, ()))
    if names:
        told = [quote(name[:_MAX_IGNORED_CHARS].encode("utf-8", "replace")) for name in names[:_MAX_IGNORED]]
        more = [f"({num} more)"] if (num := len(names) - _MAX_IGNORED) > 0 else []
        response.headers[IGNORED_HEADER] = ", ".join((*told, *more))


def check_text(text: str, *, refused: re.Pattern[str] = _CONTROL_CHARACTER) -> str:
    """Return a text without characters that are refused; the error of a validator where it has one."""
    if refused.search(text):
        raise refusal("control_character", Sentence("Control characters are not allowed"))
    return text


def refusal(kind: str, sentence: str) -> PydanticCustomError:
    """Return the error of a validator, which keeps its sentence's translations."""
    return PydanticCustomError(kind, "{sentence}", {"sentence": sentence})


def without_blanks(value: Any) -> Any:
    """Return text without the blanks and line ends around it."""
    return value.strip(" \t\r\n") if isinstance(value, str) else value


def is_given(value: Any) -> bool:
    """Return whether a field's value says anything."""
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


MediaUrl = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL_CHARS),
    AfterValidator(check_text),
    BeforeValidator(without_blanks),  # last: bounds below it would let half a surrogate pair pass
]


class WireRequest(BaseModel, extra="forbid", frozen=True):
    """A JSON object whose every field is known; a class with `extra="ignore"` may have others, and lists them."""

    _ignored: tuple[str, ...] = PrivateAttr(())

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the fields that the class does not know."""
        return self._ignored

    @classmethod
    def known_names(cls) -> frozenset[str]:
        """Return the names under which the fields come in."""
        names = set(cls.model_fields)
        for field in cls.model_fields.values():
            alias = field.validation_alias
            names |= {str(each) for each in (alias.choices if isinstance(alias, AliasChoices) else [alias]) if each}
        return frozenset(names)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        ignored: tuple[str, ...] = ()
        if isinstance(data, dict):
            if len(data) > _MAX_KEYS * len(cls.model_fields):
                sentence = Sentence(
                    "This object has {num} fields, of the {known} that this request knows; leave the others out",
                    num=len(data),
                    known=len(cls.model_fields),
                )
                raise refusal("too_many_fields", sentence)
            known = cls.known_names()
            data = {name: value for name, value in data.items() if name not in known or is_given(value)}
            if cls.model_config["extra"] == "ignore":
                ignored = tuple(name for name in data if name not in known)
        try:
            request = handler(data)
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
        request._ignored = ignored  # type: ignore[misc]  # private attributes are not frozen
        return request

    @classmethod
    def _sentence(cls, kind: str, sentence: str) -> Any:
        if kind == "extra_forbidden":
            return Sentence("Unknown field. Allowed: {names}", names=", ".join(cls.model_fields))
        if kind in ("model_type", "model_attributes_type"):
            return Sentence("Send a JSON object, with Content-Type: application/json")
        return sentence


_RequestT = TypeVar("_RequestT", bound=WireRequest)


def checked(kind: type[_RequestT], data: Any, in_query: Collection[str] = ()) -> _RequestT:
    """Validate what a route has read by hand; RequestValidationError, as FastAPI raises it, names each wrong field.

    Args:
        kind: of the request.
        data: its JSON, or a form's fields.
        in_query: names of the fields that came in the query.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        fields = [
            {**item, "loc": ("query" if set(item["loc"][:1]) & set(in_query) else "body", *item["loc"])}
            for item in error.errors(include_url=False)
        ]
        raise RequestValidationError(fields) from error


def checked_with_query(kind: type[_RequestT], data: Any, request: Request) -> _RequestT:
    """Do what `checked` does, for a route whose fields may come in the query too, and note what it does not know.

    A field that has different values in the query and in the body is refused.
    """
    known = kind.known_names()
    query = {name: value for name, value in request.query_params.items() if name in known}
    note_ignored(request, [name for name in request.query_params if name not in known])
    if not query or not isinstance(data, dict):
        body = checked(kind, data)
    else:
        sent = {name: value for name, value in data.items() if is_given(value)}
        body = checked(kind, {**query, **sent}, in_query=query.keys() - sent.keys())
        for name in query.keys() & sent.keys():
            if checked(kind, {**sent, name: query[name]}, in_query=(name,)) != body:
                sentence = Sentence("This field has another value in the body; send it once")
                raise RequestValidationError([{"type": "field_repeated", "loc": ("query", name), "msg": sentence}])
    note_ignored(request, body.ignored)
    return body
