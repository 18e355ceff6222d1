"""JSON of long results: encoded and decoded element by element, joined as text, cut into pieces.

The C encoder and decoder of `json` hold the interpreter's lock for a whole call: a result of 13 MiB would stop every
other thread, an event loop too, for half a second. Here a call handles one element of a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

PIECE_BYTES = 1 << 18  # what is written to a socket at once
LONG_CHARS = 1 << 16  # a longer text is handled in a thread

_DECODER = json.JSONDecoder()
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_SPACE = re.compile(r"[ \t\n\r]*")


def dumps(value: Any) -> str:
    """Return compact JSON text. ValueError: NaN or infinity, which JSON does not have."""
    if isinstance(value, dict):
        # the key as JSON writes it: true, null and numbers become texts too
        parts = (f"{_encode({key: 0})[1:-2]}{_dumps_members(member)}" for key, member in value.items())
        return "{" + ",".join(parts) + "}"
    return _dumps_members(value)


def _dumps_members(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_encode, value)) + "]"
    return _encode(value)


def loads(text: str) -> Any:
    """Return the value of a JSON text. ValueError: it is none."""
    if len(text) <= LONG_CHARS or text[0] != "{":
        return json.loads(text)
    found: dict[str, Any] = {}
    at = _skip(text, 1)
    if text[at : at + 1] in ("}", ""):
        return json.loads(text)
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        key, at = _DECODER.raw_decode(text, at)
        found[key], at = _value(text, _skip(text, _after(text, at, ":")))
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            break
        at = _skip(text, _after(text, at, ","))
    if _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)
    return found


def splice(payload: str, name: str, value: str) -> str:
    """Return a JSON object with one more member, whose value is JSON text already."""
    return f'{payload[:-1]}{"" if payload == "{}" else ","}"{name}":{value}}}'


def pieces(content: bytes) -> Iterator[bytes]:
    """Yield a body in pieces."""
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


async def stream(content: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces, for those who send it from an event loop."""
    for piece in pieces(content):
        yield piece


def _value(text: str, at: int) -> tuple[Any, int]:
    if text[at : at + 1] != "[":
        return _DECODER.raw_decode(text, at)
    elements: list[Any] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return elements, at + 1
    while True:
        element, at = _DECODER.raw_decode(text, at)
        elements.append(element)
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return elements, at + 1
        at = _skip(text, _after(text, at, ","))


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _after(text: str, at: int, char: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != char:
        raise json.JSONDecodeError(f"Expecting {char!r}", text, at)
    return at + 1
