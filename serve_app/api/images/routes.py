"""Routes of the image classifiers, answered at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
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
from serve_app.api.http.requests import MediaUrl, WireRequest, checked, is_json, is_multipart, read_json
from serve_app.api.http.uploads import open_uploads, url_display_name
from serve_app.api.images.answers import (
    BeverageBatchView,
    BeverageView,
    ContainerBatchView,
    ContainerView,
    view_beverage,
    view_container,
)
from serve_app.errors import MediaError
from serve_app.jobs.record import Scope
from serve_app.messages import Locale
from serve_app.services import ImageClassification, Services

MAX_FILES = 32  # more are better sent in several requests: one lost connection costs them all
_SPOOL_BYTES = 64 << 20
_FORM_BYTES = 64 << 10  # of a form beside its files

View = ContainerView | BeverageView


class ImageLinks(WireRequest, frozen=True):
    """Pictures by address instead of by upload."""

    image_url: MediaUrl | None = Field(
        default=None, description="`https://`, `http://`, `s3://`; a local path only where the operator allows a folder"
    )
    image_urls: list[MediaUrl] | None = Field(
        default=None, min_length=1, max_length=MAX_FILES, description="several, answered as a batch"
    )

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.image_url is None) == (self.image_urls is None):
            raise PydanticCustomError("image_missing", "Give either image_url or image_urls")
        return self

    @property
    def urls(self) -> list[str]:
        return self.image_urls or [self.image_url or ""]


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

_CONTENT: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {
                "file": {
                    "type": "array",
                    "maxItems": MAX_FILES,
                    "items": {"type": "string", "format": "binary"},
                    "description": "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC; several: a batch",
                }
            },
        }
    },
    "application/json": {"schema": ImageLinks.model_json_schema()},
}
_DOCS: dict[str, Any] = {
    "responses": error_responses(400, 413, 415, 422, 503, body=ContractErrorBody),
    "openapi_extra": {"requestBody": {"required": True, "content": _CONTENT}},
}


@router.post(
    "/classify-reusable",
    summary="Classify a container as reusable or disposable",
    response_model=ContainerView | ContainerBatchView,
    response_description="`ContainerView` of one picture, `ContainerBatchView` of several",
    **_DOCS,
)
@needs(Scope.SUBMIT)
async def classify_reusable(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return whether the container in a picture is reusable or disposable.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. The header `X-Model-Version` names the
    weights that answered.
    """
    return await _answer("container", view_container, request, services, settings)


@router.post(
    "/verify-beverage",
    summary="Detect a drink in a container",
    response_model=BeverageView | BeverageBatchView,
    response_description="`BeverageView` of one picture, `BeverageBatchView` of several",
    **_DOCS,
)
@needs(Scope.SUBMIT)
async def verify_beverage(
    request: Request,
    services: InjectedServices,
    settings: InjectedSettings,
    confidence_threshold: Annotated[
        float, Query(ge=0, le=1, description="the least confidence of a drink that is valid")
    ] = 0.7,
) -> Response:
    """Return whether the container in a picture holds a drink.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. The header `X-Model-Version` names the
    weights that answered.
    """
    return await _answer(
        "beverage", lambda found: view_beverage(found, confidence_threshold), request, services, settings
    )


async def _answer(
    task: str, view: Callable[[ImageClassification], View], request: Request, services: Services, settings: ApiSettings
) -> Response:
    if is_multipart(request):
        async with open_uploads(
            request, max_files=MAX_FILES, max_file_bytes=settings.max_image_bytes, spool_bytes=_SPOOL_BYTES
        ) as form:
            files = [sent.file for sent in form.files]
            answers = await while_connected(request, services.images.classify(task, files))
            names = None if len(form.files) == 1 else [sent.filename for sent in form.files]
    elif is_json(request):
        links = checked(ImageLinks, await read_json(request))
        answers = await while_connected(request, services.images.classify(task, links.urls))
        names = None if links.image_urls is None else [url_display_name(url) for url in links.urls]
    else:
        raise HTTPException(415, "Send multipart/form-data with a file, or application/json with image_url")
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
