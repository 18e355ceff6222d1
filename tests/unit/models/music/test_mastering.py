"""Length, fades, loudness and peaks of what mastering returns, and inputs that are no music."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.models.music.levels import decibels, loudness_lufs, peaks
from serve_app.models.music.mastering import master

from .sounds import melody

RATE = 44_100


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("height", [0.02, 0.2, 1.5])
def test_a_piece_gets_its_length_and_loudness_below_the_ceiling(rate: int, height: float) -> None:
    mastered = master(melody(7.0, rate) * height / 0.2, rate, 7.0)
    assert mastered.shape == (7 * rate, 2)
    assert mastered.dtype == np.float32
    assert loudness_lufs(mastered, rate) == pytest.approx(-14.0, abs=0.3)
    assert decibels(float(peaks(mastered).max())) <= -1.0


def test_peaks_between_the_samples_are_limited() -> None:
    """A quarter of the rate, 45 degrees off: each sample is 3 dB below the wave's peak."""
    between = np.sin(2 * np.pi * 0.25 * np.arange(6 * RATE) + np.pi / 4).astype(np.float32)
    assert decibels(float(np.abs(between).max())) == pytest.approx(-3.0, abs=0.1)
    assert decibels(float(peaks(between[:, None]).max())) == pytest.approx(0.0, abs=0.2)
    clicks = (0.05 * melody(6.0))[:, None]
    clicks[RATE::RATE] = 0.9  # loud for one sample: the limiter must lower what is around it
    mastered = master(np.repeat(clicks, 2, axis=1), RATE, 6.0)
    assert decibels(float(peaks(mastered).max())) <= -1.0
    assert loudness_lufs(mastered, RATE) > -16.0


def test_the_limiter_leaves_the_sound_away_from_peaks_as_it_was() -> None:
    plain = 0.2 * melody(6.0)
    clicked = plain.copy()
    clicked[3 * RATE] = 1.0
    one, other = master(plain, RATE, 6.0), master(clicked, RATE, 6.0)
    ratio = np.std(other[4 * RATE :]) / np.std(one[4 * RATE :])
    expected = one[4 * RATE :] * ratio
    assert np.abs(other[4 * RATE :] - expected).max() < 1e-3


@pytest.mark.parametrize(("given_s", "planned_s", "found_s"), [(9.0, 6.0, 6.0), (5.6, 6.0, 6.0), (4.0, 6.0, 4.0)])
def test_engines_that_give_more_or_less_than_planned(given_s: float, planned_s: float, found_s: float) -> None:
    mastered = master(melody(given_s), RATE, planned_s)
    assert len(mastered) == round(found_s * RATE)
    tail = np.abs(mastered[-round(0.3 * RATE) :]).max()
    if given_s > planned_s:  # music that goes on is faded over two seconds
        assert tail < 0.1 * np.abs(mastered).max()
        fading = [np.abs(mastered[round(at * RATE) :][: RATE // 2]).max() for at in (3.5, 4.5, 5.4)]
        assert fading[0] > fading[1] > 2.0 * fading[2]
    elif given_s > planned_s - 1.0:
        assert tail == 0.0
    assert np.abs(mastered[-5:]).max() < 1e-3  # no click at the end


def test_silence_at_both_ends_is_removed() -> None:
    quiet = np.zeros(RATE, dtype=np.float32)
    mastered = master(np.concatenate((quiet, melody(6.0), quiet)), RATE, 6.0)
    assert len(mastered) == 6 * RATE
    assert np.abs(mastered[: RATE // 20]).max() > 0.1
    assert np.corrcoef(mastered[:, 0], melody(6.0))[0, 1] > 0.98


def test_offset_is_removed_and_stereo_kept() -> None:
    left, right = melody(6.0) + 0.2, melody(6.0, tonic=67) - 0.1
    mastered = master(np.stack((left, right), axis=1), RATE, 6.0)
    assert np.abs(mastered.mean(axis=0)).max() < 1e-3
    assert abs(np.corrcoef(mastered.T)[0, 1]) < 0.8
    mono = master(melody(6.0), RATE, 6.0)
    assert (mono[:, 0] == mono[:, 1]).all()


@pytest.mark.parametrize("length", [0, 1, 3, 500, RATE // 3])
@pytest.mark.parametrize("value", [0.0, 0.5, np.nan, np.inf])
def test_what_is_no_music_comes_back_without_an_error(length: int, value: float) -> None:
    mastered = master(np.full((length, 2), value, dtype=np.float32), RATE, 6.0)
    assert mastered.shape == (length, 2)
    assert np.isfinite(mastered).all() == (length == 0 or bool(np.isfinite(value)))


def test_silence_stays_silent() -> None:
    assert not master(np.zeros((6 * RATE, 2), dtype=np.float32), RATE, 6.0).any()


def test_the_input_is_left_alone() -> None:
    given = np.repeat(melody(6.0)[:, None], 2, axis=1)
    before = given.copy()
    master(given, RATE, 6.0)
    assert (given == before).all()
