"""Route of the image embedding: the features of a picture, for search and for classifiers of your own."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from serve_app.api.http.access import needs
from serve_app.api.http.disconnect import while_connected
from serve_app.api.http.failures import FileFailureView
from serve_app.api.http.options import InjectedServices, InjectedSettings
from serve_app.api.http.requests import WireRequest
from serve_app.api.http.uploads import UploadForm
from serve_app.api.images.requests import ImageLinks, request_content, sent_pictures
from serve_app.api.images.routes import RESPONSES, ImageRoute, answer_of
from serve_app.jobs.record import Scope
from serve_app.services import ImageEmbedding

_DIGITS = 8


class EmbeddingOptions(WireRequest, frozen=True):
    """What a caller may choose about an embedding."""

    model: Literal["container", "beverage"] = Field(
        default="container", description="the classifier whose backbone computes the features"
    )


class EmbeddingForm(EmbeddingOptions, UploadForm, frozen=True):
    """Fields beside the pictures."""


class EmbeddingLinks(EmbeddingOptions, ImageLinks, frozen=True, extra="forbid"):
    """Pictures by address instead of by upload."""


class EmbeddingView(BaseModel):
    """A picture's features: the output of the backbone of a classifier."""

    embedding: list[float] = Field(description="of length 1 (L2): the product of two is their cosine")
    dimension: int = Field(description="of the embedding: 2048 of ResNet-50, 576 of MobileNetV3-Small")
    model: str = Field(description="`container` or `beverage`")
    model_version: str = Field(description="of the weights; embeddings of two versions do not compare")


class EmbeddingBatchItem(EmbeddingView):
    """One picture of several."""

    filename: str


class EmbeddingBatchView(BaseModel):
    """Answer to several pictures: one of each, in the order in which they were sent."""

    results: list[EmbeddingBatchItem | FileFailureView]


router = APIRouter(route_class=ImageRoute, tags=["images"])


@router.post(
    "/embed-image",
    summary="Return the features of a picture",
    response_model=EmbeddingView | EmbeddingBatchView,
    response_description="`EmbeddingView` of one picture, `EmbeddingBatchView` of several",
    responses=RESPONSES,
    openapi_extra=request_content(EmbeddingForm, EmbeddingLinks),
)
@needs(Scope.SUBMIT)
async def embed_image(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return a picture's features, of length 1, from the backbone of one of the classifiers.

    One part named `file`, or several; or JSON with `image_url`, or `image_urls`. The header `X-Model-Version` names the
    weights, as does each answer.
    """
    async with sent_pictures(request, settings, EmbeddingForm, EmbeddingLinks) as sent:
        model = sent.options.model
        answers = await while_connected(request, services.images.embed(model, sent.images))
        return answer_of(sent, answers, lambda found: _view(found, model), request, settings)


def _view(found: ImageEmbedding, model: str) -> dict[str, Any]:
    return {
        "embedding": [round(value, _DIGITS) for value in found.vector],
        "dimension": len(found.vector),
        "model": model,
        "model_version": found.model_version,
    }
