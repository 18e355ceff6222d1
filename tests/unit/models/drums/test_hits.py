"""Strokes from activations, and their places on the grid."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.models.drums.activations import DrumActivations
from serve_app.models.drums.beats import BeatGrid
from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.hits import Strokes, find_strokes, onset_train, place_hits
from serve_app.results import Drum, DrumHit, TempoChange

LABELS = ("cymbal", "hihat", "kick", "snare")  # a checkpoint may have them in any order
TUNED = {"kick": 0.5, "snare": 0.4, "hihat": 0.3, "cymbal": 0.6}
GRID = BeatGrid(120.0, np.arange(0.05, 10.0, 0.5), (TempoChange(0.05, 120.0),))


def activations(strokes: dict[str, list[tuple[int, float, float]]], frames: int = 300) -> DrumActivations:
    """Return activations with (frame, probability, level) of each label's strokes."""
    probabilities = np.full((frames, len(LABELS)), 0.01, dtype=np.float16)
    levels_db = np.full((frames, len(LABELS)), -90.0, dtype=np.float16)
    for label, each in strokes.items():
        for frame, probability, level_db in each:
            probabilities[frame, LABELS.index(label)] = probability
            levels_db[frame, LABELS.index(label)] = level_db
    return DrumActivations(probabilities, levels_db, LABELS)


def strokes_at(**times_s: list[float]) -> dict[str, Strokes]:
    return {
        drum: Strokes(
            np.array(times_s.get(drum, []), dtype=np.float64),
            np.full(len(times_s.get(drum, [])), 0.9),
            np.full(len(times_s.get(drum, [])), 100),
        )
        for drum in (*map(str, Drum), "cymbal")
    }


def lines(hits: tuple[DrumHit, ...]) -> list[tuple[str, float]]:
    return [(str(hit.drum), round(hit.quantized_s, 4)) for hit in hits]


def test_every_label_has_its_own_threshold_and_levels() -> None:
    heard = activations(
        {
            "kick": [(10, 0.55, -10.0), (60, 0.45, -10.0)],
            "snare": [(20, 0.45, -5.0), (70, 0.9, -17.0)],
            "hihat": [(30, 0.25, -30.0), (80, 0.35, -30.0)],
            "cymbal": [(40, 0.65, 0.0), (90, 0.55, 0.0)],
        }
    )
    config = InferenceConfig(thresholds={"hihat": 0.2})
    found = find_strokes(heard, config, TUNED, 3.0)
    assert {label: np.round(each.times_s, 2).tolist() for label, each in found.items()} == {
        "kick": [0.1],
        "snare": [0.2, 0.7],
        "hihat": [0.3, 0.8],
        "cymbal": [0.4],
    }
    loud, soft = found["snare"].velocities
    assert 2 * soft == pytest.approx(loud, abs=2)
    assert found["kick"].confidences.tolist() == pytest.approx([0.55], abs=0.001)


def test_no_stroke_lies_outside_the_recording() -> None:
    heard = activations({"kick": [(0, 0.9, 0.0), (299, 0.9, 0.0)]})
    times_s = find_strokes(heard, InferenceConfig(), TUNED, 2.9874)["kick"].times_s
    assert times_s.min() >= 0.0
    assert times_s.max() <= 2.9874


def test_soft_and_doubtful_strokes_count_less_for_the_tempo() -> None:
    strokes = {
        "kick": Strokes(np.array([0.5, 1.0]), np.array([1.0, 0.5]), np.array([110, 110])),
        "cymbal": Strokes(np.array([0.7]), np.array([1.0]), np.array([5])),
    }
    train = onset_train(strokes)
    assert train.time_s.tolist() == [0.5, 0.7, 1.0]
    assert train.weight.tolist() == [1.0, 0.25, 0.5]
    assert len(onset_train(strokes_at())) == 0


def test_hits_are_in_order_of_time_then_drum_and_others_are_no_hits() -> None:
    hits = place_hits(strokes_at(hihat=[1.0, 0.5], snare=[1.0], kick=[1.0], cymbal=[0.7]), GRID, InferenceConfig())
    assert [(hit.time_s, hit.drum) for hit in hits] == [
        (0.5, Drum.HIHAT),
        (1.0, Drum.KICK),
        (1.0, Drum.SNARE),
        (1.0, Drum.HIHAT),
    ]


def test_each_drum_has_its_own_grid() -> None:
    config = InferenceConfig(grid_division={"kick": 4, "snare": 16, "hihat": None})
    # half a second apart lie the beats, from 0.05 s on
    hits = place_hits(strokes_at(kick=[0.70], snare=[1.20], hihat=[1.70]), GRID, config)
    assert lines(hits) == [("kick", 0.55), ("snare", 1.175), ("hihat", 1.7)]
    assert [hit.time_s for hit in hits] == [0.70, 1.20, 1.70]


@pytest.mark.parametrize("spread_s", [0.001, 0.004, 0.009])
def test_what_is_struck_together_comes_to_the_same_line(spread_s: float) -> None:
    """Half-way between two sixteenths, where each alone might go either way."""
    middle_s = 0.05 + 0.125 / 2
    for shift_s in np.linspace(-0.01, 0.01, 21):
        at_s = float(middle_s + shift_s)
        hits = place_hits(
            strokes_at(kick=[at_s], snare=[at_s + spread_s], hihat=[at_s - spread_s]), GRID, InferenceConfig()
        )
        assert len({hit.quantized_s for hit in hits}) == 1
        assert sorted(hit.time_s for hit in hits) == [at_s - spread_s, at_s, at_s + spread_s]


def test_a_flam_is_not_struck_together() -> None:
    config = InferenceConfig(grid_division=dict.fromkeys(map(str, Drum), 64))
    hits = place_hits(strokes_at(snare=[0.53, 0.555], kick=[0.55]), GRID, config)
    assert lines(hits) == [("snare", 0.5188), ("kick", 0.55), ("snare", 0.55)]


def test_strokes_of_a_drum_on_the_same_line_both_stay() -> None:
    hits = place_hits(strokes_at(snare=[0.53, 0.57]), GRID, InferenceConfig())
    assert lines(hits) == [("snare", 0.55), ("snare", 0.55)]


def test_no_strokes_no_hits() -> None:
    assert place_hits(strokes_at(), GRID, InferenceConfig()) == ()
