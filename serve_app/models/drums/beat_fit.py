"""`Section`: beats to the millisecond, from a coarse path of tempo and phase that is fitted to the strokes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from serve_app.models.drums.tempo import HOP_S, OnsetTrain, TempoPath

# A pause this long near a change of tempo is where the tempo changes.
_PAUSE_S = 2.0
_BEFORE_STROKE_BEATS = 0.3
# Strokes this far from a beat, or from the middle between two, belong to it; narrower each round.
_REACH_BEATS = (0.12, 0.09, 0.07)
# Weight of the squared change of the beat's length against squared errors of strokes. Players' tempo wanders by about
# 0.3 % a beat, strokes scatter by 8 to 15 ms.
_STIFFNESS = 60.0
_INERTIA = 1e-3


@dataclass(frozen=True)
class Section:
    """A stretch over which the beat has no break.

    Attributes:
        beats_s: (n,) times of the beats from its first stroke to its last, n >= 2, rising.
        start_s: the end of the section before; 0 for the first.
    """

    beats_s: NDArray[np.float64]
    start_s: float


def sections_of(path: TempoPath, onsets: OnsetTrain) -> list[Section]:
    """Return the fitted beats of the file, section by section."""
    firsts = np.flatnonzero(path.is_new)
    firsts = firsts[firsts > 0]
    changes_s = np.maximum.accumulate([0.0, *(_change_s(path, onsets, int(first)) for first in firsts)])
    bounds_s = [*changes_s.tolist(), np.inf]
    parts = np.split(np.arange(len(path.time_s)), firsts)
    sections = []
    for part, start_s, end_s in zip(parts, bounds_s[:-1], bounds_s[1:], strict=True):
        own = onsets.between(start_s, end_s)
        if len(own):
            beats_s = _coarse_beats(path, part, float(own.time_s[0]), float(own.time_s[-1]))
            sections.append(Section(_fitted(beats_s, own), start_s))
    return sections


def _change_s(path: TempoPath, onsets: OnsetTrain, first: int) -> float:
    """Return when the tempo changes between two windows: after a long pause, else half-way."""
    before_s, after_s = path.time_s[first - 1], path.time_s[first]
    near = onsets.between(before_s - HOP_S, after_s + HOP_S).time_s
    pauses = np.diff(near)
    if len(pauses) and pauses.max() > _PAUSE_S:
        return float(near[pauses.argmax() + 1] - _BEFORE_STROKE_BEATS * 60 / path.bpm[first])
    return float(before_s + after_s) / 2


def _coarse_beats(path: TempoPath, part: NDArray[np.intp], start_s: float, end_s: float) -> NDArray[np.float64]:
    """Return the beats of these windows, from the last before the start to the first after the end."""
    time_s, bpm, phase = path.time_s[part], path.bpm[part], path.phase[part]
    expected = np.diff(time_s) * (bpm[:-1] + bpm[1:]) / 120
    turned = np.diff(phase)
    beat = phase[0] + np.concatenate([[0.0], np.cumsum(turned + np.round(expected - turned))])
    # one more point on each side, at the tempo there
    before_s, after_s = min(start_s, time_s[0]) - 4.0, max(end_s, time_s[-1]) + 4.0
    time_s = np.concatenate([[before_s], time_s, [after_s]])
    first = beat[0] + (before_s - time_s[1]) * bpm[0] / 60
    last = beat[-1] + (after_s - time_s[-2]) * bpm[-1] / 60
    beat = np.concatenate([[first], beat, [last]])
    from_beat, to_beat = np.floor(np.interp(start_s, time_s, beat)), np.ceil(np.interp(end_s, time_s, beat))
    return np.interp(np.arange(from_beat, max(to_beat, from_beat + 1) + 1), beat, time_s)


def _fitted(beats_s: NDArray[np.float64], onsets: OnsetTrain) -> NDArray[np.float64]:
    """Return the beats moved to the strokes on them and half-way between them.

    A Whittaker smoother: least squares of strokes against a beat of slowly changing length. Of strokes half-way only
    the changes count, not the places: with swing all of them are late.
    """
    for reach in _REACH_BEATS:
        half_beats = np.interp(onsets.time_s, beats_s, 2.0 * np.arange(len(beats_s)), left=-1, right=-1)
        nearest = np.round(half_beats).astype(np.intp)
        off_beats = (half_beats - nearest) / 2
        near = (np.abs(off_beats) < reach) & (half_beats >= 0)
        if not near.any():
            return beats_s
        lower, on_beat = nearest[near] // 2, nearest[near] % 2 == 0
        weight = onsets.weight[near] * (1 - (off_beats[near] / reach) ** 2) ** 2  # Tukey's: far strokes fade out
        # strokes on the beat are enough to place it
        is_placed = weight[on_beat].sum() > 0.1 * weight.sum() and not on_beat.all()
        late_beats = 0.0
        if is_placed:
            late, shares = off_beats[near][~on_beat], weight[~on_beat]
            late_beats = np.quantile(late, 0.5, weights=shares, method="inverted_cdf")
        length_s = np.diff(beats_s, append=2 * beats_s[-1] - beats_s[-2])[lower]
        target_s = onsets.time_s[near] - np.where(on_beat, 0.0, late_beats * length_s)
        fitted_s = _smoothed(lower, np.where(on_beat, 0.0, 0.5), target_s, weight, beats_s)
        if (np.diff(fitted_s) < 0.5 * np.diff(beats_s)).any():
            return beats_s  # contradicting strokes have pulled beats together
        beats_s = fitted_s
    return beats_s


def _smoothed(
    lower: NDArray[np.intp],
    part: NDArray[np.floating],
    target_s: NDArray[np.floating],
    weight: NDArray[np.floating],
    beats_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the beats b that minimise Σ weight ((1-part) b[lower] + part b[lower+1] - target)² + stiffness Σ (Δ²b)².

    Beats without strokes stay near their old places.
    """
    num_beats = len(beats_s)
    upper = np.minimum(lower + 1, num_beats - 1)
    part = np.where(lower + 1 < num_beats, part, 0.0)
    bands = np.zeros((3, num_beats))  # upper form of solveh_banded: last row is the diagonal
    bands[2] += _INERTIA
    right = _INERTIA * beats_s
    np.add.at(bands[2], lower, weight * (1 - part) ** 2)
    np.add.at(bands[2], upper, weight * part**2)
    np.add.at(bands[1], upper, weight * part * (1 - part))
    np.add.at(right, lower, weight * (1 - part) * target_s)
    np.add.at(right, upper, weight * part * target_s)
    for offset, factors in ((0, (1, 4, 1)), (1, (-2, -2)), (2, (1,))):
        for shift, factor in enumerate(factors):
            bands[2 - offset, offset + shift : num_beats - (2 - offset) + shift] += _STIFFNESS * factor
    return solveh_banded(bands, right)
