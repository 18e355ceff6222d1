"""From tokens and their times to words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from serve_app.models.speech.whisper.spoken_words import SpokenWord, TokenTimes, shortened, timed_words
from serve_app.results import SpeechRegion

# one token a word, but 7, which continues the word before it, and marks
WORDS = {1: " one", 2: " two", 3: " three", 4: ".", 5: " (", 6: ")", 7: "ty", 8: " ", 9: " four", 10: "one"}


def words_of(tokens: Sequence[int]) -> list[tuple[str, int]]:
    words: list[tuple[str, int]] = []
    for token in tokens:
        if token == 7 and words:
            words[-1] = (words[-1][0] + WORDS[7], words[-1][1] + 1)
        else:
            words.append((WORDS[token], 1))
    return words


def timed(
    tokens: Sequence[int],
    starts_s: Sequence[float],
    probabilities: Sequence[float] | None = None,
    *,
    duration_s: float = 10.0,
    speech: Sequence[tuple[float, float]] | None = None,
) -> list[SpokenWord]:
    return timed_words(
        tokens,
        TokenTimes(starts_s, probabilities or [0.5] * len(tokens)),
        words_of=words_of,
        speech=[SpeechRegion(*span) for span in speech or [(0.0, duration_s)]],
        duration_s=duration_s,
    )


def times(words: Sequence[SpokenWord]) -> list[tuple[str, float, float]]:
    return [(word.text, pytest.approx(word.start_s), pytest.approx(word.end_s)) for word in words]


def word(text: str, start_s: float, end_s: float) -> SpokenWord:
    return SpokenWord(text, start_s, end_s, 0.5)


def test_words_get_their_tokens_times_and_mean_probability() -> None:
    words = timed([1, 2, 7, 3], [0.0, 0.4, 0.6, 0.8, 1.2], [0.9, 0.5, 0.7, 0.8])
    assert times(words) == [(" one", 0.0, 0.4), (" twoty", 0.4, 0.8), (" three", 0.8, 1.2)]
    assert [found.probability for found in words] == pytest.approx([0.9, 0.6, 0.8])
    assert [found.duration_s for found in words] == pytest.approx([0.4] * 3)
    assert timed([], [0.0]) == []


def test_marks_belong_to_their_words_without_their_times() -> None:
    words = timed([5, 10, 6, 2, 4], [0.0, 0.2, 0.5, 0.6, 1.0, 2.0])
    assert times(words) == [(" (one)", 0.2, 0.5), (" two.", 0.6, 1.0)]


def test_blanks_are_no_words() -> None:
    assert [found.text.strip() for found in timed([8, 1, 8], [0.0, 1.0, 1.4, 2.0])] == ["one"]
    assert timed([8], [0.0, 1.0]) == []


def test_a_pause_behind_a_full_stop_is_taken_from_the_word_after_it() -> None:
    words = timed([1, 4, 2, 3], [0.0, 0.4, 0.5, 3.8, 4.2])
    # twice the median of 0.4 s
    assert times(words) == [(" one.", 0.0, 0.4), (" two", 3.0, 3.8), (" three", 3.8, 4.2)]


def test_words_are_kept_in_the_speech_that_was_detected() -> None:
    words = timed([1, 2, 3], [0.0, 3.4, 3.8, 8.0], speech=[(3.0, 4.2), (9.0, 9.5)])
    assert times(words) == [(" one", 3.0, 3.4), (" two", 3.4, 3.8), (" three", 3.8, 4.2)]


def test_a_word_across_a_pause_lies_in_the_longer_part() -> None:
    assert times(timed([1], [1.0, 6.0], speech=[(0.0, 2.0), (4.0, 9.0)])) == [(" one", 4.0, 6.0)]


def test_a_word_beside_all_speech_stays_where_it_is() -> None:
    assert times(timed([1], [5.0, 5.4], speech=[(0.0, 2.0)])) == [(" one", 5.0, 5.4)]


def test_words_stay_in_order_without_overlap_inside_the_window() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        starts_s = rng.uniform(-0.5, 12.0, 9)  # worse than any alignment
        edges = np.sort(rng.uniform(0, 10, 6)).tolist()
        words = timed(
            [1, 4, 2, 7, 3, 9, 1, 2],
            starts_s.tolist(),
            duration_s=9.0,
            speech=[(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)],
        )
        assert [found.text for found in words] == [" one.", " twoty", " three", " four", " one", " two"]
        for kept in (words, shortened(words)):
            assert all(0.0 <= found.start_s <= found.end_s <= 9.0 for found in kept)
            assert all(before.end_s <= after.start_s for before, after in pairwise(kept))


@pytest.mark.parametrize(
    ("text", "longest_s"),
    [
        (" a", 0.6),
        (" four", 0.6),
        (" probable,", 1.2),
        (" incomprehensibilities", 2.0),
        ("는", 0.6),
        (" 안녕", 0.75),
        (" 시작해요", 1.5),  # a syllable takes as long as two or three letters
        ("?", 0.6),
    ],
)
def test_a_word_takes_as_long_as_its_letters(text: str, longest_s: float) -> None:
    assert word(text, 0.0, 1.0).longest_s == pytest.approx(longest_s)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (" end.", True),
        (" end?”", True),
        ("끝!", True),
        ("終。」", True),
        (" Dr.", False),
        (" e.g.", False),
        (" on", False),
    ],
)
def test_punctuation_ends_a_sentence(text: str, ends: bool) -> None:
    assert word(text, 0.0, 1.0).ends_sentence is ends


def test_the_first_word_of_a_sentence_keeps_its_end_and_others_their_start() -> None:
    words = [word(" one", 0.0, 3.0), word(" two.”", 3.0, 6.0), word(" one", 6.0, 9.0), word(" two", 9.0, 9.3)]
    assert times(shortened(words)) == [
        (" one", 2.4, 3.0),
        (" two.”", 3.0, 3.6),
        (" one", 8.4, 9.0),
        (" two", 9.0, 9.3),
    ]
    assert words[0].start_s == 0.0  # what was given is not changed


def test_words_of_usual_length_stay_as_they_are() -> None:
    words = [word(" one", 0.0, 0.6), word(" 시작해요", 1.0, 2.4)]
    assert shortened(words) == words
    assert shortened([]) == []
