"""`track_beats`: the beats of a recording from the strokes of its drums: tempo, phase and tempo map.

The path of tempo and phase through the file (`tempo`) is fitted to the strokes (`beat_fit`) and straightened into few
tempo changes. The grid's beats are those of the tempo map: a sequencer that reads the map shows the beats that strokes
were quantised to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve_app.models.drums.beat_fit import Section, sections_of
from serve_app.models.drums.tempo import OnsetTrain, constant_phase, octave_in_doubt, tempo_path
from serve_app.results import MAX_BPM, TempoChange

# Beats may lie this far from the map: less than players scatter about a steady tempo.
TOLERANCE_S = 0.015
_BLOCK_BEATS = 64
_END_BEATS = 8  # the beats before and after the strokes have the mean tempo of this many beats


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
    """Return few even stretches, found greedily, that pass every beat, (n >= 2,) rising, within the tolerance."""
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
    """Return how many beats one even stretch from `start_s` can pass, and the length of its beat."""
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
    if not reached:  # the beat jumps by more than the tolerance
        return 1, float(beats_s[1] - start_s)
    count = np.arange(1, reached + 1)
    best = float(np.dot(count, beats_s[1 : reached + 1] - start_s) / np.dot(count, count))
    return reached, float(np.clip(best, lowest, highest))


def extended(knots: Knots, start_s: float, end_s: float) -> Knots:
    """Return the knots with beats added before and after, up to these times."""
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


def cut_at(knots: Knots, end_s: float) -> Knots:
    """Return the knots without the beats after that time; the first beat stays."""
    beats_s = knots.beats_s()
    last = max(int(np.searchsorted(beats_s, end_s, side="right")) - 1, 0)
    kept = knots.beat < knots.beat[0] + last
    return Knots(np.append(knots.beat[kept], knots.beat[0] + last), np.append(knots.time_s[kept], beats_s[last]))


DEFAULT_BPM = 120.0
_SHORTEST_RHYTHM_S = 0.1  # strokes within a shorter time are one event without a tempo
# A section's last beat that is nearer to the next section's first is left out.
_SHORTEST_JOINT_BEATS, _SHORTEST_JOINT_S = 0.5, 60 / MAX_BPM
# A first beat this little before the file's start is moved to the start: loops are cut on the beat.
_EARLIEST_BEAT_S = 0.012
_SAME_TEMPO = 1e-6  # stretches whose tempos differ by less are one


@dataclass(frozen=True)
class BeatGrid:
    """The beats of a file.

    Attributes:
        bpm: quarter notes a minute, of the whole file: the caller's, or the mean over beats near the median tempo,
            which pauses and other songs in the same file don't move.
        beats_s: (n,) rising, the beats in [0, duration]; one at 0 or after it in files shorter than a beat.
        tempo_map: at least one; the first starts at `beats_s[0]`. Beats between two changes are evenly spaced.
        is_assumed: whether there were no strokes to find a tempo from.
        bpm_alternative: half or twice `bpm` where that may be meant; None where it is clear, or the caller's.
    """

    bpm: float
    beats_s: NDArray[np.float64]
    tempo_map: tuple[TempoChange, ...]
    is_assumed: bool = False
    bpm_alternative: float | None = None


def track_beats(onsets: OnsetTrain, duration_s: float, bpm_override: float | None = None) -> BeatGrid:
    """Return the beats of a file of this duration; with `bpm_override` that is the tempo throughout."""
    onsets = onsets.between(0.0, np.inf)
    bpm, is_assumed = bpm_override or DEFAULT_BPM, bpm_override is None
    if len(onsets) == 0 or not onsets.weight.any():
        return _steady(bpm, 0.0, duration_s, is_assumed=is_assumed)
    has_no_tempo = onsets.time_s[-1] - onsets.time_s[0] < _SHORTEST_RHYTHM_S
    if bpm_override is not None or has_no_tempo:
        return replace(_at_tempo(onsets, duration_s, bpm), is_assumed=is_assumed)
    path = tempo_path(onsets)
    grid = _grid(_joined(sections_of(path, onsets), duration_s), duration_s)
    ratio = octave_in_doubt(onsets, path)
    return grid if ratio is None else replace(grid, bpm_alternative=grid.bpm * ratio)


def _at_tempo(onsets: OnsetTrain, duration_s: float, bpm: float) -> BeatGrid:
    """Return the steady grid of that tempo which fits the strokes best."""
    beat_s = 60 / bpm
    start_s = -constant_phase(onsets, bpm) * beat_s
    # strokes near the beat place it more finely than the search
    off_s = (onsets.time_s - start_s + beat_s / 2) % beat_s - beat_s / 2
    near = np.abs(off_s) < 0.1 * beat_s
    if near.any() and onsets.weight[near].any():
        start_s += float(np.average(off_s[near], weights=onsets.weight[near]))
    first_s = start_s % beat_s
    return _steady(bpm, first_s if beat_s - first_s > _EARLIEST_BEAT_S else 0.0, duration_s)


def _steady(bpm: float, first_s: float, duration_s: float, *, is_assumed: bool = False) -> BeatGrid:
    beat_s = 60 / bpm
    count = max(int(np.floor((duration_s - first_s) / beat_s + 1e-9)) + 1, 1)
    beats_s = first_s + beat_s * np.arange(count, dtype=np.float64)
    return BeatGrid(bpm, beats_s, (TempoChange(first_s, bpm),), is_assumed)


def _joined(sections: list[Section], duration_s: float) -> Knots:
    """Return one tempo map: each section keeps its last tempo until the next begins, after a beat of another length."""
    starts_s = [-_EARLIEST_BEAT_S] + [section.start_s for section in sections[1:]]
    parts: list[Knots] = []
    for section, start_s, end_s in zip(sections, starts_s, [*starts_s[1:], duration_s], strict=True):
        knots = extended(straightened(section.beats_s), start_s, end_s)
        if parts:
            length_s = (knots.time_s[1] - knots.time_s[0]) / (knots.beat[1] - knots.beat[0])
            joint_s = max(_SHORTEST_JOINT_BEATS * length_s, _SHORTEST_JOINT_S)
            parts[-1] = cut_at(parts[-1], float(knots.time_s[0]) - joint_s)
            knots = Knots(knots.beat - knots.beat[0] + parts[-1].beat[-1] + 1, knots.time_s)
        parts.append(knots)
    return Knots(np.concatenate([part.beat for part in parts]), np.concatenate([part.time_s for part in parts]))


def _grid(knots: Knots, duration_s: float) -> BeatGrid:
    """Return the grid of the beats in [0, duration]."""
    beats_s = knots.beats_s()
    first = min(int(np.searchsorted(beats_s, -_EARLIEST_BEAT_S)), len(beats_s) - 1)
    beats_s = beats_s + max(0.0, -float(beats_s[first]))
    last = max(int(np.searchsorted(beats_s, duration_s, side="right")), first + 1)
    lengths_s = np.diff(beats_s, append=2 * beats_s[-1] - beats_s[-2])[first:last]
    is_start = np.isin(np.arange(first, last), knots.beat - knots.beat[0])
    is_start[0] = True
    beats_s = beats_s[first:last].astype(np.float64)
    changes: list[TempoChange] = []
    for index in np.flatnonzero(is_start):
        bpm = 60 / float(lengths_s[index])
        if not changes or abs(bpm / changes[-1].bpm - 1) > _SAME_TEMPO:
            changes.append(TempoChange(float(beats_s[index]), bpm))
    typical_s = lengths_s[np.abs(lengths_s / np.median(lengths_s) - 1) < 0.15]
    return BeatGrid(60 / float(typical_s.mean()), beats_s, tuple(changes))
