import numpy as np
import pytest

from serve_app.errors import InvalidRequest
from serve_app.models.drums.beats import BeatGrid
from serve_app.models.drums.hits import quantize
from serve_app.results import TempoChange


def steady(bpm: float = 120.0, first_s: float = 0.0, count: int = 17) -> BeatGrid:
    return BeatGrid(bpm, first_s + 60 / bpm * np.arange(count), (TempoChange(first_s, bpm),))


@pytest.mark.parametrize(
    ("division", "played_s", "expected_s"),
    [
        (16, [0.06, 0.07, 1.13], [0.0, 0.125, 1.125]),
        (8, [0.12, 0.13], [0.0, 0.25]),
        (4, [0.24, 0.26, 7.9], [0.0, 0.5, 8.0]),
        (12, [0.15, 0.34], [1 / 6, 1 / 3]),
        (24, [0.08, 0.26], [1 / 12, 0.25]),
        (64, [0.03, 0.04], [0.03125, 0.03125]),
        (1, [0.9, 1.1, 2.9, 3.1], [0.0, 2.0, 2.0, 4.0]),
        (3, [0.6, 1.4], [2 / 3, 4 / 3]),
    ],
)
def test_divisions_of_a_whole_note(division, played_s, expected_s):
    assert quantize(np.array(played_s), steady(), division) == pytest.approx(expected_s)


def test_the_grid_begins_on_the_first_beat():
    assert quantize(np.array([0.30, 0.44]), steady(first_s=0.3), 16) == pytest.approx([0.3, 0.425])


def test_the_grid_follows_the_beats():
    beats_s = np.array([0.0, 0.5, 1.0, 1.6, 2.2])
    grid = BeatGrid(110.0, beats_s, (TempoChange(0.0, 120.0), TempoChange(1.0, 100.0)))
    assert quantize(np.array([0.26, 1.29, 1.74, 2.21]), grid, 8) == pytest.approx([0.25, 1.3, 1.6, 2.2])


def test_the_grid_goes_on_before_the_first_and_after_the_last_beat():
    grid = steady(first_s=1.0, count=3)
    assert quantize(np.array([0.02, 0.6, 2.4, 9.1]), grid, 16) == pytest.approx([0.0, 0.625, 2.375, 9.125])


def test_no_time_is_negative():
    grid = steady(first_s=0.3)  # the line before is at -0.2 s
    assert quantize(np.array([0.0, 0.04]), grid, 4).tolist() == [0.0, 0.0]


def test_a_grid_of_one_beat_is_enough():
    assert quantize(np.array([0.0, 0.61]), steady(count=1), 8) == pytest.approx([0.0, 0.5])


def test_simultaneous_strokes_stay_simultaneous_and_order_is_kept():
    rng = np.random.default_rng(0)
    times_s = np.sort(rng.uniform(0, 20, 500))
    times_s[100:110] = times_s[100]
    moved = quantize(times_s, steady(133.0, 0.2, 40), 16)
    assert (np.diff(moved) >= 0).all()
    assert len(set(moved[100:110])) == 1


def test_what_lies_on_the_grid_stays():
    grid = steady(97.0, 0.1, 30)
    once = quantize(np.linspace(0.3, 15, 200), grid, 16)
    assert quantize(once, grid, 16) == pytest.approx(once, abs=1e-9)


def test_no_stroke_moves_further_than_half_a_line():
    rng = np.random.default_rng(1)
    times_s = rng.uniform(0.5, 20, 300)
    assert np.abs(quantize(times_s, steady(120.0, 0.0, 41), 16) - times_s).max() <= 0.0625 + 1e-9


def test_no_strokes():
    assert quantize(np.array([]), steady(), 16).size == 0


def test_a_division_below_one_is_refused():
    with pytest.raises(InvalidRequest, match="at least 1"):
        quantize(np.array([1.0]), steady(), 0)
