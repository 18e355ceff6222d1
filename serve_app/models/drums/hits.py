"""From activations to hits: strokes with their loudness, and where the grid puts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from serve_app.models.drums.activations import DrumActivations
from serve_app.models.drums.beats import BeatGrid
from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.onsets import OnsetTrain
from serve_app.models.drums.peaks import pick_peaks
from serve_app.models.drums.quantization import quantize
from serve_app.models.drums.velocity import velocities
from serve_app.results import Drum, DrumHit

# Two limbs that strike together are some milliseconds apart; the detector's scatter comes on top.
_CHORD_S = 0.02
# Of labels that no checkpoint's threshold is known for.
_USUAL_THRESHOLD = 0.5
# Weight in tempo and beat tracking of the softest strokes, against 1 of loud ones.
_SOFT_WEIGHT, _LOUD_VELOCITY = 0.25, 110.0


@dataclass(frozen=True, slots=True)
class Strokes:
    """All strokes of one label, in order of time.

    Attributes:
        times_s: (n,) when they were played.
        confidences: (n,) activation.
        velocities: (n,) int, 1 to 127.
    """

    times_s: np.ndarray
    confidences: np.ndarray
    velocities: np.ndarray


def find_strokes(
    activations: DrumActivations, config: InferenceConfig, tuned: Mapping[str, float], duration_s: float
) -> dict[str, Strokes]:
    """Return the strokes of every label, also of those that become no hits.

    Args:
        activations: of the whole recording.
        config: thresholds of the drums.
        tuned: the checkpoint's thresholds.
        duration_s: of the recording; no stroke is later.
    """
    found = {}
    for column, label in enumerate(activations.labels):
        if label in set(Drum):
            threshold = config.threshold_of(Drum(label), tuned)
        else:
            threshold = tuned.get(label, _USUAL_THRESHOLD)
        peaks = pick_peaks(activations.probabilities[:, column], threshold, frames_per_s=activations.frames_per_s)
        levels_db = activations.levels_db[peaks.frames, column]
        times_s = np.clip(peaks.times_s, 0.0, duration_s)
        found[label] = Strokes(times_s, peaks.confidences, velocities(levels_db))
    return found


def onset_train(strokes: Mapping[str, Strokes]) -> OnsetTrain:
    """Return what tempo and beats are found from: strokes of all labels, loud and sure ones with more weight."""
    loudness = {label: np.clip(each.velocities / _LOUD_VELOCITY, _SOFT_WEIGHT, 1.0) for label, each in strokes.items()}
    return OnsetTrain.of(
        np.concatenate([each.times_s for each in strokes.values()]),
        np.concatenate([each.confidences * loudness[label] for label, each in strokes.items()]),
        [label for label, each in strokes.items() for _ in range(len(each.times_s))],
    )


def place_hits(strokes: Mapping[str, Strokes], grid: BeatGrid, config: InferenceConfig) -> tuple[DrumHit, ...]:
    """Return the drums' hits with their places on the grid, in order of time, then of `Drum`.

    What is struck together stays together: strokes of different drums within 20 ms (less on a fine grid) are moved as
    one. Nothing is dropped, also not where two strokes of a drum come to the same line.
    """
    drums = np.repeat(np.arange(len(Drum)), [len(strokes[drum].times_s) for drum in Drum])
    times_s, confidences, loudness = (
        np.concatenate([getattr(strokes[drum], name) for drum in Drum])
        for name in ("times_s", "confidences", "velocities")
    )
    order = np.lexsort((drums, times_s))
    drums, times_s, confidences, loudness = (each[order] for each in (drums, times_s, confidences, loudness))
    divisions = [config.division_of(drum) for drum in Drum]
    finest_s = 240.0 / grid.bpm / max((each for each in divisions if each), default=1)
    common_s = _chord_times(times_s, drums, loudness, min(_CHORD_S, finest_s / 2))
    quantized_s = times_s.copy()
    for index, division in enumerate(divisions):
        if division:
            own = drums == index
            quantized_s[own] = quantize(common_s[own], grid, division)
    names = list(Drum)
    rows = zip(
        times_s.tolist(), quantized_s.tolist(), drums.tolist(), loudness.tolist(), confidences.tolist(), strict=True
    )
    return tuple(
        DrumHit(time_s, grid_s, names[drum], velocity, confidence)
        for time_s, grid_s, drum, velocity, confidence in rows
    )


def _chord_times(times_s: np.ndarray, drums: np.ndarray, loudness: np.ndarray, longest_s: float) -> np.ndarray:
    """Return for each stroke the time of what it is part of: the mean of its strokes, loud ones counting more."""
    common_s = times_s.copy()
    for start, end in _chords(times_s.tolist(), drums.tolist(), longest_s):
        common_s[start:end] = np.average(times_s[start:end], weights=loudness[start:end])
    return common_s


def _chords(times_s: list[float], drums: list[int], longest_s: float) -> Iterator[tuple[int, int]]:
    """Yield first and last (exclusive) of runs of different drums that begin and end within `longest_s`."""
    start, struck = 0, set[int]()
    for index, (time_s, drum) in enumerate(zip(times_s, drums, strict=True)):
        if drum in struck or (struck and time_s - times_s[start] > longest_s):
            if index - start > 1:
                yield start, index
            start, struck = index, set()
        struck.add(drum)
    if len(times_s) - start > 1:
        yield start, len(times_s)
