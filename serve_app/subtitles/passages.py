"""Passages of speech for subtitles: unbreakable pieces of text, each with its time and its width. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

_NEVER_FIRST = frozenset("、。，．,.!?！？：；:;）)」』】〕》〉”’»…ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ")
_NEVER_LAST = frozenset("([{“‘«「『（【《〈¿¡")
# Thai to Lao, Burmese, Khmer, kana, Han
_WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class TimedWord:
    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Passage:
    """Words of one person without a long pause: the text to show and, where they are known, timed words and speaker."""

    text: str
    start_ms: int
    end_ms: int
    words: tuple[TimedWord, ...] = ()
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text that no line break divides. `start_ms <= end_ms`; `spaced`: a space precedes it."""

    text: str
    columns: int
    start_ms: int
    end_ms: int
    spaced: bool


def columns(text: str) -> int:
    """Return how many columns a text takes: two for each wide character, none for a combining one."""
    return sum(_columns_of(character) for character in text)


def joined(tokens: Sequence[Token]) -> str:
    return "".join((" " if token.spaced and number else "") + token.text for number, token in enumerate(tokens))


def tokens_of(passage: Passage, most_columns: int) -> list[Token]:
    """Return a passage's words with the punctuation of its text, none wider than a line.

    Where the text has other words, the timed words are returned. Without timed words, the text's parts share its time.
    """
    words = [replace(word, text=" ".join(word.text.split())) for word in passage.words]
    words = [word for word in words if word.text]
    text = " ".join(passage.text.split())
    if words:
        whole = _as_written(words, text) or _one_by_one(words)
    else:
        whole = _shared_out(passage.start_ms, passage.end_ms, text.split(" ")) if text else []
    return [part for token in whole for part in _narrowed(token, most_columns)]


def _as_written(words: Sequence[TimedWord], text: str) -> list[Token]:
    """Return each word with the marks around it in the text; nothing if the text has other words."""
    cuts, position = [0], 0
    for word in words:
        found = text.find(word.text, position)
        between = text[position:found]
        if found < 0 or any(character.isalnum() for character in between):
            return []
        if position:
            cuts.append(position + _cut(between))
        position = found + len(word.text)
    if any(character.isalnum() for character in text[position:]):
        return []
    ends = [*cuts[1:], len(text)]
    return [
        _token(text[start:end].strip(), word.start_ms, word.end_ms, start > 0 and text[start - 1] == " ")
        for word, start, end in zip(words, cuts, ends, strict=True)
    ]


def _cut(between: str) -> int:
    """Return where marks between two words are divided: at their last space, else before an opening mark."""
    if " " in between:
        return between.rindex(" ") + 1
    return len(between.rstrip("".join(_NEVER_LAST)))


def _one_by_one(words: Sequence[TimedWord]) -> list[Token]:
    """Return words with a space between any two, unless both are of a script without spaces."""
    tokens: list[Token] = []
    for word in words:
        unspaced = tokens and _WITHOUT_SPACES.match(word.text) and _WITHOUT_SPACES.match(tokens[-1].text[-1])
        tokens.append(_token(word.text, word.start_ms, word.end_ms, bool(tokens) and not unspaced))
    return tokens


def _narrowed(token: Token, most_columns: int) -> list[Token]:
    """Return a token that is wider than a line in parts that share its time.

    A mark stays with the character that it closes or opens.
    """
    if token.columns <= most_columns:
        return [token]
    parts = [""]
    for character in token.text:
        kept = _joins(character) or character in _NEVER_FIRST or parts[-1][-1:] in _NEVER_LAST
        if parts[-1] and (not kept or columns(parts[-1] + character) > most_columns):
            parts.append("")
        parts[-1] += character
    shared = _shared_out(token.start_ms, token.end_ms, parts)
    return [replace(piece, spaced=token.spaced and number == 0) for number, piece in enumerate(shared)]


def _shared_out(start_ms: int, end_ms: int, parts: Sequence[str]) -> list[Token]:
    """Return the parts of a passage, each with a share of its time in proportion to its width."""
    took_ms = max(0, end_ms - start_ms)
    whole = max(1, sum(columns(part) for part in parts))
    passed = 0
    tokens: list[Token] = []
    for part in parts:
        part_start_ms = start_ms + took_ms * passed // whole
        passed += columns(part)
        tokens.append(_token(part, part_start_ms, start_ms + took_ms * passed // whole, bool(tokens)))
    return tokens


def _token(text: str, start_ms: int, end_ms: int, spaced: bool) -> Token:
    return Token(text, columns(text), start_ms, max(start_ms, end_ms), spaced)


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _joins(character: str) -> bool:
    """Return whether a character belongs to the one before it: an accent, a vowel sign, a joiner."""
    return unicodedata.category(character) in ("Mn", "Me", "Mc", "Cf")
