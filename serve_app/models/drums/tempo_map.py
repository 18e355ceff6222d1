"""Few tempo changes in place of many beats: what a sequencer wants to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Beats may lie this far from the map: less than players scatter about a steady tempo.
TOLERANCE_S = 0.015
_BLOCK_BEATS = 64
# The tempo at either end, at which beats go on where nothing is played: the mean over so many beats.
_END_BEATS = 8


@dataclass(frozen=True)
class Knots:
    """A tempo that changes only at some beats.

    Attributes:
        beat: (knots,) whole numbers, rising; at least two.
        time_s: (knots,) when these beats fall; the beats between two knots are evenly spaced.
    """

    beat: NDArray[np.intp]
    time_s: NDArray[np.float64]

    def beats_s(self) -> NDArray[np.float64]:
        """Return the times of all beats."""
        return np.interp(np.arange(self.beat[0], self.beat[-1] + 1), self.beat, self.time_s)


def straightened(beats_s: NDArray[np.float64], tolerance_s: float = TOLERANCE_S) -> Knots:
    """Return the fewest even stretches, found greedily, that pass every beat within the tolerance.

    Args:
        beats_s: (n,) rising, n >= 2.
    """
    count = np.arange(len(beats_s), dtype=np.float64)
    slope, start_s = np.polyfit(count, beats_s, 1)
    if np.abs(start_s + slope * count - beats_s).max() <= tolerance_s:
        return Knots(np.array([0, len(beats_s) - 1]), np.array([start_s, start_s + slope * count[-1]]))
    beat, time_s = [0], [float(beats_s[0])]
    while beat[-1] < len(beats_s) - 1:
        length, interval_s = _longest_stretch(beats_s[beat[-1] :], time_s[-1], tolerance_s)
        beat.append(beat[-1] + length)
        time_s.append(time_s[-1] + length * interval_s)
    return Knots(np.array(beat), np.array(time_s))


def _longest_stretch(beats_s: NDArray[np.float64], start_s: float, tolerance_s: float) -> tuple[int, float]:
    """Return how many beats on one even stretch from `start_s` can reach, and the length of the beat there."""
    lowest, highest = 0.0, np.inf
    reached = 0
    while reached < len(beats_s) - 1:
        block = beats_s[reached + 1 : reached + 1 + _BLOCK_BEATS]
        count = np.arange(reached + 1, reached + 1 + len(block))
        lows = np.maximum(np.maximum.accumulate((block - tolerance_s - start_s) / count), lowest)
        highs = np.minimum(np.minimum.accumulate((block + tolerance_s - start_s) / count), highest)
        kept = len(block) if (lows <= highs).all() else int(np.argmax(lows > highs))
        if kept:
            lowest, highest = float(lows[kept - 1]), float(highs[kept - 1])
            reached += kept
        if kept < len(block):
            break
    if not reached:  # the beat jumps by more than the tolerance: straight to the next one
        return 1, float(beats_s[1] - start_s)
    count = np.arange(1, reached + 1)
    best = float(np.dot(count, beats_s[1 : reached + 1] - start_s) / np.dot(count, count))
    return reached, float(np.clip(best, lowest, highest))


def extended(knots: Knots, start_s: float, end_s: float) -> Knots:
    """Return the knots with beats added before and after, as far as they lie within these times."""
    beats_s = knots.beats_s()
    num_beats = min(_END_BEATS, len(beats_s) - 1)
    first_length_s = (beats_s[num_beats] - beats_s[0]) / num_beats
    last_length_s = (beats_s[-1] - beats_s[-1 - num_beats]) / num_beats
    before = max(int(np.floor((beats_s[0] - start_s) / first_length_s)), 0)
    after = max(int(np.floor((end_s - beats_s[-1]) / last_length_s)), 0)
    beat, time_s = knots.beat, knots.time_s
    if before:
        beat = np.concatenate([[beat[0] - before], beat])
        time_s = np.concatenate([[time_s[0] - before * first_length_s], time_s])
    if after:
        beat = np.concatenate([beat, [beat[-1] + after]])
        time_s = np.concatenate([time_s, [time_s[-1] + after * last_length_s]])
    return Knots(beat, time_s)


def cut(knots: Knots, end_s: float) -> Knots:
    """Return the knots without the beats after that time; the first beat stays."""
    beats_s = knots.beats_s()
    last = max(int(np.searchsorted(beats_s, end_s, side="right")) - 1, 0)
    kept = knots.beat < knots.beat[0] + last
    return Knots(np.append(knots.beat[kept], knots.beat[0] + last), np.append(knots.time_s[kept], beats_s[last]))
