"""What OpenAI's clients may name as `model`, and what every route under `/v1` shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve_app.api.http.dependencies import InjectedServices
from serve_app.api.http.failures import (
    OPENAI_PREFIX,
    ApiRoute,
    Failure,
    OpenAIErrorBody,
    error_responses,
    openai_error_body,
    openai_status,
)
from serve_app.api.http.options import ApiSettings
from serve_app.api.http.uploads import is_multipart
from serve_app.api.speech import openai_answers
from serve_app.services import Services


class OpenAIRoute(ApiRoute):
    """Tells failures as OpenAI does."""

    def max_bytes(self, request: Request, settings: ApiSettings) -> int:
        """Allow a form as much as a recording needs."""
        return settings.max_upload_bytes if is_multipart(request) else settings.max_body_bytes

    def failure_status(self, failure: Failure) -> int:
        """Return 400 for what is wrong with a request."""
        return openai_status(failure)

    def failure_content(self, failure: Failure, request: Request) -> dict[str, Any]:
        """Return OpenAI's error object."""
        if failure.status == 404:  # nothing else can be missing here
            return openai_error_body(failure, "model_not_found", "model")
        return openai_error_body(failure)


router = APIRouter(prefix=OPENAI_PREFIX, route_class=OpenAIRoute, tags=["openai"])


@router.get("/models", summary="What can be named as model", responses=error_responses(503, body=OpenAIErrorBody))
async def list_models(services: InjectedServices) -> openai_answers.ModelListView:
    """Return the speech backends, and OpenAI's names, each of which stands for the first healthy one."""
    return openai_answers.ModelListView(data=await _models(services))


@router.get(
    "/models/{model_id}",
    summary="One model",
    responses={404: {"model": OpenAIErrorBody, "description": "No such model"}},
)
async def get_model(model_id: str, services: InjectedServices) -> openai_answers.ModelView:
    """Return one of them."""
    models = await _models(services)
    for model in models:
        if model.id == model_id:
            return model
    raise _not_found([model.id for model in models])


async def named_backend(services: Services, model: str, aliases: Sequence[str]) -> str | None:
    """Return the backend that a model's name means; None: the first healthy one. HTTPException 404 for any other."""
    if model in aliases:
        return None
    names = [known.name for known in await services.speech.backends()]
    if model not in names:
        raise _not_found([*aliases, *names] if names else [])
    return model


async def _models(services: Services) -> list[openai_answers.ModelView]:
    return openai_answers.view_models(list(await services.speech.backends()))


def _not_found(known: list[str]) -> HTTPException:
    return HTTPException(404, f"No such model; there are: {', '.join(known) or 'none'}")
