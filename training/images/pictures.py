"""The report's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.images.metrics import Bin


def draw_confusion(counts: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Write a confusion matrix as PNG: shares of what is there as shades, counts as numbers."""
    num = len(classes)
    figure = Figure(figsize=(2.2 + 1.1 * num, 1.8 + 1.0 * num), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row in range(num):
        for column in range(num):
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour)
    axes.set_xticks(range(num), classes, rotation=30, ha="right")
    axes.set_yticks(range(num), classes)
    axes.set(xlabel="said", ylabel="is", title=title)
    _write(figure, path)


def draw_reliability(bins: Sequence[Bin], title: str, path: Path) -> None:
    """Write a reliability diagram as PNG: accuracy over confidence, and how many predictions each bin has."""
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1.0 / len(bins)
    middles = [(index + 0.5) * width for index in range(len(bins))]
    above.bar(middles, [each.accuracy for each in bins], width=width * 0.95, color="tab:blue")
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    found = [each for each in bins if each.num]
    above.plot([each.confidence for each in found], [each.accuracy for each in found], "o", color="black", markersize=3)
    above.set(ylabel="share of right ones", ylim=(0, 1.02), title=title)
    below.bar(middles, [each.num for each in bins], width=width * 0.95, color="tab:grey")
    below.set(xlabel="confidence", ylabel="pictures", xlim=(0, 1))
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
