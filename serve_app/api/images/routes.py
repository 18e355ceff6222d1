"""Pictures, answered at once: `POST /classify-reusable` and `POST /verify-beverage`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self
from urllib.parse import quote

from fastapi import APIRouter, Query
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.api.http.dependencies import InjectedServices, InjectedSettings
from serve_app.api.http.disconnect import while_connected
from serve_app.api.http.failures import (
    ContractErrorBody,
    ContractRoute,
    Failure,
    describe,
    error_body,
    error_responses,
    log_failure,
)
from serve_app.api.http.json_body import is_json, read_json
from serve_app.api.http.options import ApiSettings
from serve_app.api.http.uploads import is_multipart, open_uploads, url_display_name
from serve_app.api.images.answers import (
    BeverageBatchView,
    BeverageView,
    ContainerBatchView,
    ContainerView,
    view_beverage,
    view_container,
)
from serve_app.api.video.requests import MediaUrl, WireRequest, checked
from serve_app.errors import MediaError
from serve_app.messages import Locale
from serve_app.services import ImageClassification, Services

MAX_FILES = 32  # more are better sent in several requests: one lost connection costs them all
_SPOOL_BYTES = 64 << 20
_FORM_BYTES = 64 << 10  # of a form beside its files

View = ContainerView | BeverageView


class ImageLinks(WireRequest):
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
        """All addresses."""
        return self.image_urls or [self.image_url or ""]


class ImageRoute(ContractRoute):
    """Allows a form as much as its pictures need."""

    def max_bytes(self, request: Request, settings: ApiSettings) -> int:
        """Return how long a request's body may be."""
        if not is_multipart(request):
            return settings.max_body_bytes
        return min(settings.max_upload_bytes, MAX_FILES * settings.max_image_bytes) + _FORM_BYTES

    def describe(self, error: Exception, locale: Locale) -> Failure:
        """Describe a failure; the contract's sentences for downloads speak of videos."""
        failure = describe(error, locale)
        return _plain(error, failure)


def _plain(error: Exception, failure: Failure) -> Failure:
    return replace(failure, message=error.detail) if isinstance(error, MediaError) and error.detail else failure


router = APIRouter(route_class=ImageRoute, tags=["images"])

_FORM = {
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
    "openapi_extra": {"requestBody": {"required": True, "content": _FORM}},
}


@router.post(
    "/classify-reusable",
    summary="Tell whether a container can be used again",
    response_model=ContainerView | ContainerBatchView,
    response_description="`ContainerView` of one picture, `ContainerBatchView` of several",
    **_DOCS,
)
async def classify_reusable(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return whether the container in a picture is reusable or disposable.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. The header `X-Model-Version` names the
    weights that answered.
    """
    return await _answer("container", view_container, request, services, settings)


@router.post(
    "/verify-beverage",
    summary="Tell whether a container holds a drink",
    response_model=BeverageView | BeverageBatchView,
    response_description="`BeverageView` of one picture, `BeverageBatchView` of several",
    **_DOCS,
)
async def verify_beverage(
    request: Request,
    services: InjectedServices,
    settings: InjectedSettings,
    confidence_threshold: Annotated[
        float, Query(ge=0, le=1, description="how sure a drink must be for `is_valid`")
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
    task: str,
    view: Callable[[ImageClassification], View],
    request: Request,
    services: Services,
    settings: ApiSettings,
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
    headers = _version_header(answers)
    if names is None:
        [answer] = answers
        if isinstance(answer, Exception):
            raise answer
        return JSONResponse(view(answer).model_dump(), headers=headers)
    results = [
        {"filename": name}
        | (_told(answer, request, settings.locale) if isinstance(answer, Exception) else view(answer).model_dump())
        for name, answer in zip(names, answers, strict=True)
    ]
    return JSONResponse({"results": results}, headers=headers)


def _version_header(answers: Sequence[ImageClassification | Exception]) -> Mapping[str, str]:
    versions = dict.fromkeys(answer.model_version for answer in answers if isinstance(answer, ImageClassification))
    return {"X-Model-Version": ", ".join(quote(version, safe=" /:;+=@()") for version in versions)} if versions else {}


def _told(error: Exception, request: Request, locale: Locale) -> dict[str, Any]:
    """Return the body that tells one picture's failure among several."""
    failure = _plain(error, describe(error, locale))
    log_failure(failure, request, error)
    return error_body(failure, request)
