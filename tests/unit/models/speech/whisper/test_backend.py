"""What is decided about languages before any model is there."""

from __future__ import annotations

import pytest

from serve_app.models.speech.whisper.backend import known_languages, language_windows, likely_language
from serve_app.results import SpeechRegion


@pytest.mark.parametrize(
    ("models", "known"),
    [
        (["embedded:whisper-micro"], {"en", "ko"}),
        (["whisper-tiny.en"], {"en"}),
        (["/models/whisper-tiny.en/"], {"en"}),
        (["openai/whisper-small.en@3e3ea4"], {"en"}),
        (["https://host/tiny.en.pt"], {"en"}),
        (["base.en", "embedded:whisper-micro"], {"en", "ko"}),
        (["whisper-base"], None),
        (["large-v3-turbo.pt"], None),
        (["whisper-base", "embedded:whisper-micro"], None),
        (["base.en", "/models/mine"], None),  # nobody knows what is in a folder
        (["whisper-children"], None),
    ],
)
def test_languages_are_known_as_far_as_names_tell(models: list[str], known: set[str] | None) -> None:
    assert known_languages(models) == known


def test_a_files_language_is_the_likeliest_over_all_of_its_windows() -> None:
    found = [{"en": 0.6, "ko": 0.4}, {"ko": 0.9, "en": 0.1}, {"en": 0.5, "ko": 0.4, "ja": 0.1}]
    assert likely_language(found) == ("ko", pytest.approx(1.7 / 3))
    assert likely_language([{"en": 1.0}]) == ("en", 1.0)
    # where two are as likely, it is always the same
    assert likely_language([{"ko": 0.5, "en": 0.5}]) == likely_language([{"en": 0.5, "ko": 0.5}]) == ("en", 0.5)


def regions(*lengths_s: float) -> list[SpeechRegion]:
    return [SpeechRegion(40.0 * number, 40.0 * number + length_s) for number, length_s in enumerate(lengths_s)]


@pytest.mark.parametrize(
    ("lengths_s", "chosen"),
    [
        ([], []),
        ([5], [0]),
        ([5, 1, 2], [0, 1, 2]),
        ([5, 1, 2, 9], [0, 1, 3]),
        ([1, 2, 3, 3, 2, 1, 1, 30, 2], [2, 3, 7]),
        ([4] * 100, [0, 33, 66]),
    ],
)
def test_a_language_is_looked_for_in_the_longest_piece_of_each_third(lengths_s: list[float], chosen: list[int]) -> None:
    pieces = regions(*lengths_s)
    assert language_windows(pieces) == [pieces[index] for index in chosen]
    assert len(language_windows(pieces, 1)) == min(1, len(pieces))
