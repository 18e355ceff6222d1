"""JSON of long results, by elements: the same as the standard library's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app import json_text

VALUES: list[Any] = [
    {},
    [],
    {"a": []},
    {"a": {}, "안": '녕\u2028\x1f"\\', "list": [1, (2, 3.5), {"x": None}], "tuple": (True, False)},
    {7: 2.5, None: 1, True: 0},
    "text",
    3,
    None,
    [{"a": 1}, [2]],
]


@pytest.mark.parametrize("value", VALUES)
def test_writes_what_the_standard_library_writes(value: Any) -> None:
    assert json_text.dumps(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": [1.0, float("inf")]}, float("nan")])
def test_refuses_what_json_does_not_have(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text.dumps(value)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("value", [value for value in VALUES if isinstance(value, dict)])
def test_reads_what_the_standard_library_reads(value: Any, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "LONG_CHARS", 0)
    text = json.dumps(value, indent=indent)
    assert json_text.loads(text) == json.loads(text)


@pytest.mark.parametrize(
    "text", ['{"a":1', '{"a" 1}', '{"a":[1 2]}', '{"a":[1,]}', '{"a":[1', "{1:2}", '{"a":1}x', "{", '{"a":1,}']
)
def test_refuses_what_is_no_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "LONG_CHARS", 0)
    with pytest.raises(ValueError, match="line 1"):
        json_text.loads(text)


def test_adds_a_member_without_parsing() -> None:
    assert json_text.splice('{"a":1}', "b", "[2]") == '{"a":1,"b":[2]}'
    assert json_text.splice("{}", "b", "[2]") == '{"b":[2]}'


def test_pieces_are_the_whole() -> None:
    content = bytes(range(256)) * 3000
    assert b"".join(json_text.pieces(content)) == content
