"""`Alphabet`: how a CTC model spells a word. `symbol_frames`: the frames of each symbol of a known text.

The search finds the best path through the model's probabilities (Graves et al. 2006). whisperx's search places words
seconds beside the truth with some models: docs/decisions/0008-forced-alignment.md.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Written, spoken, and punctuation to Unicode ("five % of", "you & me").
_SPOKEN_SIGNS = frozenset("%&@#°")
_SPOKEN_CATEGORIES = ("L", "N", "Sc", "Sm")
_PLAIN = str.maketrans({"’": "'", "ʼ": "'", "＇": "'"})


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Symbols of a CTC model.

    Attributes:
        ids: number of each symbol, by its single lower-case character.
        blank_id: number of the blank, the symbol for "nothing new".
        delimiter_id: number of the symbol between words; None where the model has none.
    """

    ids: Mapping[str, int]
    blank_id: int
    delimiter_id: int | None

    def spell(self, word: str) -> list[int | None]:
        """Return the numbers of a word's symbols; None for a spoken one that the alphabet lacks (mostly digits).

        Unspoken characters (punctuation, notes, emoji) are dropped. A letter that the alphabet lacks is split
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
    """Return the alphabet in a tokenizer's vocabulary: its symbols of one character, whatever their case."""
    ids: dict[str, int] = {}
    for symbol, number in vocabulary.items():
        letter = symbol.lower()
        if len(letter) == 1 and number != blank_id and symbol != delimiter and (symbol == letter or letter not in ids):
            ids[letter] = number
    return Alphabet(ids, blank_id, vocabulary.get(delimiter) if delimiter else None)


def _forms(character: str) -> Iterator[str]:
    """Yield the character, then its base letters, then those as jamo that are typed alone."""
    yield character
    parts = [part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)]
    yield "".join(parts)
    yield "".join(map(_compatibility_jamo, parts))


def _compatibility_jamo(character: str) -> str:
    """Return a part of a Hangul syllable (U+1100…) as the letter that stands alone (U+3131…) in vocabularies."""
    _, _, letter = unicodedata.name(character, "").partition("SEONG ")
    try:
        return unicodedata.lookup(f"HANGUL LETTER {letter}") if letter else character
    except KeyError:
        return character


# Cost of a symbol that the alphabet lacks, in nats a frame, so that its neighbours keep their own frames.
_UNKNOWN_PENALTY = 0.1


def symbol_frames(
    log_probabilities: NDArray[np.float32], symbols: Sequence[int | None], blank_id: int
) -> NDArray[np.int64] | None:
    """Return (symbols, 2): the first frame of each symbol and the frame at which it ends.

    Returns None where there are fewer frames than the symbols need. As in whisperx, blank frames belong to the symbol
    before them; those before the first symbol and after the last belong to none.

    Args:
        log_probabilities: (frames, symbols of the model).
        symbols: of the text; None may be any sound, of any length.
        blank_id: number of the blank.
    """
    # states: blank, symbol, blank, … symbol, blank
    num_frames, num_states = len(log_probabilities), 2 * len(symbols) + 1
    if not symbols or not num_frames:
        return None
    unknown = log_probabilities.max(axis=1) - _UNKNOWN_PENALTY
    scores = np.empty((num_frames, num_states))
    scores[:, 0::2] = log_probabilities[:, blank_id, None]
    for index, symbol in enumerate(symbols):
        scores[:, 2 * index + 1] = unknown if symbol is None else log_probabilities[:, symbol]
    # a path may skip the blank between two different symbols
    may_skip = np.zeros(num_states, dtype=np.bool_)
    may_skip[3::2] = [a != b or b is None for a, b in pairwise(symbols)]

    came_from = np.zeros((num_frames, num_states), dtype=np.int8)  # how many states back
    best = np.full(num_states, -np.inf)
    best[:2] = scores[0, :2]
    options = np.full((3, num_states), -np.inf)
    for frame in range(1, num_frames):
        options[0] = best
        options[1, 1:] = best[:-1]
        options[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        came_from[frame] = options.argmax(axis=0)
        best = options.max(axis=0) + scores[frame]
    state = num_states - (1 if best[-1] >= best[-2] else 2)
    if best[state] == -np.inf:
        return None
    path = np.empty(num_frames, dtype=np.int64)
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = state
        state -= int(came_from[frame, state])
    firsts = np.searchsorted(path, 2 * np.arange(len(symbols)) + 1)  # a path never goes back
    end = np.searchsorted(path, num_states - 1)
    return np.column_stack((firsts, np.append(firsts[1:], end)))
