"""Sentences and numbers of classified pictures."""

from __future__ import annotations

import pytest

from serve_app.api.images.answers import view_beverage, view_container
from serve_app.results import LabelScores
from serve_app.services import ImageClassification


def container(reusable: float) -> ImageClassification:
    label = "reusable" if reusable >= 0.5 else "disposable"
    return ImageClassification(LabelScores(label, {"disposable": 1 - reusable, "reusable": reusable}), "v")


def beverage(label: str, confidence: float) -> ImageClassification:
    scores = dict.fromkeys(("empty", "with_beverage", "unclear"), (1 - confidence) / 2)
    return ImageClassification(LabelScores(label, scores | {label: confidence}), "v")


@pytest.mark.parametrize(
    ("reusable", "confidence", "message"),
    [
        (0.92, 0.92, "✅ Reusable container detected (confidence: 92.0%)"),
        (1.0, 1.0, "✅ Reusable container detected (confidence: 100.0%)"),
        (0.5, 0.5, "✅ Reusable container detected (confidence: 50.0%)"),
        (0.1234567, 0.876543, "❌ Disposable container detected (confidence: 87.7%)"),
        (0.0, 1.0, "❌ Disposable container detected (confidence: 100.0%)"),
    ],
)
def test_container(reusable: float, confidence: float, message: str) -> None:
    view = view_container(container(reusable))
    assert (view.confidence, view.message) == (confidence, message)
    assert view.is_reusable == (view.predicted_class == "reusable") == (reusable >= 0.5)
    assert view.confidence == view.probabilities[view.predicted_class]


@pytest.mark.parametrize(
    ("label", "confidence", "threshold", "is_valid", "message"),
    [
        ("with_beverage", 0.7, 0.7, True, "Beverage detected - Valid usage"),
        ("with_beverage", 0.9, 0.0, True, "Beverage detected - Valid usage"),
        ("with_beverage", 1.0, 1.0, True, "Beverage detected - Valid usage"),
        ("with_beverage", 0.6999, 0.7, False, "Beverage detected, but not with enough confidence (70.0%) - Please"),
        ("with_beverage", 0.4, 0.7, False, "Beverage detected, but not with enough confidence (40.0%) - Please"),
        ("empty", 0.99, 0.0, False, "No beverage detected - Invalid usage"),
        ("unclear", 0.99, 0.0, False, "Unclear image - Please retake the photo"),
    ],
)
def test_beverage(label: str, confidence: float, threshold: float, is_valid: bool, message: str) -> None:
    view = view_beverage(beverage(label, confidence), threshold)
    assert (view.predicted_class, view.confidence, view.is_valid) == (label, confidence, is_valid)
    assert view.has_beverage == (label == "with_beverage")
    assert view.message.startswith(message)


def test_validity_is_that_of_the_confidence_that_is_told() -> None:
    """0.7 of a network in 32 bits is 0.699999988, and told as 0.7: who compares what is told must agree."""
    view = view_beverage(beverage("with_beverage", 0.699999988), 0.7)
    assert (view.confidence, view.is_valid) == (0.7, True)
    view = view_beverage(beverage("with_beverage", 0.6999994), 0.7)
    assert (view.confidence, view.is_valid) == (0.699999, False)


def test_numbers_are_short() -> None:
    assert view_container(container(2 / 3)).probabilities == {"disposable": 0.333333, "reusable": 0.666667}
    assert view_beverage(beverage("empty", 2 / 3), 0.7).probabilities == {
        "empty": 0.666667,
        "with_beverage": 0.166667,
        "unclear": 0.166667,
    }


def test_classes_keep_the_order_of_the_model() -> None:
    assert list(view_beverage(beverage("unclear", 0.9), 0.7).probabilities) == ["empty", "with_beverage", "unclear"]
