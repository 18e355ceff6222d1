"""`Strokes` of the activations with times and velocities (`find_strokes`), and hits on a grid (`place_hits`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from serve_app.errors import InvalidRequest
from serve_app.models.drums.activations import DrumActivations
from serve_app.models.drums.bands import FRAMES_PER_S
from serve_app.models.drums.beats import BeatGrid
from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.tempo import OnsetTrain
from serve_app.results import Drum, DrumHit
from serve_app.sentences import Sentence

# A flam's two strokes are 20 to 40 ms apart, a fast roll's 40 ms; nearer peaks are one uncertain stroke.
MIN_DISTANCE_S = 0.03


@dataclass(frozen=True, slots=True)
class Peaks:
    """Strokes of one drum, in order of time.

    Attributes:
        frames: (n,) int, the frame of each.
        times_s: (n,) float64, within half a frame of it.
        confidences: (n,) float64, the activation at the frame.
    """

    frames: np.ndarray
    times_s: np.ndarray
    confidences: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def pick_peaks(
    activation: np.ndarray,
    threshold: float,
    *,
    min_distance_s: float = MIN_DISTANCE_S,
    frames_per_s: float = FRAMES_PER_S,
) -> Peaks:
    """Find local maxima of at least `threshold`; of two nearer than `min_distance_s`, the higher.

    Times are those of the parabola through a maximum and its neighbours; the first and the last frame can be peaks.
    Their median error is below 0.2 ms (docs/models/drums.md). `activation`: (frames,) probabilities.
    """
    padded = np.pad(np.asarray(activation, dtype=np.float64), 1)
    # rounded: 2.9999… from a product of floats must not let a nearer peak pass
    distance = max(1.0, np.round(min_distance_s * frames_per_s, 6))
    found, _ = find_peaks(padded, height=threshold, distance=distance)
    before, at, after = padded[found - 1], padded[found], padded[found + 1]
    curvature = before - 2.0 * at + after  # ≤ 0 at a maximum; 0 on a plateau
    offsets = np.divide(0.5 * (before - after), curvature, out=np.zeros_like(at), where=curvature < 0.0)
    frames = found - 1
    times_s = np.maximum(frames + np.clip(offsets, -0.5, 0.5), 0.0) / frames_per_s
    return Peaks(frames, times_s, at)


_DB_PER_DECADE = 40.0  # General MIDI: a note's amplitude is proportional to the square of its velocity
# Loud strokes get this velocity; an accent may be 2.5 dB louder.
_LOUD_VELOCITY, _LOUD_PERCENTILE = 110.0, 90.0


def velocities(levels_db: np.ndarray) -> np.ndarray:
    """Return the velocities, (n,) int from 1 to 127, of one drum's strokes in one file.

    A drum's loud strokes (their 90th percentile) get 110; 12 dB less is half the velocity.

    Args:
        levels_db: (n,) level of each stroke; levels that are not finite count as loud.
    """
    levels_db = np.asarray(levels_db, dtype=np.float64)
    finite = levels_db[np.isfinite(levels_db)]
    loud_db = np.percentile(finite, _LOUD_PERCENTILE) if len(finite) else 0.0
    below_db = np.nan_to_num(levels_db - loud_db, nan=0.0, posinf=0.0, neginf=0.0)
    exact = _LOUD_VELOCITY * 10.0 ** (np.clip(below_db, -200.0, 200.0) / _DB_PER_DECADE)
    return np.clip(np.round(exact), 1, 127).astype(int)


BEATS_PER_WHOLE_NOTE = 4


def quantize(times_s: NDArray[np.float64], grid: BeatGrid, division: int) -> NDArray[np.float64]:
    """Return each of the times, (n,) in any order, moved to the nearest line of the grid; lines before 0 become 0.

    Lines divide the beats evenly, and continue at the first and the last tempo outside the beats. They are counted from
    the grid's first beat; bars are not detected, so divisions 1 and 2 may lie a beat off the bar.

    Args:
        times_s: of the strokes.
        grid: the beats.
        division: lines in a whole note: 16 for sixteenths, 12 for triplets of eighths; InvalidRequest below 1.
    """
    if division < 1:
        raise InvalidRequest(
            Sentence("a grid divides a whole note into at least 1 part, not {division}", division=division)
        )
    times_s = np.asarray(times_s, dtype=np.float64)
    if not times_s.size:
        return times_s
    known_s, known_beats = _reaching(grid, float(times_s.min()), float(times_s.max()))
    lines_per_beat = division / BEATS_PER_WHOLE_NOTE
    lines = np.round(np.interp(times_s, known_s, known_beats) * lines_per_beat)
    return np.maximum(np.interp(lines / lines_per_beat, known_beats, known_s), 0.0)


def _reaching(grid: BeatGrid, earliest_s: float, latest_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the times of the beats and their numbers, with one more on each side, beyond all needed lines."""
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


_CHORD_S = 0.02  # two limbs strike together within some milliseconds, and the detector's scatter adds to that
_USUAL_THRESHOLD = 0.5  # of labels without a threshold in the checkpoint
_SOFT_WEIGHT = 0.25  # of the softest strokes in tempo and beat tracking; loud ones have 1


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
    """Return the strokes of every label, also of those that become no hits; none is later than `duration_s`."""
    found = {}
    for column, label in enumerate(activations.labels):
        is_drum = label in set(Drum)
        threshold = config.threshold_of(Drum(label), tuned) if is_drum else tuned.get(label, _USUAL_THRESHOLD)
        peaks = pick_peaks(activations.probabilities[:, column], threshold, frames_per_s=activations.frames_per_s)
        levels_db = activations.levels_db[peaks.frames, column]
        times_s = np.clip(peaks.times_s, 0.0, duration_s)
        found[label] = Strokes(times_s, peaks.confidences, velocities(levels_db))
    return found


def onset_train(strokes: Mapping[str, Strokes]) -> OnsetTrain:
    """Return the strokes of all labels for tempo and beat tracking; loud and sure ones have more weight."""
    loudness = {label: np.clip(each.velocities / _LOUD_VELOCITY, _SOFT_WEIGHT, 1.0) for label, each in strokes.items()}
    return OnsetTrain.of(
        np.concatenate([each.times_s for each in strokes.values()]),
        np.concatenate([each.confidences * loudness[label] for label, each in strokes.items()]),
        [label for label, each in strokes.items() for _ in range(len(each.times_s))],
    )


def place_hits(strokes: Mapping[str, Strokes], grid: BeatGrid, config: InferenceConfig) -> tuple[DrumHit, ...]:
    """Return the drums' hits with their places on the grid, in order of time, then of `Drum`.

    Strokes of different drums within 20 ms (less on a fine grid) are moved together. No stroke is dropped, also where
    two strokes of a drum get the same line.
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
    common_s = times_s.copy()  # of a chord, the mean of its strokes, weighted by loudness
    for start, end in _chords(times_s.tolist(), drums.tolist(), min(_CHORD_S, finest_s / 2)):
        common_s[start:end] = np.average(times_s[start:end], weights=loudness[start:end])
    quantized_s = times_s.copy()
    for index, division in enumerate(divisions):
        if division:
            own = drums == index
            quantized_s[own] = quantize(common_s[own], grid, division)
    struck = [list(Drum)[drum] for drum in drums]
    columns = (times_s.tolist(), quantized_s.tolist(), struck, loudness.tolist(), confidences.tolist())
    return tuple(map(DrumHit, *columns))


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
