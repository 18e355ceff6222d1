import numpy as np
import pytest

from serve_app.models.drums.tempo import HIGHEST_BPM, HOP_S, LOWEST_BPM, constant_phase, tempo_path
from tests.unit.models.drums.drum_patterns import (
    BALLAD,
    DISCO,
    FUNK,
    PUNK,
    ROCK,
    SHUFFLE,
    SWING,
    TOMS,
    beats_at,
    distance_to_grid_s,
    join,
    play,
)


def phase_error_beats(path, beats_s):
    """Return the distance of the path's beat to the nearest true one at each window's middle, in beats."""
    inside = (path.time_s > beats_s[0]) & (path.time_s < beats_s[-1])
    truth = np.interp(path.time_s[inside], beats_s, np.arange(len(beats_s)))
    return np.abs((path.phase[inside] - truth + 0.5) % 1 - 0.5)


@pytest.mark.parametrize("bpm", [62, 75, 90, 104, 120, 137, 160, 174])
def test_rock_at_its_own_tempo_and_in_phase(bpm):
    rng = np.random.default_rng(bpm)
    beats_s = beats_at(bpm, 30, rng.uniform(0, 1))
    path = tempo_path(play(ROCK, beats_s, rng=rng))
    assert np.abs(path.bpm / bpm - 1).max() < 0.02
    assert phase_error_beats(path, beats_s).max() < 0.06
    assert not path.is_new.any()


@pytest.mark.parametrize(
    ("bars", "bpm"),
    [(DISCO, 122), (FUNK, 98), (BALLAD, 66), (PUNK, 185), (SWING, 140), (SHUFFLE, 104), (TOMS, 110)],
    ids=["disco", "funk", "ballad", "punk", "swing", "shuffle", "toms"],
)
def test_styles(bars, bpm):
    rng = np.random.default_rng(5)
    beats_s = beats_at(bpm, 30, 0.7)
    path = tempo_path(play(bars, beats_s, rng=rng))
    assert np.abs(path.bpm / bpm - 1).max() < 0.02
    assert phase_error_beats(path, beats_s).max() < 0.08


def test_open_hats_off_the_beat_do_not_pull_the_beat_to_them():
    beats_s = beats_at(124, 24)
    house = {"kick": "x...x...x...x...", "hihat": "..x...x...x...x."}
    assert phase_error_beats(tempo_path(play(house, beats_s)), beats_s).max() < 0.05


def test_another_song_in_the_same_file_begins_anew():
    first_s, second_s = beats_at(92, 40), beats_at(151, 80, 40.3)
    path = tempo_path(join(play(ROCK, first_s), play(FUNK, second_s)))
    assert np.abs(path.bpm[path.time_s < 36] / 92 - 1).max() < 0.02
    assert np.abs(path.bpm[path.time_s > 44] / 151 - 1).max() < 0.02
    assert path.is_new.sum() == 1
    assert abs(path.time_s[path.is_new][0] - 40.3) <= 2 * HOP_S


def test_a_long_pause_begins_anew_at_the_same_tempo():
    path = tempo_path(join(play(ROCK, beats_at(100, 30)), play(ROCK, beats_at(100, 130, 100.25))))
    assert np.abs(path.bpm / 100 - 1).max() < 0.02
    assert path.time_s[path.is_new].tolist() == [100.0]
    assert not ((path.time_s > 36) & (path.time_s < 96)).any(), "windows without strokes are passed over"


def test_drift_is_followed_without_a_break():
    bpm = np.linspace(105, 125, 90)
    beats_s = np.cumsum(60 / bpm)
    path = tempo_path(play(ROCK, beats_s, rng=np.random.default_rng(3)))
    true_bpm = np.interp(path.time_s, beats_s, bpm)
    assert np.median(np.abs(path.bpm / true_bpm - 1)) < 0.015
    assert not path.is_new.any()


@pytest.mark.parametrize("gap_s", [0.05, 0.11, 0.5, 1.0, 3.0])
def test_an_even_stream_gets_a_tempo_within_the_range_that_its_strokes_fit(gap_s):
    hats = play({"hihat": "xxxx"}, np.arange(0, 40, gap_s))
    path = tempo_path(hats)
    assert (path.bpm >= LOWEST_BPM).all()
    assert (path.bpm <= HIGHEST_BPM).all()


@pytest.mark.parametrize("bpm", [70.0, 123.4, 181.0])
def test_phase_at_a_told_tempo(bpm):
    beats_s = beats_at(bpm, 30, 0.31)
    phase = constant_phase(play(ROCK, beats_s, rng=np.random.default_rng(1)), bpm)
    first_s = (-phase * 60 / bpm) % (60 / bpm)
    assert distance_to_grid_s(beats_s, first_s + beats_at(bpm, 31)).max() < 0.06 * 60 / bpm
