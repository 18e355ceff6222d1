"""The captioner without a model: it says what was measured, in two languages."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from serve_app.errors import ImageUnreadable
from serve_app.models.captions.colors import KOREAN_NAMES
from serve_app.models.captions.embedded import describe_picture
from serve_app.results import Caption
from tests.unit.models.captions.drawn import plain, prepared, random_scene, striped


def described(image: Image.Image) -> Caption:
    picture = prepared(image)
    return describe_picture(picture.jpeg, picture.features)


def test_it_says_who_it_is_and_that_it_recognises_nothing() -> None:
    caption = described(plain("gold"))
    assert (caption.captioner, caption.model_version) == ("features", "features-1")
    assert caption.fallback_reason is None
    assert "nothing in the picture was recognised" in caption.notes[0]


def test_both_languages_name_colors_light_and_form() -> None:
    caption = described(striped("skyblue", "skyblue", "skyblue", "darkgreen", size=(160, 80)))
    assert caption.caption_en.startswith("A bright landscape-format picture, mostly light blue, with much green. ")
    assert "The light lies in the upper part." in caption.caption_en
    assert caption.caption_ko.startswith("하늘색이 가장 많고 초록색이 섞인, 가로로 긴 밝은 이미지입니다. ")
    assert "위쪽이 가장 밝습니다." in caption.caption_ko


@pytest.mark.parametrize(
    ("size", "english", "korean"),
    [
        ((60, 60), "square", "정사각형의"),
        ((60, 100), "portrait", "세로로 긴"),
        ((100, 60), "landscape", "가로로 긴"),
        ((1, 1), "square", "정사각형의"),
        ((1, 10_000), "portrait", "세로로 긴"),
    ],
)
def test_the_shape_is_told(size: tuple[int, int], english: str, korean: str) -> None:
    caption = described(plain("red", size))
    assert f"{english}" in caption.caption_en
    assert korean in caption.caption_ko
    assert "red all over" in caption.caption_en
    assert "전체가 빨간색인" in caption.caption_ko


@pytest.mark.parametrize(
    ("box", "english"),
    [
        ((0, 0, 90, 30), "upper"),
        ((0, 60, 90, 90), "lower"),
        ((0, 0, 30, 90), "left"),
        ((60, 0, 90, 90), "right"),
        ((30, 30, 60, 60), "centre"),
    ],
)
def test_the_place_of_the_light_is_told(box: tuple[int, int, int, int], english: str) -> None:
    image = plain("black", (90, 90))
    image.paste("white", box)
    assert re.search(rf"The light lies (in|on) the {english}", described(image).caption_en)
    assert "The light lies" not in described(plain("white", (90, 90))).caption_en


def test_a_picture_without_color_has_no_tone() -> None:
    for color in ("black", "white", "grey"):
        caption = described(plain(color))
        assert "There is almost no colour;" in caption.caption_en
        assert "색이 거의 없으며 명암" in caption.caption_ko
        assert not re.search(r"warm|cool", caption.caption_en)
        assert "색조" not in caption.caption_ko


def test_the_words_follow_the_measurements() -> None:
    yellow, blue = described(plain("gold")), described(plain("#0a0f46"))
    assert yellow.valence > 0 > blue.valence
    assert "joyful" in yellow.mood_words
    assert "melancholy" in blue.mood_words
    assert "신나고 활기찬 느낌을 줍니다." in yellow.caption_ko
    assert "우울하고 쓸쓸한 느낌을 줍니다." in blue.caption_ko
    assert "warm" in yellow.caption_en
    assert "cool" in blue.caption_en


def test_captions_differ_between_pictures_and_are_whole_sentences() -> None:
    captions = [described(random_scene(seed)) for seed in range(60)]
    assert len({caption.caption_en for caption in captions}) >= 55
    assert len({caption.caption_ko for caption in captions}) >= 55
    assert len({caption.mood_words for caption in captions}) >= 6
    for caption in captions:
        assert re.fullmatch(r"(A [^.]+\.)( [A-Z][^.]+\.){2,3}", caption.caption_en), caption.caption_en
        sentences = caption.caption_ko.split(". ")
        assert all(sentence.rstrip(".").endswith(("니다",)) for sentence in sentences), caption.caption_ko
        assert len(caption.caption_en) < 500 > len(caption.caption_ko)
        assert "  " not in caption.caption_en + caption.caption_ko
        assert not re.search(r"[a-zA-Z]", caption.caption_ko)


def test_every_color_has_a_korean_name_that_takes_the_same_particles() -> None:
    assert all(re.fullmatch(r"[가-힣 ]+색", name) for name in KOREAN_NAMES.values())
    assert len(set(KOREAN_NAMES.values())) == len(KOREAN_NAMES)


def test_a_broken_picture_is_refused() -> None:
    with pytest.raises(ImageUnreadable):
        describe_picture(b"no picture", prepared(plain("red")).features)
