"""Forms with files: multipart/form-data, streamed to temporary files, with fields that are checked one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import anyio
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve_app.api.http.requests import WireRequest

FILE_FIELD = "file"
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 64 * 1024
SPOOL_BYTES = 1 << 20  # of a form's files in memory
_MAX_NAME_CHARS = 255
# line ends, terminal escapes, and marks that turn the direction of what follows them
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file of a form, at its start, and a name of it that is safe to show."""

    file: BinaryIO
    filename: str


@dataclass(frozen=True, slots=True)
class Upload(UploadedFile):
    """A form with one file; its other fields as in `Uploads`."""

    fields: Mapping[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Uploads:
    """A form: its files, at least one if it must have any, in order; its other fields, as lists where `repeatable`."""

    files: tuple[UploadedFile, ...]
    fields: Mapping[str, str | list[str]]


class UploadForm(WireRequest, frozen=True):
    """Fields beside the files of a form; an empty field counts as not given."""

    @classmethod
    def _sentence(cls, kind: str, sentence: str) -> Any:
        if kind == "extra_forbidden":
            names = (str(field.alias or name) for name, field in cls.model_fields.items())
            return f"Unknown field. Allowed: {', '.join((FILE_FIELD, *names))}"
        return super()._sentence(kind, sentence)


def form_content(form: type[BaseModel]) -> dict[str, Any]:
    """Return OpenAPI's description of a form with one recording."""
    schema = form.model_json_schema(by_alias=True)
    recording = {"type": "string", "format": "binary", "description": "audio or video in any common container"}
    schema["properties"] = {FILE_FIELD: recording, **schema["properties"]}
    schema["required"] = [FILE_FIELD, *schema.get("required", [])]
    return {"multipart/form-data": {"schema": schema}}


@asynccontextmanager
async def open_upload(
    request: Request, *, repeatable: Collection[str] = (), refused: Mapping[str, str] | None = None
) -> AsyncIterator[Upload]:
    """Do what `open_uploads` does, for a form with one file."""
    async with open_uploads(request, max_files=1, repeatable=repeatable, refused=refused) as form:
        [sent] = form.files
        yield Upload(sent.file, sent.filename, form.fields)


@asynccontextmanager
async def open_uploads(
    request: Request,
    *,
    max_files: int,
    repeatable: Collection[str] = (),
    refused: Mapping[str, str] | None = None,
    max_file_bytes: int | None = None,
    spool_bytes: int = SPOOL_BYTES,
    may_lack_file: bool = False,
) -> AsyncIterator[Uploads]:
    """Read a form to its end and yield its files, which are closed and gone afterwards.

    `ApiRoute.max_bytes` limits the body. Among several files one may be empty: it must not fail the others.

    Args:
        request: whose body has not been read.
        max_files: how many files it may have, each in a field named `file`.
        repeatable: other fields that may be sent more than once.
        refused: fields that other servers take, of any length, and why they are refused here.
        max_file_bytes: of one file; None: no limit but the body's.
        spool_bytes: of all files together in memory; the rest lies in temporary files.
        may_lack_file: whether a form without a file is one too; a browser sends an empty one without a name then.

    Raises:
        RequestValidationError: no form, no file, too many files, a single empty one, a field sent twice or refused.
        HTTPException: 413, a file is too long.
    """
    # not request.form(), which would answer 400 for each of these
    parser = _Parser(
        request.headers, request.stream(), max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    )
    parser.spool_max_size = spool_bytes // max_files
    parser.max_file_bytes = max_file_bytes
    parser.refused = refused or {}
    try:
        form = await parser.parse()
        if not parser.ended:
            raise MultiPartException("The form is cut off: its last boundary is missing.")
    except MultiPartException as error:
        files = "one file, named" if max_files == 1 else f"up to {max_files} files, each named"
        sentence = f"{error.message} Send {files} {FILE_FIELD}, and each other field once"
        raise _refused((), "form_malformed", sentence) from error
    try:
        if parser.refused_name is not None:
            raise _refused((parser.refused_name,), "field_unsupported", parser.refused[parser.refused_name])
        yield Uploads(_files(form, may_lack_file), _fields(form, repeatable))
    finally:
        with anyio.CancelScope(shield=True):  # also where the server cancels the route
            await form.close()


class _Parser(MultiPartParser):
    """Starlette's parser with limits of files.

    `ended`: the form is whole (Starlette drops an unfinished part). Of the fields in `refused` it keeps the first name.
    """

    ended = False
    max_file_bytes: int | None = None
    refused: Mapping[str, str]
    refused_name: str | None = None
    _file_bytes = 0

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._file_bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and part.field_name in self.refused:
            self.refused_name = self.refused_name or part.field_name
            return
        super().on_part_data(data, start, end)
        if part.file is None:
            return  # a field, which Starlette bounds
        self._file_bytes += end - start
        if self.max_file_bytes is not None and self._file_bytes > self.max_file_bytes:
            # the rest of the body is not read, so the connection can't serve another request
            raise HTTPException(413, f"A file exceeds {self.max_file_bytes} bytes", {"Connection": "close"})

    def on_end(self) -> None:
        self.ended = True


def display_name(path: str) -> str:
    """Return the last part of a path, fit to be shown or logged; `media` if nothing is left of it."""
    name = unicodedata.normalize("NFC", _NOT_SHOWN.sub("", path)).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name.strip()[:_MAX_NAME_CHARS] or "media"


def url_display_name(url: str) -> str:
    """Return `display_name` of an address's path."""
    try:
        path = urlsplit(url).path
    except ValueError:
        path = url
    return display_name(unquote(path))


def _files(form: FormData, may_be_none: bool) -> tuple[UploadedFile, ...]:
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if may_be_none:
        files = [(name, upload) for name, upload in files if upload.filename or upload.size]
        if not files and not any(isinstance(value, str) and value for value in form.getlist(FILE_FIELD)):
            return ()
    for name, _ in files:
        if name != FILE_FIELD:
            raise _refused((name,), "file_unexpected", f"No file is expected here; name it {FILE_FIELD}")
    if not files:
        problem = "was sent as text: send it as a part with a filename" if FILE_FIELD in form else "is missing"
        raise _refused((FILE_FIELD,), "missing", f"The file {problem}")
    if len(files) == 1 and not files[0][1].size:
        raise _refused((FILE_FIELD,), "file_empty", "The file is empty")
    return tuple(UploadedFile(upload.file, display_name(upload.filename or "")) for _, upload in files)


def _fields(form: FormData, repeatable: Collection[str]) -> dict[str, str | list[str]]:
    fields: dict[str, str | list[str]] = {}
    for name in form:
        values: Sequence[str] = [value for value in form.getlist(name) if isinstance(value, str)]
        if len(values) > 1 and name not in repeatable:
            raise _refused((name,), "field_repeated", "Send this field once")
        if name == FILE_FIELD and values:
            raise _refused((name,), "field_repeated", "A file was sent as text, too")
        given = [value for value in values if value]  # a browser sends what was left empty
        if given:
            fields[name] = given if name in repeatable else given[0]
    return fields


def _refused(location: tuple[str, ...], kind: str, sentence: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *location), "msg": sentence}])
