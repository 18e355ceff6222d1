"""Songs of drums: what is said of them is what can be heard."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.training.drums.plain_kit import PlainKit
from training.drums.arrangement import compose, play_genre
from training.drums.articulations import ARTICULATIONS, LABEL_OF
from training.drums.audibility import heard
from training.drums.grooves import GENRES
from training.drums.mixing import mix
from training.drums.performance import PlayedStroke, perform
from training.drums.score import Bar, Note, Score, sketch
from training.drums.songs import song_on

RATE_HZ = 44_100


def _score(*notes: Note, beats: float = 8.0, bpm: float = 120.0, swing: float = 0.5) -> Score:
    return Score("test", bpm, (Bar(beats, notes),), swing, machine=True)


@pytest.mark.parametrize("name", GENRES)
def test_patterns_fill_whole_bars(name):
    genre = GENRES[name]
    for lane, patterns in genre.lanes.items():
        assert lane == "time" or lane in LABEL_OF
        for pattern in filter(None, patterns):
            assert len(pattern) % (genre.beats * genre.steps) == 0, (lane, pattern)
            sketch(np.random.default_rng(0), pattern, "snare", genre.steps)
    assert set(genre.time) <= set(LABEL_OF)


@pytest.mark.parametrize("name", GENRES)
def test_each_genre_gives_a_piece_of_the_length_asked_for(name):
    score = play_genre(np.random.default_rng(3), 10.0, name)
    assert score.beats * 60 / score.bpm >= 10.0
    assert all(note.articulation in ARTICULATIONS and 0 < note.velocity <= 1 for note in score.notes())


def test_songs_are_what_they_are_said_to_be():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        seconds = float(rng.choice([2.0, 3.5, 6.0]))
        song = song_on(rng, PlainKit(), compose(rng, seconds), seconds=seconds)
        assert song.samples.dtype == np.float32
        assert song.samples.shape == (round(seconds * RATE_HZ),)
        assert np.isfinite(song.samples).all()
        for hits in (song.hits, song.faint):
            times = [hit.time_s for hit in hits]
            assert times == sorted(times)
            assert all(0 <= time < seconds for time in times)
            assert all(hit.label == LABEL_OF[hit.articulation] and 0 < hit.velocity <= 1 for hit in hits)
        assert (np.diff(song.beats_s) > 0).all()
        assert 40 < song.bpm < 240


def test_the_generator_alone_decides_a_song():
    songs = []
    for _ in range(2):
        rng = np.random.default_rng(11)
        songs.append(song_on(rng, PlainKit(), compose(rng, 3.0), seconds=3.0))
    np.testing.assert_array_equal(songs[0].samples, songs[1].samples)
    assert songs[0].hits == songs[1].hits
    assert songs[0].recipe == songs[1].recipe


def test_strokes_that_others_hide_are_no_hits():
    # A whisper of a low tom in the midst of a crash at full strength, and the same whisper where nothing else sounds.
    strokes = (
        PlayedStroke(0.5, "tom_mid", 1.0),
        PlayedStroke(0.505, "tom_low", 0.05),
        PlayedStroke(3, "tom_low", 0.05),
    )
    for seed in range(6):
        mixed = mix(np.random.default_rng(seed), PlainKit(), strokes, 4 * RATE_HZ, True)
        hits, faint = heard(mixed, mixed.samples)
        assert [hit.time_s for hit in hits] == [0.5, 3]
        assert all(hit.time_s == 0.505 for hit in faint)


def test_noise_hides_strokes_too():
    strokes = tuple(PlayedStroke(time_s, "hihat_closed", 0.05 if time_s == 2 else 1.0) for time_s in (0, 1, 2, 3, 4))
    mixed = mix(np.random.default_rng(0), PlainKit(), strokes, 5 * RATE_HZ, True)
    noise = np.random.default_rng(0).standard_normal(len(mixed.samples)).astype(np.float32)
    noise *= np.abs(mixed.samples).max() / 10
    assert len(heard(mixed, mixed.samples)[0]) == 5
    hits, _ = heard(mixed, mixed.samples + noise)
    assert [hit.time_s for hit in hits] == [0, 1, 3, 4]


def test_levels_follow_the_gain():
    mixed = mix(np.random.default_rng(0), PlainKit(), (PlayedStroke(0.5, "snare", 0.9),), RATE_HZ, True)
    (plain,), _ = heard(mixed, mixed.samples)
    (soft,), _ = heard(mixed, mixed.samples * np.float32(0.1))
    assert soft.level_db == pytest.approx(plain.level_db - 20, abs=0.1)
    window = mixed.samples[round(0.5 * RATE_HZ) :][: RATE_HZ // 25]
    assert plain.level_db == pytest.approx(10 * np.log10(np.mean(window**2)), abs=1.0)


def test_hits_lie_where_energy_rises():
    score = _score(*(Note(beat, name, 0.9) for beat, name in enumerate(["kick", "snare", "tom_mid"] * 4)), beats=12)
    shifts_ms = []
    for seed in range(20):
        song = song_on(np.random.default_rng(seed), PlainKit(), score, seconds=6.0)
        envelope = np.abs(np.diff(song.samples, prepend=song.samples[:1]))
        for hit in song.hits:
            start = round((hit.time_s - 0.02) * RATE_HZ)
            if start < 0 or start + 2000 > len(envelope):
                continue
            window = envelope[start : start + 2000]
            before = window[:600].max()
            risen = np.flatnonzero(window > before + 0.3 * (window.max() - before))
            shifts_ms.append((risen[0] / RATE_HZ - 0.02) * 1000)
    assert len(shifts_ms) > 100
    assert abs(np.median(shifts_ms)) < 1.0
    assert np.percentile(np.abs(shifts_ms), 95) < 3.0


def test_beats_are_quarters_and_what_a_machine_plays_lies_on_them():
    score = _score(*(Note(beat, "kick", 1.0) for beat in range(8)), bpm=150)
    performance = perform(np.random.default_rng(1), score, 3.0)
    assert performance.bpm == pytest.approx(150)
    for stroke in performance.strokes:
        if stroke.time_s >= 0:
            assert np.abs(performance.beats_s - stroke.time_s).min() < 0.003


def test_swing_moves_what_lies_between_beats_only():
    straight, swung = (
        perform(
            np.random.default_rng(5),
            _score(Note(0, "ride", 1), Note(0.5, "ride", 1), Note(1, "ride", 1), swing=swing),
            4,
        )
        for swing in (0.5, 0.66)
    )
    assert [stroke.time_s for stroke in straight.strokes] == sorted(stroke.time_s for stroke in straight.strokes)
    moved = [b.time_s - a.time_s for a, b in zip(straight.strokes, swung.strokes, strict=True)]
    assert moved == pytest.approx([0, 0.16 * 0.5, 0], abs=1e-6)


def test_flams_lead_their_stroke_and_are_marked():
    flam = Note(4, "snare", 0.9, "flam")
    strokes = perform(np.random.default_rng(2), _score(flam), 4.0).strokes
    assert [stroke.grace for stroke in strokes] == [True, False]
    assert 0.01 < strokes[1].time_s - strokes[0].time_s < 0.05
    assert strokes[0].velocity < strokes[1].velocity


def test_a_song_may_hold_no_drums():
    score = Score("nothing", 120.0, (Bar(8.0, ()),), metrical=False)
    for seed in range(3):
        song = song_on(np.random.default_rng(seed), PlainKit(), score, seconds=2.0)
        assert song.hits == song.faint == ()
        assert np.std(song.samples) > 0


def test_all_kinds_of_pieces_are_composed():
    genres = {compose(np.random.default_rng(seed), 5.0).genre for seed in range(500)}
    assert genres == {*GENRES, "nothing", "unrelated", "single_drum", "solo"}
