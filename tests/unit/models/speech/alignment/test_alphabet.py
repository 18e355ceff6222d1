"""Words in an align model's symbols."""

from __future__ import annotations

import string

import pytest

from serve_app.models.speech.alignment.ctc import Alphabet, alphabet_of

ENGLISH = alphabet_of(
    {"-": 0, "|": 1, **{letter: 2 + i for i, letter in enumerate(string.ascii_uppercase)}, "'": 28}, 0
)


def spelled(alphabet: Alphabet, word: str) -> list[str]:
    letters = {number: letter for letter, number in alphabet.ids.items()}
    return ["?" if symbol is None else letters[symbol] for symbol in alphabet.spell(word)]


def test_blank_delimiter_and_longer_symbols_are_no_letters():
    alphabet = alphabet_of({"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4}, blank_id=0)
    assert alphabet == Alphabet({"a": 3, "b": 4}, blank_id=0, delimiter_id=2)
    assert ENGLISH.delimiter_id == 1
    assert "-" not in ENGLISH.ids  # torchaudio's blank: a hyphen in a text is not "nothing new"
    assert alphabet_of({"a": 0, "b": 1}, blank_id=0).delimiter_id is None


def test_a_lower_case_symbol_wins_over_its_capital():
    for vocabulary in ({"A": 3, "a": 5}, {"a": 5, "A": 3}):
        assert alphabet_of(vocabulary, 0).ids == {"a": 5}


@pytest.mark.parametrize(
    ("word", "letters"),
    [
        ("Hello,", "hello"),
        ("don’t", "don't"),
        ("“Café”", "cafe"),
        ("ﬁne", "fine"),
        ("Ｏｋ", "ok"),
        ("2nd", "?nd"),
        ("100%", "????"),
        ("$5", "??"),
        ("well-known", "wellknown"),
        ("네", "?"),
        ("♪", ""),
        ("…", ""),
        ("", ""),
    ],
)
def test_english(word, letters):
    assert "".join(spelled(ENGLISH, word)) == letters


def test_korean_by_syllables_then_by_letters_of_a_keyboard_then_by_conjoining_ones():
    syllables = alphabet_of({"[PAD]": 0, "안": 1, "녕": 2}, 0)
    assert spelled(syllables, "안녕!") == ["안", "녕"]
    assert spelled(syllables, "안뇽") == ["안", "?"]
    keyboard = alphabet_of({"[PAD]": 0, **{letter: 1 + i for i, letter in enumerate("ㄱㄴㅎㅏㅓㅇㅄ")}}, 0)
    assert spelled(keyboard, "한값") == list("ㅎㅏㄴㄱㅏㅄ")
    conjoining = alphabet_of({"[PAD]": 0, "\u1112": 1, "\u1161": 2, "\u11ab": 3}, 0)
    assert spelled(conjoining, "한") == ["\u1112", "\u1161", "\u11ab"]


def test_a_syllable_written_as_parts_is_the_same_syllable():
    syllables = alphabet_of({"[PAD]": 0, "한": 1}, 0)
    assert spelled(syllables, "\u1112\u1161\u11ab") == ["한"]
