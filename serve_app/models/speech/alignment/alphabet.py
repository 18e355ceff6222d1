"""Letters of an align model: how a word is spelled in the symbols that the model hears. Imports nothing heavy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Written, spoken, and punctuation to Unicode ("five % of", "you & me").
_SPOKEN_SIGNS = frozenset("%&@#°")
_SPOKEN_CATEGORIES = ("L", "N", "Sc", "Sm")
_PLAIN = str.maketrans({"’": "'", "ʼ": "'", "＇": "'"})


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Symbols of a CTC model.

    Attributes:
        ids: number of each symbol, by its single lower-case character.
        blank_id: number of the symbol that stands for "nothing new".
        delimiter_id: number of the symbol between words; None where the model has none.
    """

    ids: Mapping[str, int]
    blank_id: int
    delimiter_id: int | None

    def spell(self, word: str) -> list[int | None]:
        """Return the numbers of a word's symbols; None for what is spoken, but not in the alphabet (digits, mostly).

        What is not spoken (punctuation, notes, emoji) is left out. A letter that the alphabet lacks is taken apart
        (é → e, ﬁ → f i, 한 → ㅎ ㅏ ㄴ) where the alphabet has the parts.
        """
        symbols: list[int | None] = []
        for character in unicodedata.normalize("NFC", word).translate(_PLAIN).lower():
            spelled = next((form for form in _forms(character) if form and all(part in self.ids for part in form)), "")
            if spelled:
                symbols += [self.ids[part] for part in spelled]
            elif unicodedata.category(character).startswith(_SPOKEN_CATEGORIES) or character in _SPOKEN_SIGNS:
                symbols.append(None)
        return symbols


def alphabet_of(vocabulary: Mapping[str, int], blank_id: int, delimiter: str | None = "|") -> Alphabet:
    """Return the alphabet in a tokenizer's vocabulary: its symbols of one character, whatever their case.

    Args:
        vocabulary: number of each symbol.
        blank_id: number of the blank, "<pad>" in most.
        delimiter: symbol between words, if there is one.
    """
    ids: dict[str, int] = {}
    for symbol, number in vocabulary.items():
        letter = symbol.lower()
        if len(letter) == 1 and number != blank_id and symbol != delimiter and (symbol == letter or letter not in ids):
            ids[letter] = number
    return Alphabet(ids, blank_id, vocabulary.get(delimiter) if delimiter else None)


def _forms(character: str) -> Iterator[str]:
    """Yield the character, then what it is made of: its base letters, then jamo as they are typed alone."""
    yield character
    parts = [part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)]
    yield "".join(parts)
    yield "".join(map(_compatibility_jamo, parts))


def _compatibility_jamo(character: str) -> str:
    """Return a part of a Hangul syllable (U+1100…) as the letter that stands alone (U+3131…), as vocabularies do."""
    _, _, letter = unicodedata.name(character, "").partition("SEONG ")
    try:
        return unicodedata.lookup(f"HANGUL LETTER {letter}") if letter else character
    except KeyError:
        return character
