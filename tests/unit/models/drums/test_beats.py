import time

import numpy as np
import pytest

from serve_app.models.drums.beats import BeatGrid, track_beats
from serve_app.models.drums.tempo import OnsetTrain
from tests.unit.models.drums.drum_patterns import DISCO, FUNK, ROCK, SWING, beats_at, distance_to_grid_s, join, play


def check(grid: BeatGrid, duration_s: float) -> None:
    """Assert what holds of every grid: it covers the file, and its map says the same as its beats."""
    assert grid.beats_s[0] >= 0
    assert (np.diff(grid.beats_s) > 0).all()
    assert grid.tempo_map[0].start_s == grid.beats_s[0]
    if duration_s > 3:
        assert grid.beats_s[0] < 1.5
        assert duration_s - 1.5 < grid.beats_s[-1] <= duration_s + 1e-6
    starts = np.searchsorted(grid.beats_s, [change.start_s - 1e-9 for change in grid.tempo_map])
    assert np.allclose(grid.beats_s[starts], [change.start_s for change in grid.tempo_map])
    ends = np.append(starts[1:], len(grid.beats_s) - 1)
    for change, start, end in zip(grid.tempo_map, starts, ends, strict=True):
        assert grid.beats_s[end] == pytest.approx(change.start_s + (end - start) * 60 / change.bpm, abs=1e-4)


def even(gap_s: float, duration_s: float, label: str = "hihat") -> OnsetTrain:
    times_s = np.arange(0, duration_s, gap_s)
    return OnsetTrain.of(times_s, np.ones(len(times_s)), [label] * len(times_s))


@pytest.mark.parametrize("bpm", [64.0, 97.0, 128.0, 172.5])
def test_steady_music_has_one_tempo_and_beats_on_the_strokes(bpm):
    beats_s = beats_at(bpm, 40, 0.45)
    grid = track_beats(play(ROCK, beats_s, rng=np.random.default_rng(1)), 40.0)
    check(grid, 40.0)
    assert grid.bpm == pytest.approx(bpm, rel=0.001)
    assert len(grid.tempo_map) == 1
    assert distance_to_grid_s(beats_s, grid.beats_s).max() < 0.01


def test_a_file_that_begins_within_a_bar():
    beats_s = beats_at(110, 30, 0.2)
    grid = track_beats(play(FUNK, beats_s, rng=np.random.default_rng(4), first_beat=3), 30.0)
    assert grid.bpm == pytest.approx(110, rel=0.002)
    assert distance_to_grid_s(beats_s, grid.beats_s).max() < 0.015


def test_a_loop_cut_on_the_beat_begins_with_one():
    onsets = play(ROCK, beats_at(120, 8.6))
    early = OnsetTrain(np.maximum(onsets.time_s - 0.004, 0.0), onsets.weight, onsets.label)
    grid = track_beats(early, 8.5)
    assert grid.beats_s[0] < 0.012
    assert track_beats(early, 8.5, 120.0).beats_s[0] < 0.012


def test_drift_is_in_the_tempo_map():
    bpm = np.concatenate([np.full(40, 100.0), np.linspace(100, 118, 60), np.full(40, 118.0)])
    beats_s = np.cumsum(60 / bpm)
    grid = track_beats(play(ROCK, beats_s, rng=np.random.default_rng(8)), float(beats_s[-1]))
    check(grid, float(beats_s[-1]))
    assert np.median(distance_to_grid_s(beats_s, grid.beats_s)) < 0.012
    assert grid.tempo_map[0].bpm == pytest.approx(100, rel=0.02)
    assert grid.tempo_map[-1].bpm == pytest.approx(118, rel=0.02)
    assert 3 <= len(grid.tempo_map) < 30, "far fewer changes than beats"


def test_the_told_tempo_is_exact_and_its_phase_is_found():
    beats_s = beats_at(120, 30, 0.37)
    onsets = play(DISCO, beats_s, rng=np.random.default_rng(2))
    for bpm in (120.0, 60.0):
        grid = track_beats(onsets, 30.0, bpm)
        check(grid, 30.0)
        assert grid.bpm == bpm
        assert grid.tempo_map == (type(grid.tempo_map[0])(float(grid.beats_s[0]), bpm),)
        assert distance_to_grid_s(grid.beats_s, beats_s).max() < 0.01


@pytest.mark.parametrize("bpm", [20.0, 137.77, 400.0])
def test_a_told_tempo_that_the_music_does_not_have(bpm):
    grid = track_beats(play(SWING, beats_at(150, 20)), 20.0, bpm)
    assert grid.bpm == bpm
    assert np.allclose(np.diff(grid.beats_s), 60 / bpm)
    assert not grid.is_assumed


@pytest.mark.parametrize("duration_s", [0.0, 0.3, 12.0])
def test_no_strokes_get_the_default_and_say_so(duration_s):
    nothing = OnsetTrain.of([], [], [])
    grid = track_beats(nothing, duration_s)
    check(grid, duration_s)
    assert (grid.bpm, grid.is_assumed) == (120.0, True)
    assert track_beats(nothing, duration_s).bpm == 120.0
    assert track_beats(nothing, duration_s, 90.0).bpm == 90.0


def test_strokes_without_weight_are_none():
    assert track_beats(OnsetTrain.of([1.0, 2.0], [0.0, 0.0], ["kick"] * 2), 5.0).is_assumed


def test_one_stroke_gets_the_default_tempo_with_a_beat_on_it():
    grid = track_beats(OnsetTrain.of([3.21], [1.0], ["kick"]), 8.0)
    check(grid, 8.0)
    assert (grid.bpm, grid.is_assumed) == (120.0, True)
    assert distance_to_grid_s(np.array([3.21]), grid.beats_s).max() < 0.01


@pytest.mark.parametrize(("gap_s", "label"), [(0.25, "hihat"), (0.1, "hihat"), (0.5, "kick"), (2.0, "cymbal")])
def test_an_even_stream_has_a_beat_that_its_strokes_or_their_parts_fall_on(gap_s, label):
    grid = track_beats(even(gap_s, 30), 30.0)
    check(grid, 30.0)
    beat_s = 60 / grid.bpm
    ratio = max(beat_s / gap_s, gap_s / beat_s)
    assert ratio == pytest.approx(round(ratio), abs=0.02)
    assert grid.beats_s[0] == pytest.approx(0.0, abs=0.012), "the first stroke is taken for a beat"
    assert len(grid.tempo_map) == 1


def test_minutes_of_silence_are_bridged_at_the_tempo_of_the_music():
    beats_s = join(play(ROCK, beats_at(100, 40)), play(ROCK, beats_at(100, 340, 300.2)))
    grid = track_beats(beats_s, 340.0)
    check(grid, 340.0)
    assert grid.bpm == pytest.approx(100, rel=0.002)
    played = beats_at(100, 340, 300.2)
    assert distance_to_grid_s(played, grid.beats_s).max() < 0.015
    in_silence = grid.beats_s[(grid.beats_s > 45) & (grid.beats_s < 295)]
    assert np.allclose(np.diff(in_silence), 0.6, rtol=0.005)


def test_two_songs_each_have_their_beat():
    first_s, second_s = beats_at(90, 60), beats_at(143, 150, 60.5)
    grid = track_beats(join(play(ROCK, first_s), play(FUNK, second_s)), 150.0)
    check(grid, 150.0)
    assert np.median(distance_to_grid_s(first_s, grid.beats_s)) < 0.01
    assert np.median(distance_to_grid_s(second_s, grid.beats_s)) < 0.01
    assert np.mean(distance_to_grid_s(second_s, grid.beats_s) > 0.03) < 0.05


@pytest.mark.parametrize("seed", range(5))
def test_strokes_that_follow_no_beat_get_some_grid(seed):
    rng = np.random.default_rng(seed)
    times_s = np.sort(rng.uniform(0, 60, 300))
    grid = track_beats(OnsetTrain.of(times_s, rng.random(300), rng.choice(["kick", "snare", "tom"], 300)), 60.0)
    check(grid, 60.0)
    assert 40 <= grid.bpm <= 240


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_played_the_grid_holds_together(seed):
    rng = np.random.default_rng([77, seed])
    trains, start_s = [], 0.0
    for _ in range(rng.integers(1, 6)):
        length_s = rng.uniform(0.5, 25)
        kinds = (
            np.sort(rng.uniform(0, length_s, rng.integers(1, 150))),
            np.arange(0, length_s, rng.uniform(0.05, 2.2)),
            np.repeat(rng.uniform(0, length_s, 3), 40),
            np.array([length_s]),
        )
        trains.append(start_s + np.sort(kinds[rng.integers(len(kinds))]))
        start_s += length_s * (8 if rng.random() < 0.2 else 1)
    times_s = np.concatenate(trains)
    onsets = OnsetTrain.of(times_s, rng.random(len(times_s)), rng.choice(["kick", "snare", "hihat"], len(times_s)))
    check(track_beats(onsets, start_s), start_s)
    check(track_beats(onsets, start_s, 113.0), start_s)


def test_strokes_beyond_the_stated_end_do_no_harm():
    check(track_beats(even(0.5, 60), 20.0), 20.0)


@pytest.mark.slow
def test_half_an_hour_takes_seconds():
    beats_s = beats_at(133, 1800)
    onsets = play(FUNK, beats_s, rng=np.random.default_rng(0))
    began = time.process_time()
    grid = track_beats(onsets, 1800.0)
    assert time.process_time() - began < 30  # about 2 on an idle core
    assert grid.bpm == pytest.approx(133, rel=0.0005)
    assert np.median(distance_to_grid_s(beats_s[::50], grid.beats_s)) < 0.01


@pytest.mark.parametrize(
    ("bars", "bpm", "alternative"),
    [
        ({"hihat": "x...x...x...x..."}, 75, 150),
        ({"kick": "x...............", "snare": "........x.......", "hihat": "x.x.x.x.x.x.x.x."}, 140, 70),
        (ROCK, 112, None),
        (FUNK, 98, None),
    ],
    ids=["clicks", "half time", "rock", "funk"],
)
def test_a_tempo_that_may_be_half_or_double_has_its_alternative(bars, bpm, alternative):
    onsets = play(bars, beats_at(bpm, 24))
    grid = track_beats(onsets, 24)
    if alternative is None:
        assert grid.bpm == pytest.approx(bpm, rel=0.02)
        assert grid.bpm_alternative is None
    else:
        assert sorted([grid.bpm, grid.bpm_alternative]) == pytest.approx(sorted([bpm, alternative]), rel=0.02)
    assert track_beats(onsets, 24, bpm).bpm_alternative is None  # the caller knows


def test_no_strokes_have_no_alternative():
    assert track_beats(OnsetTrain.of([], [], []), 4.0).bpm_alternative is None
