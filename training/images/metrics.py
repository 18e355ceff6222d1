"""How good probabilities are: confusion, precision, recall, F1, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15
_COLDEST, _HOTTEST = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Of one class; 0 where nothing was predicted or nothing was there."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about the same confidence: their number, mean confidence and share of right ones."""

    num: int
    confidence: float
    accuracy: float


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities (pictures, classes) of logits divided by a temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confusion(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return counts (classes, classes): rows are what it is, columns what was said."""
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def by_class(counts: np.ndarray) -> list[ClassFigures]:
    """Return each class's figures from a confusion matrix."""
    right, there, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    figures = []
    for hits, support, predictions in zip(right.tolist(), there.tolist(), said.tolist(), strict=True):
        precision, recall = hits / max(predictions, 1), hits / max(support, 1)
        f1 = 2 * hits / max(predictions + support, 1)
        figures.append(ClassFigures(precision, recall, f1, support))
    return figures


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> list[Bin]:
    """Return the predictions in bins of equal width of their confidence, lowest first; a bin holds its upper end."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins = []
    for index in range(num_bins):
        inside = place == index
        num = int(inside.sum())
        bins.append(
            Bin(num, float(confidence[inside].mean()), float(right[inside].mean())) if num else Bin(0, 0.0, 0.0)
        )
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error (Guo et al. 2017, section 2): bins' gaps, weighted by their numbers."""
    total = sum(each.num for each in bins)
    return sum(each.num * abs(each.confidence - each.accuracy) for each in bins) / max(total, 1)


def cross_entropy(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative logarithm of the right class's probability."""
    right = softmax(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of least cross-entropy (Guo et al. 2017, section 4.2), 0.05 to 20; above 1: too sure."""
    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(60):
        first, second = high - golden * (high - low), low + golden * (high - low)
        if cross_entropy(logits, labels, float(np.exp(first))) < cross_entropy(logits, labels, float(np.exp(second))):
            high = second
        else:
            low = first
    return float(np.exp((low + high) / 2.0))
