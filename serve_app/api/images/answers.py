"""Answers of the image classifiers; fields and sentences are the contract's."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from serve_app.api.http.failures import FileFailureView
from serve_app.services import ImageClassification

_DIGITS = 6
_Confidence = Annotated[float, Field(description="probability of the predicted class")]
_Probabilities = Annotated[dict[str, float], Field(description="of each class; they add up to 1")]
_Message = Annotated[str, Field(description="a sentence for people")]


class ContainerView(BaseModel):
    """Whether a container can be used again."""

    is_reusable: bool
    confidence: _Confidence
    predicted_class: str = Field(description="`disposable` or `reusable`")
    probabilities: _Probabilities
    message: _Message


class BeverageView(BaseModel):
    """Whether a container holds a drink."""

    has_beverage: bool
    confidence: _Confidence
    predicted_class: str = Field(description="`empty`, `with_beverage` or `unclear`")
    is_valid: bool = Field(description="a drink was found, with at least the confidence asked for")
    probabilities: _Probabilities
    message: _Message


class ContainerBatchItem(ContainerView):
    """One picture of several."""

    filename: str


class BeverageBatchItem(BeverageView):
    """One picture of several."""

    filename: str


class ContainerBatchView(BaseModel):
    """Answer to several pictures: one of each, in the order in which they were sent."""

    results: list[ContainerBatchItem | FileFailureView]


class BeverageBatchView(BaseModel):
    """Answer to several pictures: one of each, in the order in which they were sent."""

    results: list[BeverageBatchItem | FileFailureView]


def view_container(found: ImageClassification) -> ContainerView:
    label, scores = found.scores.label, found.scores.scores
    confidence = scores[label]
    is_reusable = label == "reusable"
    mark, kind = ("✅", "Reusable") if is_reusable else ("❌", "Disposable")
    return ContainerView(
        is_reusable=is_reusable,
        confidence=_rounded(confidence),
        predicted_class=label,
        probabilities={name: _rounded(value) for name, value in scores.items()},
        message=f"{mark} {kind} container detected (confidence: {confidence:.1%})",
    )


def view_beverage(found: ImageClassification, confidence_threshold: float) -> BeverageView:
    """Describe the contents of a container; a drink of less confidence than the threshold is no valid use."""
    label, scores = found.scores.label, found.scores.scores
    confidence = _rounded(scores[label])  # as it is sent: 0.7 of a network in 32 bits is a little less
    has_beverage = label == "with_beverage"
    is_valid = has_beverage and confidence >= confidence_threshold
    if is_valid:
        message = "Beverage detected - Valid usage"
    elif has_beverage:
        message = f"Beverage detected, but not with enough confidence ({confidence:.1%}) - Please retake the photo"
    elif label == "empty":
        message = "No beverage detected - Invalid usage"
    else:
        message = "Unclear image - Please retake the photo"
    return BeverageView(
        has_beverage=has_beverage,
        confidence=confidence,
        predicted_class=label,
        is_valid=is_valid,
        probabilities={name: _rounded(value) for name, value in scores.items()},
        message=message,
    )


def _rounded(probability: float) -> float:
    return round(probability, _DIGITS)
