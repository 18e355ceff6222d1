"""Drum parts whose beats are known, for the tests of tempo, beats and grid."""

from __future__ import annotations

import numpy as np

from serve_app.models.drums.tempo import OnsetTrain

# Label -> one bar; as many steps a beat as the string has for four beats. x is loud, o soft.
Bars = dict[str, str]
ROCK: Bars = {"kick": "x.......x.x.....", "snare": "....x.......x...", "hihat": "x.x.x.x.x.x.x.x."}
DISCO: Bars = {"kick": "x...x...x...x...", "snare": "....x.......x...", "hihat": "..x...x...x...x."}
FUNK: Bars = {"kick": "x.x....x..x..x..", "snare": "....x..o.o..x..o", "hihat": "xoxoxoxoxoxoxoxo"}
BALLAD: Bars = {"kick": "x.......x.......", "snare": "....x.......x...", "hihat": "x.o.x.o.x.o.x.o."}
PUNK: Bars = {"kick": "x.......x.x.....", "snare": "....x.......x...", "cymbal": "x...x...x...x..."}
SWING: Bars = {"cymbal": "x..x.ox..x.o", "hihat": "...x.....x..", "kick": "o..o..o..o.."}
SHUFFLE: Bars = {"kick": "x.....x....x", "snare": "...x.....x..", "hihat": "x.ox.ox.ox.o"}
TOMS: Bars = {"tom": "x.xxx.xxx.xxx.xx", "kick": "x...x...x...x...", "snare": "............x..."}


def beats_at(bpm: float, duration_s: float, first_s: float = 0.0) -> np.ndarray:
    return np.arange(first_s, duration_s, 60 / bpm)


def play(
    bars: Bars,
    beats_s: np.ndarray,
    *,
    rng: np.random.Generator | None = None,
    jitter_s: float = 0.006,
    dropped: float = 0.07,
    added: float = 0.04,
    first_beat: int = 0,
) -> OnsetTrain:
    """Return the strokes of the part over these beats, with a detector's errors where there is a generator."""
    places, weights, labels = [], [], []
    num_bars = len(beats_s) // 4 + 1
    for label, bar in bars.items():
        steps_per_beat = len(bar) / 4
        for step, mark in enumerate(bar * num_bars):
            if mark != ".":
                places.append(step / steps_per_beat - first_beat)
                weights.append(1.0 if mark == "x" else 0.4)
                labels.append(label)
    place = np.array(places)
    inside = (place >= 0) & (place <= len(beats_s) - 1)
    time_s = np.interp(place[inside], np.arange(len(beats_s)), beats_s)
    weight, label = np.array(weights)[inside], np.array(labels)[inside]
    if rng is not None:
        kept = rng.random(len(time_s)) >= dropped
        time_s = time_s[kept] + rng.normal(0, jitter_s, int(kept.sum()))
        extra = rng.binomial(len(time_s), added)
        time_s = np.concatenate([time_s, rng.uniform(beats_s[0], beats_s[-1], extra)])
        weight = np.concatenate([weight[kept], rng.uniform(0.2, 0.6, extra)])
        label = np.concatenate([label[kept], rng.choice(list(bars), extra)])
    return OnsetTrain.of(np.maximum(time_s, 0.0), weight, label)


def join(*trains: OnsetTrain) -> OnsetTrain:
    """Return the strokes of trains that follow one another."""
    return OnsetTrain(
        np.concatenate([train.time_s for train in trains]),
        np.concatenate([train.weight for train in trains]),
        np.concatenate([train.label for train in trains]),
    )


def distance_to_grid_s(beats_s: np.ndarray, grid_s: np.ndarray) -> np.ndarray:
    """Return how far each true beat is from the nearest of the grid."""
    return np.abs(beats_s[:, None] - grid_s[None, :]).min(axis=1)
