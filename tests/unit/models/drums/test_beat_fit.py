import numpy as np
import pytest

from serve_app.models.drums.beat_fit import sections_of
from serve_app.models.drums.tempo import tempo_path
from tests.unit.models.drums.drum_patterns import ROCK, SHUFFLE, beats_at, join, play


def fitted(onsets):
    return sections_of(tempo_path(onsets), onsets)


def test_beats_are_found_to_a_millisecond_where_the_playing_is_exact():
    beats_s = beats_at(117.3, 40, 0.4)
    (section,) = fitted(play(ROCK, beats_s))
    near = np.abs(section.beats_s[1:-1, None] - beats_s).min(axis=1)
    assert near.max() < 0.001


def test_lazy_strokes_between_beats_do_not_move_the_beat():
    beats_s = beats_at(100, 40)
    late = play({"hihat": "..x...x...x...x."}, beats_s)
    onsets = play(ROCK | {"hihat": "x...x...x...x..."}, beats_s)
    late_s = late.time_s + 0.03
    merged = type(onsets).of(
        np.concatenate([onsets.time_s, late_s]),
        np.concatenate([onsets.weight, late.weight]),
        ["kick"] * len(onsets) + ["hihat"] * len(late),
    )
    (section,) = fitted(merged)
    assert np.median(np.abs(section.beats_s[1:-1, None] - beats_s).min(axis=1)) < 0.004


def test_wandering_tempo_is_followed_beat_by_beat():
    rng = np.random.default_rng(2)
    beats_s = np.cumsum(0.55 * np.exp(np.cumsum(rng.normal(0, 0.003, 120))))
    (section,) = fitted(play(SHUFFLE, beats_s, rng=rng))
    near = np.abs(section.beats_s[2:-2, None] - beats_s).min(axis=1)
    assert np.median(near) < 0.006
    assert near.max() < 0.03


def test_a_song_after_a_pause_is_a_section_of_its_own():
    sections = fitted(join(play(ROCK, beats_at(100, 30)), play(ROCK, beats_at(80, 90, 60))))
    assert [len(section.beats_s) > 10 for section in sections] == [True, True]
    assert sections[0].beats_s[-1] < 31
    assert 59 < sections[1].start_s < 60
    assert np.diff(sections[1].beats_s).mean() == pytest.approx(0.75, rel=0.005)
