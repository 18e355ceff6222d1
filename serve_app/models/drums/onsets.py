"""A train of detected strokes: all that tempo and beats are found from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What the metrical templates (`metre`) know. Any other label counts as percussion.
METRICAL_LABELS = ("kick", "snare", "hihat", "tom", "cymbal", "percussion")


@dataclass(frozen=True)
class OnsetTrain:
    """Strokes in order of time, of every label that was heard.

    Attributes:
        time_s: (n,) float64, finite and not falling.
        weight: (n,) float32 in [0, 1], how much a stroke counts: loud and sure ones near 1, ghost notes near 0.3.
        label: (n,) index into `METRICAL_LABELS`.
    """

    time_s: NDArray[np.float64]
    weight: NDArray[np.float32]
    label: NDArray[np.intp]

    @classmethod
    def of(cls, time_s: Iterable[float], weight: Iterable[float], label: Iterable[str]) -> OnsetTrain:
        """Return the train of these strokes, put in order; strokes at times that are not finite are left out."""
        times = np.fromiter(time_s, dtype=np.float64)
        weights = np.clip(np.nan_to_num(np.fromiter(weight, dtype=np.float32)), 0.0, 1.0)
        known = {name: index for index, name in enumerate(METRICAL_LABELS)}
        other = known["percussion"]
        labels = np.fromiter((known.get(name, other) for name in label), dtype=np.intp)
        order = np.argsort(times, kind="stable")
        order = order[np.isfinite(times[order])]
        return cls(times[order], weights[order], labels[order])

    def __len__(self) -> int:
        return len(self.time_s)

    def between(self, start_s: float, end_s: float) -> OnsetTrain:
        """Return the strokes in [start_s, end_s)."""
        kept = slice(*np.searchsorted(self.time_s, (start_s, end_s)))
        return OnsetTrain(self.time_s[kept], self.weight[kept], self.label[kept])
