"""Forms with files: multipart/form-data, streamed to temporary files, with fields that are checked one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import anyio
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve_app.api.http.part_names import decoded, names_of_part
from serve_app.api.http.requests import WireRequest, is_given, note_ignored
from serve_app.api.http.wrong_fields import foreign_sentence
from serve_app.sentences import Sentence

FILE_FIELD = "file"
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 64 * 1024
_MAX_LEFT_OUT = 1000  # parts that nothing reads; Starlette's own limit of fields
_MAX_PREAMBLE_BYTES = 8192  # before the first boundary (RFC 2046, section 5.1.1)
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
            return Sentence("Unknown field. Allowed: {names}", names=", ".join((FILE_FIELD, *names)))
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
    request: Request,
    *,
    repeatable: Collection[str] = (),
    refused: Mapping[str, str] | None = None,
    known: Collection[str] | None = None,
) -> AsyncIterator[Upload]:
    """Do what `open_uploads` does, for a form with one file."""
    async with open_uploads(request, max_files=1, repeatable=repeatable, refused=refused, known=known) as form:
        [sent] = form.files
        yield Upload(sent.file, sent.filename, form.fields)


@asynccontextmanager
async def open_uploads(
    request: Request,
    *,
    max_files: int,
    repeatable: Collection[str] = (),
    refused: Mapping[str, str] | None = None,
    known: Collection[str] | None = None,
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
        known: of a route of the services replaced: all other fields and files are left out, of any length, and noted
            by `note_ignored`. None: a file of another name is refused, and any field is handed on.
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
    parser.known = known
    try:
        form = await parser.parse()
        if not parser.ended:
            raise MultiPartException(Sentence("The form is cut off: its last boundary is missing."))
    except MultiPartException as error:
        raise _refused((), "form_malformed", _how_to_send(foreign_sentence(error.message), max_files)) from error
    try:
        if parser.refused_name is not None:
            raise _refused((parser.refused_name,), "field_unsupported", parser.refused[parser.refused_name])
        note_ignored(request, parser.ignored)
        yield Uploads(_files(form, may_lack_file, parser.ignored_file), _fields(form, repeatable))
    finally:
        with anyio.CancelScope(shield=True):  # also where the server cancels the route
            await form.close()


class _Parser(MultiPartParser):
    """Starlette's parser with limits of files, and names of files in all the ways in which clients write them.

    `ended`: the form is whole (Starlette drops an unfinished part). Of the fields in `refused` it keeps the first name,
    and of the parts that are not `known` all names.
    """

    ended = False
    max_file_bytes: int | None = None
    refused: Mapping[str, str]
    refused_name: str | None = None
    known: Collection[str] | None = None
    ignored_file: str | None = None
    _file_bytes = 0
    _is_left_out = False
    _num_left_out = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignored: dict[str, None] = {}
        boundary = parse_options_header(self.headers.get("Content-Type"))[1].get(b"boundary")
        if boundary:
            self.stream = _from_boundary(self.stream, b"--" + boundary)

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._file_bytes = 0

    def on_headers_finished(self) -> None:
        if self._charset == "undefined":  # from JavaScript; Python has a codec of this name that always fails
            self._charset = "utf-8"
        part = self._current_part
        name, filename = names_of_part(part.content_disposition or b"", self._charset)
        is_known = self.known is None or name is None or name == FILE_FIELD or name in self.known
        self._is_left_out = not is_known or name in self.refused
        is_file = filename is not None and not self._is_left_out
        # in plain ASCII for Starlette, which leaves `filename*` out
        plain = (b'; name="field"' if name is not None else b"") + (b'; filename="file"' if is_file else b"")
        part.content_disposition = b"form-data" + plain
        super().on_headers_finished()
        if self._is_left_out:  # these do not use up the number of the others
            self._current_fields -= 1
            self._num_left_out += 1
            if self._num_left_out > _MAX_LEFT_OUT:
                raise MultiPartException(f"Too many fields. Maximum number of fields is {_MAX_LEFT_OUT}.")
        part.field_name = name or ""
        if part.file is not None:
            part.file.filename = filename
        if not is_known:
            self.ignored[part.field_name] = None
            if filename is not None:
                self.ignored_file = self.ignored_file or part.field_name

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if self._is_left_out:
            if part.field_name in self.refused:
                self.refused_name = self.refused_name or part.field_name
            return
        if part.file is None:
            if part.field_name == FILE_FIELD:  # refused at the end, by its own sentence; so however long it is
                end = min(end, start + 1 - len(part.data))
            super().on_part_data(data, start, end)
            return
        super().on_part_data(data, start, end)
        self._file_bytes += end - start
        if self.max_file_bytes is not None and self._file_bytes > self.max_file_bytes:
            # the rest of the body is not read, so the connection can't serve another request
            sentence = Sentence("A file exceeds {num} bytes", num=self.max_file_bytes)
            raise HTTPException(413, sentence, {"Connection": "close"})

    def on_part_end(self) -> None:
        part = self._current_part
        if self._is_left_out:
            return
        if part.file is None:
            self.items.append((part.field_name, decoded(bytes(part.data), self._charset)))
        else:
            super().on_part_end()

    def on_end(self) -> None:
        self.ended = True


async def _from_boundary(stream: AsyncIterator[bytes], boundary: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a form from its first boundary on: what stands before it is for readers that know no forms."""
    read, has_begun = b"", False
    async for chunk in stream:
        if not has_begun:
            read += chunk
            at = 0 if read.startswith(boundary) else read.find(b"\r\n" + boundary, 0, _MAX_PREAMBLE_BYTES)
            has_begun = at >= 0 or len(read) > _MAX_PREAMBLE_BYTES
            chunk = read[max(at, 0) :] if has_begun else b""
        if chunk:
            yield chunk
    if not has_begun:
        yield read


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


def _files(form: FormData, may_be_none: bool, other: str | None) -> tuple[UploadedFile, ...]:
    """Return a form's files; `other` is the name of one that was left out."""
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if may_be_none:
        files = [(name, upload) for name, upload in files if upload.filename or upload.size]
        if not files and not any(isinstance(value, str) and value for value in form.getlist(FILE_FIELD)):
            return ()
    for name in [name for name, _ in files if name != FILE_FIELD] or (
        [other] if other is not None and not files else []
    ):
        sentence = Sentence("No file is expected here; name it {name}", name=FILE_FIELD)
        raise _refused((name,), "file_unexpected", sentence)
    if not files:
        if FILE_FIELD in form:
            sentence = Sentence("The file was sent as text: send it as a part with a filename")
        else:
            sentence = Sentence("The file is missing")
        raise _refused((FILE_FIELD,), "missing", sentence)
    if len(files) == 1 and not files[0][1].size:
        raise _refused((FILE_FIELD,), "file_empty", Sentence("The file is empty"))
    return tuple(UploadedFile(upload.file, display_name(upload.filename or "")) for _, upload in files)


def _fields(form: FormData, repeatable: Collection[str]) -> dict[str, str | list[str]]:
    fields: dict[str, str | list[str]] = {}
    for name in form:
        values: Sequence[str] = [value for value in form.getlist(name) if isinstance(value, str)]
        if len(set(values)) > 1 and name not in repeatable:
            raise _refused((name,), "field_repeated", Sentence("Send this field once"))
        if name == FILE_FIELD and values:
            raise _refused((name,), "field_repeated", Sentence("A file was sent as text, too"))
        given = [value for value in values if is_given(value)]  # a browser sends what was left empty
        if given:
            fields[name] = given if name in repeatable else given[0]
    return fields


def _how_to_send(problem: str, max_files: int) -> Sentence:
    if max_files == 1:
        return Sentence(
            "{problem} Send one file, named {name}, and each other field once", problem=problem, name=FILE_FIELD
        )
    return Sentence(
        "{problem} Send up to {most} files, each named {name}, and each other field once",
        problem=problem,
        most=max_files,
        name=FILE_FIELD,
    )


def _refused(location: tuple[str, ...], kind: str, sentence: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *location), "msg": sentence}])
