import re
from collections import Counter

import numpy as np
import pytest

from training.whisper_micro.grammar import (
    CONTEXT_WORDS,
    FREE_WORDS,
    LANGUAGES,
    draw,
    sentence,
    split_of,
    vocabulary,
    word_string,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("language", "least", "letters"), [("en", 300, r"[a-z]+"), ("ko", 100, r"[가-힣]+")])
def test_vocabulary_is_as_large_as_promised_and_plain(language, least, letters):
    words = vocabulary(language)
    assert len(words) >= least
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(letters, word) for word in words)


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_use_every_word_and_no_other(rng, language):
    met = Counter(word for _ in range(8000) for word in sentence(rng, language).split())
    assert set(met) == set(vocabulary(language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_free_strings_use_every_word_that_can_be_told_by_its_sound(rng, language):
    strings = [word_string(rng, language).split() for _ in range(2000)]
    assert {word for words in strings for word in words} == set(vocabulary(language)) - CONTEXT_WORDS
    assert {len(words) for words in strings} == set(range(FREE_WORDS[0], FREE_WORDS[1] + 1))


def test_splits_are_tenths(rng):
    counts = Counter(split_of(word_string(rng, "en")) for _ in range(5000))
    assert counts["test"] == pytest.approx(500, abs=90)
    assert counts["dev"] == pytest.approx(500, abs=90)
    assert counts["train"] == pytest.approx(4000, abs=120)


@pytest.mark.parametrize("kind", ["grammar", "free"])
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_draws_from_one_split_only(rng, kind, split):
    assert {split_of(draw(rng, "en", kind, split)) for _ in range(30)} == {split}


def test_the_same_seed_says_the_same():
    first, second = (draw(np.random.default_rng(7), "ko", "grammar", "test") for _ in range(2))
    assert first == second
    assert split_of("good morning") == split_of("good morning")
