"""Valence and arousal of pictures and of words."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from serve_app.models.captions.feelings import feeling_of
from serve_app.models.captions.mood import blended_mood, mood_of_picture, mood_of_words, shifted_by_words
from serve_app.results import PictureFeatures
from tests.unit.models.captions.drawn import plain, prepared, random_scene

ORDINARY = PictureFeatures(
    brightness=0.5,
    saturation=0.2,
    warmth=0.0,
    contrast=0.4,
    colorfulness=0.35,
    edge_density=0.12,
    entropy=0.75,
    colors=(("grey", 1.0),),
    contour=(0.5,) * 16,
)


def change(**fields: float) -> tuple[float, float]:
    """Return by how much valence and arousal rise where a measurement does."""
    before, after = mood_of_picture(ORDINARY), mood_of_picture(replace(ORDINARY, **fields))
    return after[0] - before[0], after[1] - before[1]


def test_an_ordinary_picture_is_neutral() -> None:
    assert mood_of_picture(ORDINARY) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_valence_follows_the_published_directions() -> None:
    brighter, more_vivid = change(brightness=0.7)[0], change(saturation=0.33)[0]  # by a standard deviation each
    assert 0 < more_vivid < brighter
    assert np.arctanh(brighter) / np.arctanh(more_vivid) == pytest.approx(0.69 / 0.22, rel=0.01)
    assert change(warmth=0.8)[0] > 0 > change(warmth=-0.8)[0]


def test_arousal_follows_the_published_directions() -> None:
    assert change(saturation=0.33)[1] > 0.3
    assert -0.1 < change(brightness=0.7)[1] < 0  # the studies disagree: little
    assert change(warmth=0.8)[1] > 0
    assert all(change(**{name: 0.9})[1] > 0 for name in ("contrast", "colorfulness", "edge_density", "entropy"))


def test_bright_yellow_is_happier_and_livelier_than_dark_blue_and_grey_is_calm() -> None:
    yellow, blue, grey = (mood_of_picture(prepared(plain(color)).features) for color in ("gold", "#0a0f46", "grey"))
    assert yellow[0] > 0.5 > -0.5 > blue[0]
    assert yellow[1] > 0.3 > blue[1]
    assert grey[1] < -0.5


def test_different_pictures_spread_over_the_whole_plane() -> None:
    moods = np.array([mood_of_picture(prepared(random_scene(seed)).features) for seed in range(80)])
    assert np.abs(moods).max() <= 1.0
    assert (moods.std(axis=0) > 0.3).all()
    signs = {(bool(valence > 0), bool(arousal > 0)) for valence, arousal in moods}
    assert signs == set(itertools.product((True, False), repeat=2))


# Words


@pytest.mark.parametrize(
    ("text", "valence", "arousal"),
    [
        ("a joyful dance at a festival", 1, 1),
        ("slow, sad piano in the rain", -1, -1),
        ("a furious, violent storm", -1, 1),
        ("Peaceful and SERENE.", 1, -1),
        ("신나는 축제의 활기", 1, 1),
        ("슬프고 쓸쓸한 저녁", -1, -1),
        ("무섭고 긴장되는 밤", -1, 1),
        ("평화롭고 고요한 아침", 1, -1),
    ],
)
def test_words_have_their_quadrant(text: str, valence: int, arousal: int) -> None:
    found = mood_of_words(text)
    assert found[0] * valence > 0.2
    assert found[1] * arousal > 0.2
    assert found[2] > 0.7


def test_the_weight_grows_with_the_words_and_stays_below_one() -> None:
    weights = [mood_of_words("happy " * count)[2] for count in (0, 1, 2, 9)]
    assert weights[:3] == [0.0, 0.5, 0.75]
    assert 0.75 < weights[3] < 1.0
    assert mood_of_words("happy " * 100_000)[0] == pytest.approx(0.8)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a table and two chairs",
        "not happy at all",
        "without any fear",
        "행복하지 않은 사람",
        "안 무서운 개",
        "따뜻함이 없는 방",
        "화가가 탁자를 그린다",
        "!@#$ 12345 \x00",
    ],
)
def test_neutral_and_negated_words_tell_nothing(text: str) -> None:
    assert mood_of_words(text) == (0.0, 0.0, 0.0)


def test_during_is_no_negation_in_korean() -> None:
    assert mood_of_words("오랫동안 행복한 사람")[0] > 0.5
    assert mood_of_words("행복하지만")[0] > 0.5


def test_decomposed_korean_is_read() -> None:
    assert mood_of_words("행복한") == mood_of_words("행복한")


def test_picture_and_words_are_blended_by_six_to_four() -> None:
    many = "joyful " * 40
    words = mood_of_words(many)
    picture = mood_of_picture(ORDINARY)
    blended = blended_mood(ORDINARY, many)
    expected = [0.6 * picture[axis] + 0.4 * words[axis] for axis in (0, 1)]
    assert blended == pytest.approx(expected, abs=1e-6)
    assert blended_mood(ORDINARY, "a chair") == picture


def test_a_callers_words_move_a_mood_towards_theirs() -> None:
    happy = shifted_by_words(-0.6, -0.6, "make it joyful and energetic")
    assert happy[0] > 0.0
    assert happy[1] > 0.0
    assert shifted_by_words(0.3, -0.2, "a song for my sister") == (0.3, -0.2)
    assert shifted_by_words(0.3, -0.2, "") == (0.3, -0.2)
    slower = shifted_by_words(0.5, 0.5, "느린 음악")
    assert slower[1] < 0.3
    assert all(-1 <= value <= 1 for value in shifted_by_words(1.0, 1.0, "party " * 50))


def test_feelings_go_round_the_circle() -> None:
    names = [feeling_of(np.cos(angle), np.sin(angle)).words for angle in np.arange(8) * np.pi / 4]
    assert len(set(names)) == 8
    assert "happy" in names[0]
    assert "tense" in names[3]
    assert "lonely" in names[5]
    assert "peaceful" in names[7]
    assert feeling_of(0.0, 0.05).words == ("neutral", "balanced")
    assert feeling_of(0.3, 0.0) != feeling_of(0.9, 0.0)
    assert feeling_of(1.0, -0.001) == feeling_of(1.0, 0.001)
