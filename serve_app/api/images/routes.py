"""Routes of the image classifiers, answered at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, BinaryIO, Self, cast

from fastapi import APIRouter
from pydantic import Field, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.api.http.access import needs
from serve_app.api.http.answers import version_headers
from serve_app.api.http.disconnect import while_connected
from serve_app.api.http.failures import (
    ContractErrorBody,
    ContractRoute,
    Failure,
    describe,
    error_responses,
    failed_item,
)
from serve_app.api.http.options import ApiSettings, InjectedServices, InjectedSettings
from serve_app.api.http.requests import (
    WireRequest,
    checked_with_query,
    is_json,
    is_multipart,
    read_json,
    refusal,
)
from serve_app.api.http.uploads import FILE_FIELD, UploadForm, form_content, open_uploads, url_display_name
from serve_app.api.images.answers import (
    BeverageBatchView,
    BeverageView,
    ContainerBatchView,
    ContainerView,
    view_beverage,
    view_container,
)
from serve_app.api.images.data_urls import ImageAddress, is_data, picture_in
from serve_app.errors import MediaError
from serve_app.jobs.record import Scope
from serve_app.messages import Locale
from serve_app.sentences import Sentence
from serve_app.services import ImageClassification, Services

MAX_FILES = 32  # more are better sent in several requests: one lost connection costs them all
_SPOOL_BYTES = 64 << 20
_FORM_BYTES = 64 << 10  # of a form beside its files

View = ContainerView | BeverageView


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


class ImageRoute(ContractRoute):
    def max_bytes(self, request: Request, settings: ApiSettings) -> int:
        if not is_multipart(request):
            return settings.max_body_bytes
        return min(settings.max_upload_bytes, MAX_FILES * settings.max_image_bytes) + _FORM_BYTES

    def describe(self, error: Exception, locale: Locale) -> Failure:
        return _describe(error, locale)


def _describe(error: Exception, locale: Locale) -> Failure:
    failure = describe(error, locale)
    # the contract's sentences for downloads are about videos
    return replace(failure, message=error.detail) if isinstance(error, MediaError) and error.detail else failure


router = APIRouter(route_class=ImageRoute, tags=["images"])

_PICTURES = {
    "type": "array",
    "maxItems": MAX_FILES,
    "items": {"type": "string", "format": "binary"},
    "description": "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC; several: a batch",
}


def _docs(form: type[ContainerForm], links: type[ImageLinks]) -> dict[str, Any]:
    content = {**form_content(form), "application/json": {"schema": links.model_json_schema()}}
    content["multipart/form-data"]["schema"]["properties"][FILE_FIELD] = _PICTURES
    query = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for name, schema in form.model_json_schema()["properties"].items()
    ]
    return {
        "responses": error_responses(400, 413, 415, 422, 503, body=ContractErrorBody),
        "openapi_extra": {"parameters": query, "requestBody": {"required": True, "content": content}},
    }


@router.post(
    "/classify-reusable",
    summary="Classify a container as reusable or disposable",
    response_model=ContainerView | ContainerBatchView,
    response_description="`ContainerView` of one picture, `ContainerBatchView` of several",
    **_docs(ContainerForm, ImageLinks),
)
@needs(Scope.SUBMIT)
async def classify_reusable(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return whether the container in a picture is reusable or disposable.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. The header `X-Model-Version` names the
    weights that answered.
    """
    async with _sent(request, settings, ContainerForm, ImageLinks) as (_, images, names):
        return await _answer("container", view_container, images, names, request, services, settings)


@router.post(
    "/verify-beverage",
    summary="Detect a drink in a container",
    response_model=BeverageView | BeverageBatchView,
    response_description="`BeverageView` of one picture, `BeverageBatchView` of several",
    **_docs(BeverageForm, BeverageLinks),
)
@needs(Scope.SUBMIT)
async def verify_beverage(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return whether the container in a picture holds a drink.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. `confidence_threshold` may come in the
    query, in the form or in the JSON object. The header `X-Model-Version` names the weights that answered.
    """
    async with _sent(request, settings, BeverageForm, BeverageLinks) as (sent, images, names):
        threshold = cast(BeverageOptions, sent).confidence_threshold
        return await _answer(
            "beverage", lambda found: view_beverage(found, threshold), images, names, request, services, settings
        )


@asynccontextmanager
async def _sent(
    request: Request, settings: ApiSettings, form: type[ContainerForm], links: type[ImageLinks]
) -> AsyncIterator[tuple[WireRequest, list[BinaryIO | str], list[str] | None]]:
    """Read a request of either type; yield its fields, its pictures or their addresses, and the names of a batch."""
    if is_multipart(request):
        async with open_uploads(
            request,
            max_files=MAX_FILES,
            known=form.known_names(),
            max_file_bytes=settings.max_image_bytes,
            spool_bytes=_SPOOL_BYTES,
        ) as uploads:
            fields = checked_with_query(form, dict(uploads.fields), request)
            names = None if len(uploads.files) == 1 else [sent.filename for sent in uploads.files]
            yield fields, [sent.file for sent in uploads.files], names
    elif is_json(request):
        body = checked_with_query(links, await read_json(request), request)
        names = None if body.image_urls is None else [_name_of(url) for url in body.urls]
        yield body, [picture_in(url, settings.max_image_bytes) or url for url in body.urls], names
    else:
        raise HTTPException(415, Sentence("Send multipart/form-data with a file, or application/json with image_url"))


def _name_of(url: str) -> str:
    return "image" if is_data(url) else url_display_name(url)


async def _answer(
    task: str,
    view: Callable[[ImageClassification], View],
    images: list[BinaryIO | str],
    names: list[str] | None,
    request: Request,
    services: Services,
    settings: ApiSettings,
) -> Response:
    answers = await while_connected(request, services.images.classify(task, images))
    headers = version_headers(*(answer.model_version for answer in answers if isinstance(answer, ImageClassification)))
    if names is None:
        [answer] = answers
        if isinstance(answer, Exception):
            raise answer
        return JSONResponse(view(answer).model_dump(), headers=headers)
    results = [
        failed_item(name, _describe(answer, settings.locale), request, answer)
        if isinstance(answer, Exception)
        else {"filename": name, **view(answer).model_dump()}
        for name, answer in zip(names, answers, strict=True)
    ]
    return JSONResponse({"results": results}, headers=headers)
