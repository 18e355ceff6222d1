"""Strokes found against strokes played, fast enough to try many thresholds on hours of music."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Counts:
    """How many strokes were found, found where there is none, and not found."""

    right: int = 0
    extra: int = 0
    missed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.right + other.right, self.extra + other.extra, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Return the share of those found that are right; NaN where none was found."""
        return self.right / (self.right + self.extra) if self.right + self.extra else float("nan")

    @property
    def recall(self) -> float:
        """Return the share of those played that are found; NaN where none was played."""
        return self.right / (self.right + self.missed) if self.right + self.missed else float("nan")

    @property
    def f_measure(self) -> float:
        """Return the harmonic mean of both; NaN where none was played nor found."""
        num = 2 * self.right + self.extra + self.missed
        return 2 * self.right / num if num else float("nan")


def match(reference_s: np.ndarray, found_s: np.ndarray, window_s: float) -> np.ndarray:
    """Return pairs (index of reference, index of found), (n, 2), as many as can be, each within the window.

    Both in order of time. With one window for all, taking the earliest that fits gives the greatest number, the one
    that mir_eval finds by bipartite matching (compared in the tests).
    """
    pairs = []
    reference = found = 0
    while reference < len(reference_s) and found < len(found_s):
        late_s = found_s[found] - reference_s[reference]
        if abs(late_s) <= window_s:
            pairs.append((reference, found))
            reference, found = reference + 1, found + 1
        elif late_s < 0:
            found += 1
        else:
            reference += 1
    return np.array(pairs, dtype=int).reshape(-1, 2)


def count(sure_s: np.ndarray, unsure_s: np.ndarray, found_s: np.ndarray, window_s: float) -> Counts:
    """Return what is right and wrong; what is found at an unsure stroke alone is neither."""
    pairs = match(sure_s, found_s, window_s)
    left_s = np.delete(found_s, pairs[:, 1])
    forgiven = len(match(unsure_s, left_s, window_s))
    return Counts(len(pairs), len(left_s) - forgiven, len(sure_s) - len(pairs))
