"""Strokes moved to the nearest line of a grid that follows the beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import InvalidRequest
from serve_app.models.drums.beats import BeatGrid

BEATS_PER_WHOLE_NOTE = 4


def quantize(times_s: NDArray[np.float64], grid: BeatGrid, division: int) -> NDArray[np.float64]:
    """Return each time moved to the nearest line of the grid.

    Lines divide the beats evenly, and go on at the first and the last tempo outside the beats. They are counted from
    the grid's first beat; which beat begins a bar is not known, so divisions 1 and 2 may lie a beat off the bar.

    Args:
        times_s: (n,) in any order.
        division: lines in a whole note: 16 for sixteenths, 12 for triplets of eighths.

    Returns:
        (n,) never negative: what belongs to a line before the file's beginning goes to 0.

    Raises:
        InvalidRequest: `division` is less than 1.
    """
    if division < 1:
        raise InvalidRequest(f"a grid divides a whole note into at least 1 part, not {division}")
    times_s = np.asarray(times_s, dtype=np.float64)
    if not times_s.size:
        return times_s
    known_s, known_beats = _reaching(grid, float(times_s.min()), float(times_s.max()))
    lines_per_beat = division / BEATS_PER_WHOLE_NOTE
    lines = np.round(np.interp(times_s, known_s, known_beats) * lines_per_beat)
    return np.maximum(np.interp(lines / lines_per_beat, known_beats, known_s), 0.0)


def _reaching(grid: BeatGrid, earliest_s: float, latest_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the times of the beats and their numbers, with one more on each side, beyond all lines that are needed."""
    first_s, last_s = float(grid.beats_s[0]), float(grid.beats_s[-1])
    first_length_s, last_length_s = 60 / grid.tempo_map[0].bpm, 60 / grid.tempo_map[-1].bpm
    # a line may lie a whole note beyond the stroke
    before = np.ceil(max(first_s - earliest_s, 0.0) / first_length_s) + BEATS_PER_WHOLE_NOTE
    after = np.ceil(max(latest_s - last_s, 0.0) / last_length_s) + BEATS_PER_WHOLE_NOTE
    numbers = np.arange(len(grid.beats_s), dtype=np.float64)
    return (
        np.concatenate([[first_s - before * first_length_s], grid.beats_s, [last_s + after * last_length_s]]),
        np.concatenate([[-before], numbers, [numbers[-1] + after]]),
    )
