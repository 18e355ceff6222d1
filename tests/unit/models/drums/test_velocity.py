"""Velocities follow loudness."""

import numpy as np

from serve_app.models.drums.hits import velocities


def test_louder_never_gets_a_lower_velocity() -> None:
    levels_db = np.sort(np.random.default_rng(5).uniform(-60, 0, 300))
    given = velocities(levels_db)
    assert (np.diff(given) >= 0).all()
    assert given.min() >= 1
    assert given.max() <= 127
    assert len(set(given.tolist())) > 60


def test_recording_level_does_not_matter() -> None:
    levels_db = np.array([-30.0, -12.0, -10.0, -22.0, -11.0])
    np.testing.assert_array_equal(velocities(levels_db), velocities(levels_db - 17.0))


def test_twelve_decibels_are_half_the_velocity() -> None:
    levels_db = np.array([-10.0] * 10 + [-22.04, -34.08])
    assert velocities(levels_db).tolist() == [110] * 10 + [55, 28]


def test_accent_among_even_strokes_stands_out_and_stays_in_range() -> None:
    given = velocities(np.array([-20.0] * 30 + [-18.0, 0.0]))
    assert given[:30].tolist() == [110] * 30
    assert 110 < given[30] < given[31] == 127


def test_few_strokes() -> None:
    assert velocities(np.array([])).tolist() == []
    assert velocities(np.array([-50.0])).tolist() == [110]
    loud, soft = velocities(np.array([-10.0, -30.0]))
    assert loud > 100
    assert 25 < soft < 45


def test_unknown_level_counts_as_loud() -> None:
    assert velocities(np.array([-10.0, np.nan, -np.inf])).tolist() == [110, 110, 110]
    assert velocities(np.array([np.nan])).tolist() == [110]
