import numpy as np
import pytest

from serve_app.models.drums.beats import Knots, cut_at, extended, straightened


def test_a_steady_beat_is_one_stretch_through_its_jitter():
    rng = np.random.default_rng(0)
    knots = straightened(0.3 + 0.5 * np.arange(200) + rng.uniform(-0.01, 0.01, 200))
    assert knots.beat.tolist() == [0, 199]
    assert np.diff(knots.time_s)[0] / 199 == pytest.approx(0.5, abs=1e-4)


def test_every_beat_lies_within_the_tolerance():
    rng = np.random.default_rng(1)
    beats_s = np.cumsum(0.5 * np.exp(np.cumsum(rng.normal(0, 0.004, 3000))))
    knots = straightened(beats_s, 0.015)
    assert np.abs(knots.beats_s() - beats_s).max() <= 0.015 + 1e-9
    assert len(knots.beat) < len(beats_s) / 4


def test_two_tempos_are_two_stretches():
    beats_s = np.concatenate([0.5 * np.arange(101), 50 + 0.4 * np.arange(1, 101)])
    knots = straightened(beats_s)
    assert len(knots.beat) == 3
    assert abs(knots.beat[1] - 100) <= 1


def test_a_jump_between_two_beats_is_kept():
    beats_s = np.concatenate([0.5 * np.arange(50), 30 + 0.5 * np.arange(50)])
    assert np.abs(straightened(beats_s).beats_s() - beats_s).max() <= 0.016


def test_two_beats_are_enough():
    knots = straightened(np.array([1.0, 1.7]))
    assert knots.time_s.tolist() == pytest.approx([1.0, 1.7])


def test_extended_goes_on_at_the_tempo_of_each_end():
    knots = Knots(np.array([0, 8, 16]), np.array([4.0, 8.0, 10.0]))  # half a second, then a quarter
    longer = extended(knots, 2.1, 11.1)
    assert longer.beat.tolist() == [-3, 0, 8, 16, 20]
    assert longer.time_s.tolist() == pytest.approx([2.5, 4.0, 8.0, 10.0, 11.0])


def test_cut_ends_with_the_last_beat_in_time():
    knots = Knots(np.array([0, 8, 16]), np.array([0.0, 4.0, 6.0]))
    shorter = cut_at(knots, 4.6)
    assert shorter.beats_s().tolist() == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4.0, 4.25, 4.5])
    assert cut_at(knots, -1.0).beats_s().tolist() == [0.0]
