"""Requests for music."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve_app.api.http.options import ApiSettings
from serve_app.api.http.requests import (
    MediaUrl,
    WireRequest,
    checked_with_query,
    is_json,
    is_multipart,
    media_type,
    read_json,
    refusal,
)
from serve_app.api.http.uploads import FILE_FIELD, UploadForm, form_content, open_uploads
from serve_app.api.video.requests import CallbackBase, JobId
from serve_app.jobs.record import MusicRequest
from serve_app.messages import Locale
from serve_app.results import MAX_MUSIC_S, MAX_SEED, MIN_MUSIC_S
from serve_app.sentences import Sentence
from serve_app.services import MusicFile

MAX_PROMPT_CHARS = 500
_OWN_PAGE = "page"  # `/music/page` is the list of pieces, so no piece may have this id
FORM_BYTES = 64 << 10  # of a form beside its picture
_FORM_TYPE = "application/x-www-form-urlencoded"
_MAX_FIELDS = 32


class DownloadFormat(StrEnum):
    """A file of a piece, as a client names it."""

    MP3 = "mp3"
    FLAC = "flac"
    MIDI = "mid"
    PICTURE = "picture"
    CAPTION = "caption"
    PLAN = "plan"

    @property
    def file(self) -> MusicFile:
        """The file's name in the artefact store."""
        return _FILES[self]


_FILES = {
    DownloadFormat.MP3: MusicFile.MP3,
    DownloadFormat.FLAC: MusicFile.FLAC,
    DownloadFormat.MIDI: MusicFile.MIDI,
    DownloadFormat.PICTURE: MusicFile.PICTURE,
    DownloadFormat.CAPTION: MusicFile.CAPTION,
    DownloadFormat.PLAN: MusicFile.PLAN,
}


def _clean(value: Any) -> Any:
    """Return text on one line, without control characters and marks that change its direction."""
    if not isinstance(value, str):
        return value
    shown = (
        "" if unicodedata.category(char) == "Cf" else " " if unicodedata.category(char)[0] in "CZ" else char
        for char in unicodedata.normalize("NFC", value)
    )
    return re.sub(" +", " ", "".join(shown)).strip()


def _check_free(job_id: str) -> str:
    if job_id == _OWN_PAGE:
        raise refusal("job_id_taken", Sentence("This id is the address of the list of pieces; choose another"))
    return job_id


class MusicFields(WireRequest, frozen=True):
    """What a caller may choose about a piece, beside its picture."""

    prompt: Annotated[str, BeforeValidator(_clean), Field(max_length=MAX_PROMPT_CHARS)] = Field(
        default="", description="what you want to hear, in a few words; they may name instruments and moods"
    )
    duration: float = Field(
        default=30.0, ge=MIN_MUSIC_S, le=MAX_MUSIC_S, allow_inf_nan=False, description="seconds of music"
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="of every random choice: the same picture and seed, the same piece"
    )
    locale: Literal["ko", "en"] | None = Field(
        default=None, description="language of messages and page; default: the operator's"
    )
    job_id: Annotated[JobId, AfterValidator(_check_free)] | None = Field(default=None, description="default: random")
    fastapi_base_url: CallbackBase = Field(default=None, description="base of the callback URL")

    def to_music_request(self, image_url: str | None, default_callback_base: str | None) -> MusicRequest:
        return MusicRequest(
            job_id=self.job_id or uuid.uuid4().hex,
            callback_base=self.fastapi_base_url,
            default_callback_base=None if self.fastapi_base_url else default_callback_base,
            locale=None if self.locale is None else Locale(self.locale),
            image_url=image_url,
            prompt=self.prompt,
            duration_s=self.duration,
            seed=self.seed,
        )


_ADDRESS = "`https://`, `http://` or `s3://` of the picture"


class MusicByAddress(MusicFields, frozen=True):
    """JSON body of `POST /generate-music`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image_url": "https://example.org/sea.jpg", "duration": 30, "seed": 7}]}
    )

    image_url: MediaUrl = Field(description=_ADDRESS)


class MusicForm(MusicFields, UploadForm, frozen=True):
    """Form of `POST /generate-music`, beside its file."""

    image_url: MediaUrl | None = Field(default=None, description=f"{_ADDRESS}, instead of `file`")


def music_content() -> dict[str, Any]:
    """Return OpenAPI's description of the bodies of `POST /generate-music`."""
    [form] = form_content(MusicForm).values()
    form["schema"]["properties"][FILE_FIELD]["description"] = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
    form["schema"]["required"].remove(FILE_FIELD)
    by_address = {"schema": MusicByAddress.model_json_schema()}
    return {"multipart/form-data": form, _FORM_TYPE: by_address, "application/json": by_address}


@asynccontextmanager
async def open_music_request(
    request: Request, settings: ApiSettings
) -> AsyncIterator[tuple[MusicRequest, BinaryIO | None]]:
    """Read a request of any of the three types; yield it with its picture, closed afterwards, or None by address.

    Raises:
        RequestValidationError: malformed, no picture, or two.
        HTTPException: 413, the picture is too large; 415, the body is of another type.
    """
    base = settings.backend_url
    if is_multipart(request):
        async with open_uploads(
            request, max_files=1, max_file_bytes=settings.max_image_bytes, may_lack_file=True
        ) as uploads:
            form = checked_with_query(MusicForm, dict(uploads.fields), request)
            picture = uploads.files[0].file if uploads.files else None
            if (picture is None) == (form.image_url is None):
                missing = Sentence("a picture is missing: send either file or image_url")
                twice = Sentence("two pictures were sent: send either file or image_url")
                raise _refused("picture_count", missing if picture is None else twice)
            yield form.to_music_request(form.image_url, base), picture
    elif is_json(request) or media_type(request) == _FORM_TYPE:
        data = await (read_json(request) if is_json(request) else _read_form(request))
        body = checked_with_query(MusicByAddress, data, request)
        yield body.to_music_request(body.image_url, base), None
    else:
        wanted = Sentence("Send multipart/form-data with a file, or {form} or JSON with image_url", form=_FORM_TYPE)
        raise HTTPException(415, wanted)


async def _read_form(request: Request) -> dict[str, str]:
    try:
        pairs = parse_qsl((await request.body()).decode(), errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:  # also no UTF-8
        raise _refused("form_malformed", Sentence("The form can't be read")) from error
    if len(dict(pairs)) < len(pairs):
        raise _refused("field_repeated", Sentence("Send each field once"))
    return dict(pairs)


def _refused(kind: str, sentence: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body",), "msg": sentence}])
