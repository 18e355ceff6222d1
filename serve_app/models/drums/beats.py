"""The beats of a recording, from the strokes of its drums: tempo, phase and tempo map.

The path of tempo and phase through the file (`tempo`) is fitted to the strokes (`beat_fit`) and straightened into few
tempo changes (`tempo_map`); the beats of the grid are those of the tempo map, so that a sequencer that reads the map
shows the very beats that strokes were quantised to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve_app.models.drums.beat_fit import Section, sections_of
from serve_app.models.drums.onsets import OnsetTrain
from serve_app.models.drums.tempo import constant_phase, tempo_path
from serve_app.models.drums.tempo_map import Knots, cut, extended, straightened
from serve_app.results import TempoChange

DEFAULT_BPM = 120.0
# Strokes closer together than this are one event, and no tempo.
_SHORTEST_RHYTHM_S = 0.1
# Two sections that meet: a last beat nearer than this to the next section's first is left out.
_SHORTEST_JOINT_BEATS = 0.5
# A first beat this little before the file's beginning is its beginning: loops are cut on the beat.
_EARLIEST_BEAT_S = 0.012
# Stretches whose tempos differ by less are one.
_SAME_TEMPO = 1e-6


@dataclass(frozen=True)
class BeatGrid:
    """Where the beats fall.

    Attributes:
        bpm: quarter notes a minute, the whole file's: the mean over beats near the median tempo, so that pauses and
            other songs in the same file don't move it; what the caller said where that was said.
        beats_s: (n,) rising, the beats in [0, duration]; one at 0 or after it in files shorter than a beat.
        tempo_map: at least one; the first starts at `beats_s[0]`. Beats between are evenly spaced.
        is_assumed: True where there were no strokes to find a tempo from.
    """

    bpm: float
    beats_s: NDArray[np.float64]
    tempo_map: tuple[TempoChange, ...]
    is_assumed: bool = False


def estimate_tempo(onsets: OnsetTrain, duration_s: float) -> float:
    """Return quarter notes a minute (see `BeatGrid.bpm`); 120 where there are no strokes."""
    return track_beats(onsets, duration_s).bpm


def track_beats(onsets: OnsetTrain, duration_s: float, bpm_override: float | None = None) -> BeatGrid:
    """Return the beats of a file.

    Args:
        duration_s: of the file; the grid covers it.
        bpm_override: the tempo, exactly and throughout; only the phase is found then.
    """
    heard = onsets.between(0.0, np.inf)
    if len(heard) == 0 or not heard.weight.any():
        return _steady(bpm_override or DEFAULT_BPM, 0.0, duration_s, is_assumed=bpm_override is None)
    has_no_tempo = heard.time_s[-1] - heard.time_s[0] < _SHORTEST_RHYTHM_S
    if bpm_override is not None or has_no_tempo:
        grid = _at_tempo(heard, duration_s, bpm_override or DEFAULT_BPM)
        return replace(grid, is_assumed=bpm_override is None)
    return _grid(_joined(sections_of(tempo_path(heard), heard), duration_s), duration_s)


def _at_tempo(onsets: OnsetTrain, duration_s: float, bpm: float) -> BeatGrid:
    """Return the steady grid of that tempo whose beats the strokes fall on best."""
    beat_s = 60 / bpm
    start_s = -constant_phase(onsets, bpm) * beat_s
    # strokes near the beat tell its place more finely than the search did
    off_s = (onsets.time_s - start_s + beat_s / 2) % beat_s - beat_s / 2
    near = np.abs(off_s) < 0.1 * beat_s
    if near.any() and onsets.weight[near].any():
        start_s += float(np.average(off_s[near], weights=onsets.weight[near]))
    first_s = start_s % beat_s
    return _steady(bpm, first_s if beat_s - first_s > _EARLIEST_BEAT_S else 0.0, duration_s)


def _steady(bpm: float, first_s: float, duration_s: float, *, is_assumed: bool = False) -> BeatGrid:
    beat_s = 60 / bpm
    count = max(int(np.floor((duration_s - first_s) / beat_s + 1e-9)) + 1, 1)
    return BeatGrid(
        bpm, first_s + beat_s * np.arange(count, dtype=np.float64), (TempoChange(first_s, bpm),), is_assumed
    )


def _joined(sections: list[Section], duration_s: float) -> Knots:
    """Return one tempo map over the whole file.

    Each section goes on at its last tempo until the next takes over; there one beat is shorter or longer.
    """
    starts_s = [-_EARLIEST_BEAT_S] + [section.start_s for section in sections[1:]]
    parts: list[Knots] = []
    for section, start_s, end_s in zip(sections, starts_s, [*starts_s[1:], duration_s], strict=True):
        knots = extended(straightened(section.beats_s), start_s, end_s)
        if parts:
            length_s = (knots.time_s[1] - knots.time_s[0]) / (knots.beat[1] - knots.beat[0])
            parts[-1] = cut(parts[-1], float(knots.time_s[0]) - _SHORTEST_JOINT_BEATS * length_s)
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
