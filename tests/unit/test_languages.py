"""The languages that may be asked for are those of Whisper itself, and the contract's five are among them."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from serve_app.languages import WHISPER_LANGUAGES, language_name


def test_same_as_whispers_own() -> None:
    spec = importlib.util.find_spec("whisper")
    if spec is None or spec.origin is None:
        pytest.skip("openai-whisper is not installed")
    # read, not imported: it would load torch
    tree = ast.parse((Path(spec.origin).parent / "tokenizer.py").read_text("utf-8"))
    (own,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LANGUAGES"
    )
    assert own == WHISPER_LANGUAGES


def test_contracts_languages_are_known() -> None:
    assert {"ko", "en", "ja", "zh"} <= WHISPER_LANGUAGES.keys()


def test_names() -> None:
    assert (language_name("ko"), language_name("xx")) == ("korean", "xx")
