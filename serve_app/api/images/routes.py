"""Routes of the image classifiers, answered at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app import messages
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
from serve_app.api.http.requests import is_multipart
from serve_app.api.images.answers import (
    BeverageBatchView,
    BeverageView,
    ContainerBatchView,
    ContainerView,
    view_beverage,
    view_container,
)
from serve_app.api.images.log_lines import log_classified
from serve_app.api.images.requests import (
    MAX_FILES,
    BeverageForm,
    BeverageLinks,
    ContainerForm,
    ImageLinks,
    SentPictures,
    request_content,
    sent_pictures,
)
from serve_app.errors import MediaError
from serve_app.jobs.record import Scope
from serve_app.sentences import Locale
from serve_app.services import ImageClassification, ImageEmbedding, Services

_FORM_BYTES = 64 << 10  # of a form beside its files

View = ContainerView | BeverageView
FoundT = TypeVar("FoundT", ImageClassification, ImageEmbedding)


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
    if isinstance(error, MediaError) and error.detail:
        return replace(failure, message=messages.shown(error.detail, locale))
    return failure


RESPONSES = error_responses(400, 413, 415, 422, 503, body=ContractErrorBody)

router = APIRouter(route_class=ImageRoute, tags=["images"])


@router.post(
    "/classify-reusable",
    summary="Classify a container as reusable or disposable",
    response_model=ContainerView | ContainerBatchView,
    response_description="`ContainerView` of one picture, `ContainerBatchView` of several",
    responses=RESPONSES,
    openapi_extra=request_content(ContainerForm, ImageLinks),
)
@needs(Scope.SUBMIT)
async def classify_reusable(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return whether the container in a picture is reusable or disposable.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. The header `X-Model-Version` names the
    weights that answered.
    """
    async with sent_pictures(request, settings, ContainerForm, ImageLinks) as sent:
        return await _answer("container", view_container, sent, request, services, settings)


@router.post(
    "/verify-beverage",
    summary="Detect a drink in a container",
    response_model=BeverageView | BeverageBatchView,
    response_description="`BeverageView` of one picture, `BeverageBatchView` of several",
    responses=RESPONSES,
    openapi_extra=request_content(BeverageForm, BeverageLinks),
)
@needs(Scope.SUBMIT)
async def verify_beverage(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return whether the container in a picture holds a drink.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. `confidence_threshold` may come in the
    query, in the form or in the JSON object. The header `X-Model-Version` names the weights that answered.
    """
    async with sent_pictures(request, settings, BeverageForm, BeverageLinks) as sent:
        return await _answer(
            "beverage",
            lambda found: view_beverage(found, sent.options.confidence_threshold),
            sent,
            request,
            services,
            settings,
        )


async def _answer(
    task: str,
    view: Callable[[ImageClassification], View],
    sent: SentPictures[ContainerForm] | SentPictures[BeverageForm],
    request: Request,
    services: Services,
    settings: ApiSettings,
) -> Response:
    answers = await while_connected(request, services.images.classify(task, sent.images))
    log_classified(request, task, sent.names, answers)
    return answer_of(sent, answers, lambda found: view(found).model_dump(), request, settings)


def answer_of(
    sent: SentPictures[Any],
    answers: Sequence[FoundT | Exception],
    view: Callable[[FoundT], dict[str, Any]],
    request: Request,
    settings: ApiSettings,
) -> Response:
    """Return the answer to a request with pictures; raise the failure of a single one.

    Args:
        sent: the request.
        answers: what was found in each picture, or its failure, in order.
        view: makes JSON of what was found.
        request: for the identifiers of failures.
        settings: for the language of failures.
    """
    found = [answer for answer in answers if not isinstance(answer, Exception)]
    headers = version_headers(*(each.model_version for each in found))
    if not sent.is_batch:
        [answer] = answers
        if isinstance(answer, Exception):
            raise answer
        return JSONResponse(view(answer), headers=headers)
    results = [
        failed_item(name, _describe(answer, settings.locale), request, answer)
        if isinstance(answer, Exception)
        else {"filename": name, **view(answer)}
        for name, answer in zip(sent.names, answers, strict=True)
    ]
    return JSONResponse({"results": results}, headers=headers)
