"""What came of a training: figures of each part, as JSON, as text and as pictures, and what to be warned of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.images import metrics
from training.images.pictures import draw_confusion, draw_reliability

# the owners' checklist
LEAST_PICTURES = 100
LEAST_ACCURACY = 0.9
_MOST_MISTAKES = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """A part's pictures as the network sees them: logits (pictures, classes), labels (pictures,), and their files."""

    logits: np.ndarray
    labels: np.ndarray
    paths: Sequence[Path]


def figures(measured: Measured, classes: Sequence[str]) -> dict[str, Any]:
    """Return a part's figures, ready for JSON."""
    probabilities = metrics.softmax(measured.logits)
    predicted = probabilities.argmax(axis=1)
    counts = metrics.confusion(measured.labels, predicted, len(classes))
    of_classes = metrics.by_class(counts)
    present = [each for each in of_classes if each.support]
    bins = metrics.reliability(probabilities, measured.labels)
    temperature = metrics.best_temperature(measured.logits, measured.labels)
    cooled = metrics.reliability(metrics.softmax(measured.logits, temperature), measured.labels)
    return {
        "pictures": len(measured.labels),
        "accuracy": float((predicted == measured.labels).mean()),
        "balanced_accuracy": float(np.mean([each.recall for each in present])),
        "cross_entropy": metrics.cross_entropy(measured.logits, measured.labels),
        "classes": {name: asdict(each) for name, each in zip(classes, of_classes, strict=True)},
        "confusion": counts.tolist(),
        "calibration_error": metrics.calibration_error(bins),
        "best_temperature": temperature,
        "calibration_error_at_best_temperature": metrics.calibration_error(cooled),
        "reliability": [asdict(each) for each in bins],
        "worst_mistakes": _mistakes(measured, probabilities, predicted, classes),
    }


def warnings(counts: Mapping[str, Mapping[str, int]], val_accuracy: float) -> list[str]:
    """Return what the owners' checklist finds wanting.

    Args:
        counts: pictures, by part and class.
        val_accuracy: of the network.
    """
    told = []
    totals: dict[str, int] = {}
    for part in ("train", "val"):
        for name, num in counts.get(part, {}).items():
            totals[name] = totals.get(name, 0) + num
    if few := {name: num for name, num in totals.items() if num < LEAST_PICTURES}:
        said = ", ".join(f"{name} has {num}" for name, num in few.items())
        told.append(f"fewer than {LEAST_PICTURES} pictures of a class: {said}")
    if val_accuracy < LEAST_ACCURACY:
        told.append(f"validation accuracy is {val_accuracy:.1%}, below {LEAST_ACCURACY:.0%}: not ready to be served")
    return told


def write(folder: Path, facts: dict[str, Any], parts: Mapping[str, Measured], classes: Sequence[str]) -> dict[str, Any]:
    """Write `report.json`, `report.md` and the pictures; return what is in the JSON.

    Args:
        folder: is made.
        facts: of the training, ready for JSON; `warnings` and `pictures` (counts by part and class) among them.
        parts: by name; `val` first.
        classes: by output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: figures(measured, classes) for name, measured in parts.items()}
    for name, each in found.items():
        title = f"{name}: {each['accuracy']:.1%} of {each['pictures']} right"
        draw_confusion(np.array(each["confusion"]), classes, title, folder / f"confusion-{name}.png")
        bins = [metrics.Bin(**one) for one in each["reliability"]]
        error = f"{name}: calibration error {each['calibration_error']:.3f}"
        draw_reliability(bins, error, folder / f"reliability-{name}.png")
    report = facts | {"parts": found}
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "report.md").write_text(_text(report))
    return report


def _mistakes(
    measured: Measured, probabilities: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    wrong = np.flatnonzero(predicted != measured.labels)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:_MOST_MISTAKES]
    return [
        {
            "file": str(measured.paths[index]),
            "is": classes[measured.labels[index]],
            "said": classes[predicted[index]],
            "confidence": round(float(probabilities[index, predicted[index]]), 4),
        }
        for index in worst
    ]


def _text(report: dict[str, Any]) -> str:
    lines = [f"# {report['task']}: {report['backbone']}", ""]
    lines += [f"- **Warning**: {each}." for each in report["warnings"]] + [""]
    for key in ("command", "date", "machine", "seed", "begun_with", "epochs", "stopped", "minutes", "weights"):
        if key in report:
            lines.append(f"- {key.replace('_', ' ')}: {report[key]}")
    names = list(next(iter(report["pictures"].values())))
    lines += ["", "## Pictures", "", f"| part | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for part, counts in report["pictures"].items():
        lines.append(f"| {part} | {' | '.join(str(counts[name]) for name in names)} |")
    for title, key in (("Files that could not be read", "unreadable"), ("Files left out", "left_out")):
        if report.get(key):
            lines += ["", f"{title}: {len(report[key])}", *(f"- {file}: {why}" for file, why in report[key].items())]
    for part, each in report["parts"].items():
        lines += _part(part, each)
    return "\n".join(lines) + "\n"


def _part(part: str, found: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"## {part}: {found['accuracy']:.2%} of {found['pictures']} right",
        "",
        "| class | precision | recall | F1 | pictures |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, each in found["classes"].items():
        shown = " | ".join(f"{each[key]:.3f}" for key in ("precision", "recall", "f1"))
        lines.append(f"| {name} | {shown} | {each['support']} |")
    cooled = found["calibration_error_at_best_temperature"]
    lines += [
        "",
        f"Cross-entropy {found['cross_entropy']:.4f}. Calibration error {found['calibration_error']:.3f}; logits "
        f"divided by {found['best_temperature']:.2f} would have {cooled:.3f} (the server does not do that).",
        "",
        f"![confusion](confusion-{part}.png) ![reliability](reliability-{part}.png)",
    ]
    if found["worst_mistakes"]:
        lines += ["", "Worst mistakes, the surest first:", ""]
        lines += [
            f"- {m['file']}: {m['is']}, said {m['said']} ({m['confidence']:.2f})" for m in found["worst_mistakes"]
        ]
    return lines
