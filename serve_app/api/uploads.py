"""Uploaded recordings: multipart/form-data, streamed to a temporary file, with fields that are checked one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

import anyio
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

FILE_FIELD = "file"
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 64 * 1024
_MAX_NAME_CHARS = 255
# line ends, terminal escapes, and marks that turn the direction of what follows them
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording and what was said of it.

    Attributes:
        file: its bytes, at the start; closed by whoever read the form.
        filename: fit to be shown.
        fields: the other fields, as sent; those in `repeatable` as lists.
    """

    file: BinaryIO
    filename: str
    fields: Mapping[str, str | list[str]]


def is_multipart(request: Request) -> bool:
    """Tell whether a request says that it is a form with a file."""
    return media_type(request) == "multipart/form-data"


def media_type(request: Request) -> str:
    """Return the media type of a request's body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def open_upload(request: Request, *, repeatable: Collection[str] = ()) -> AsyncIterator[Upload]:
    """Read a form to its end and hand out its recording, which is closed and gone afterwards.

    The recording lies in memory up to 1 MB and in a temporary file beyond; how long the body may be is the route's
    to say (`ApiRoute.max_bytes`).

    Args:
        request: whose body has not been read.
        repeatable: fields that may be sent more than once.

    Raises:
        RequestValidationError: no form, no recording, two of them, an empty one, or a field sent twice; names the
            field.
    """
    # not request.form(), which would answer 400 for each of these
    parser = _Parser(
        request.headers, request.stream(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
        if not parser.ended:
            raise MultiPartException("The form is cut off: its last boundary is missing.")
    except MultiPartException as error:
        sentence = f"{error.message} Send one file, named {FILE_FIELD}, and each other field once"
        raise _refused((), "form_malformed", sentence) from error
    try:
        file, filename = _recording(form)
        yield Upload(file, filename, _fields(form, repeatable))
    finally:
        with anyio.CancelScope(shield=True):  # also where the server cancels the route
            await form.close()


class _Parser(MultiPartParser):
    """Also tells whether the form was whole; Starlette's drops an unfinished part without a word."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


def display_name(path: str) -> str:
    """Return the last part of a path, fit to be shown or logged; `media` if nothing is left of it."""
    name = unicodedata.normalize("NFC", _NOT_SHOWN.sub("", path)).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name.strip()[:_MAX_NAME_CHARS] or "media"


def _recording(form: FormData) -> tuple[BinaryIO, str]:
    files = {name: value for name, value in form.multi_items() if isinstance(value, UploadFile)}
    for name in files.keys() - {FILE_FIELD}:
        raise _refused((name,), "file_unexpected", f"No file is expected here; name it {FILE_FIELD}")
    upload = files.get(FILE_FIELD)
    if upload is None:
        said = "was sent as text: send it as a part with a filename" if FILE_FIELD in form else "is missing"
        raise _refused((FILE_FIELD,), "missing", f"The recording {said}")
    if not upload.size:
        raise _refused((FILE_FIELD,), "file_empty", "The file is empty")
    return upload.file, display_name(upload.filename or "")


def _fields(form: FormData, repeatable: Collection[str]) -> dict[str, str | list[str]]:
    fields: dict[str, str | list[str]] = {}
    for name in form:
        values: Sequence[str] = [value for value in form.getlist(name) if isinstance(value, str)]
        if len(values) > 1 and name not in repeatable:
            raise _refused((name,), "field_repeated", "Send this field once")
        if name == FILE_FIELD and values:
            raise _refused((name,), "field_repeated", "The recording was sent as text, too")
        given = [value for value in values if value]  # a browser sends what was left empty
        if given:
            fields[name] = given if name in repeatable else given[0]
    return fields


def _refused(location: tuple[str, ...], kind: str, sentence: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *location), "msg": sentence}])
