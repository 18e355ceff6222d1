"""Requests with pictures: forms and JSON objects with addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, Self, TypeVar

from pydantic import Field, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve_app.api.http.options import ApiSettings
from serve_app.api.http.requests import WireRequest, checked_with_query, is_json, is_multipart, read_json, refusal
from serve_app.api.http.uploads import FILE_FIELD, UploadForm, form_content, open_uploads, url_display_name
from serve_app.api.images.data_urls import ImageAddress, is_data, picture_in
from serve_app.sentences import Sentence

MAX_FILES = 32  # more are better sent in several requests: one lost connection costs them all
_SPOOL_BYTES = 64 << 20


class BeverageOptions(WireRequest, frozen=True):
    """What a caller may choose about the detection of a drink."""

    confidence_threshold: float = Field(
        default=0.7, ge=0, le=1, description="the least confidence of a drink that is valid"
    )


class ContainerForm(UploadForm, frozen=True, extra="ignore"):
    """Fields beside the pictures."""


class BeverageForm(BeverageOptions, ContainerForm, frozen=True):
    """Fields beside the pictures."""


class ImageLinks(WireRequest, frozen=True, extra="ignore"):
    """Pictures by address instead of by upload."""

    image_url: ImageAddress | None = Field(
        default=None,
        description="`https://`, `http://`, `s3://`, or a short `data:` address; a local path only where the operator"
        " allows a folder",
    )
    image_urls: list[ImageAddress] | None = Field(
        default=None, max_length=MAX_FILES, description="several, answered as a batch"
    )

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.image_url is None) == (self.image_urls is None):
            raise refusal("image_missing", Sentence("Give either image_url or image_urls"))
        return self

    @property
    def urls(self) -> list[str]:
        return self.image_urls or [self.image_url or ""]


class BeverageLinks(BeverageOptions, ImageLinks, frozen=True):
    """The same, with the option."""


OptionsT = TypeVar("OptionsT", bound=WireRequest)


@dataclass(frozen=True, slots=True)
class SentPictures(Generic[OptionsT]):
    """What a request holds: its options; its pictures, or their addresses; a name of each to show.

    `is_batch`: whether the caller expects a list, though it may hold one picture.
    """

    options: OptionsT
    images: list[BinaryIO | str]
    names: list[str]
    is_batch: bool


@asynccontextmanager
async def sent_pictures(
    request: Request, settings: ApiSettings, form: type[OptionsT], links: type[ImageLinks]
) -> AsyncIterator[SentPictures[OptionsT]]:
    """Read a request of either type. Both have the same options, which may come in the query, too."""
    if is_multipart(request):
        ignores = form.model_config.get("extra") == "ignore"
        async with open_uploads(
            request,
            max_files=MAX_FILES,
            known=form.known_names() if ignores else None,
            max_file_bytes=settings.max_image_bytes,
            spool_bytes=_SPOOL_BYTES,
        ) as uploads:
            fields = checked_with_query(form, dict(uploads.fields), request)
            names = [sent.filename for sent in uploads.files]
            yield SentPictures(fields, [sent.file for sent in uploads.files], names, len(names) > 1)
    elif is_json(request):
        body: Any = checked_with_query(links, await read_json(request), request)
        names = ["image" if is_data(url) else url_display_name(url) for url in body.urls]
        images = [picture_in(url, settings.max_image_bytes) or url for url in body.urls]
        yield SentPictures(body, images, names, body.image_urls is not None)
    else:
        raise HTTPException(415, Sentence("Send multipart/form-data with a file, or application/json with image_url"))


_PICTURES = {
    "type": "array",
    "maxItems": MAX_FILES,
    "items": {"type": "string", "format": "binary"},
    "description": "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC; several: a batch",
}


def request_content(form: type[UploadForm], links: type[ImageLinks]) -> dict[str, Any]:
    """Return OpenAPI's description of the request, with the options as parameters of the query too."""
    content = {**form_content(form), "application/json": {"schema": links.model_json_schema()}}
    content["multipart/form-data"]["schema"]["properties"][FILE_FIELD] = _PICTURES
    query = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for name, schema in form.model_json_schema()["properties"].items()
    ]
    return {"parameters": query, "requestBody": {"required": True, "content": content}}
