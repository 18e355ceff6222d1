"""Small examples without any sound: bands in which each label's strokes raise bands of its own."""

from __future__ import annotations

import numpy as np

from serve_app.models.drums.network import LABELS
from training.drums.articulations import ARTICULATIONS
from training.drums.shards import SURE, Example

BANDS_OF = {"kick": slice(2, 14), "snare": slice(26, 42), "hihat": slice(60, 78)}
_ARTICULATIONS = {"kick": "kick", "snare": "snare", "hihat": "hihat_closed"}


def made_example(strokes, seconds=10.0, unsure=()) -> Example:
    """Return an example with strokes (time, label, level in dB), and others that are unsure."""
    frames = round(seconds * 100)
    bands = np.zeros((frames, 81), np.float32)
    together = sorted([(*stroke, SURE) for stroke in strokes] + [(*stroke, 1) for stroke in unsure])
    for time_s, label, level_db, _ in together:
        loudness = 2.5 + level_db / 20.0
        for frame in range(round(time_s * 100), min(frames, round(time_s * 100) + 8)):
            fading = loudness * (1 - (frame - time_s * 100) / 8)
            own = bands[frame, BANDS_OF[label]]
            bands[frame, BANDS_OF[label]] = np.maximum(own, fading)
    return Example(
        bands=bands.astype(np.float16),
        times_s=np.array([time_s for time_s, *_ in together], dtype=np.float64),
        kinds=np.array([kind for *_, kind in together], dtype=np.int8),
        labels=np.array([LABELS.index(label) for _, label, *_ in together], dtype=np.int8),
        articulations=np.array([ARTICULATIONS.index(_ARTICULATIONS[each[1]]) for each in together], dtype=np.int8),
        velocities=np.array([10 ** (level_db / 20) for *_, level_db, _ in together], dtype=np.float32),
        levels_db=np.array([level_db for *_, level_db, _ in together], dtype=np.float32),
        beats_s=np.arange(0.0, seconds, 0.5),
        about={"bpm": 120.0, "kit": "made:test", "genre": "rock"},
    )


def random_example(rng, seconds=10.0) -> Example:
    """Return one with a stroke every 0.12 s or so."""
    strokes, time_s = [], 0.1
    while time_s < seconds - 0.1:
        label = list(BANDS_OF)[rng.integers(len(BANDS_OF))]
        strokes.append((time_s, label, float(rng.uniform(-24.0, 0.0))))
        time_s += rng.uniform(0.06, 0.2)
    return made_example(strokes, seconds)
