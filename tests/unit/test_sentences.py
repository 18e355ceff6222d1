"""Sentences for callers: in two languages wherever they go, and none of them left out."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import serve_app
from serve_app import errors
from serve_app.api.http.wrong_fields import FOREIGN
from serve_app.sentences import (
    Locale,
    Sentence,
    catalogue,
    from_json,
    from_text,
    joined,
    template_fields,
    to_json,
    to_text,
    translated,
)

PACKAGE = Path(serve_app.__file__).parent
KOREAN_FILE = PACKAGE / "sentences_ko.json"

# What speaks to an operator on a terminal, in English: commands, and what starts Ray and the graph.
TERMINAL = {"commands", "launch"}


@pytest.fixture
def korean(monkeypatch: pytest.MonkeyPatch) -> None:
    templates = {
        "{name} is empty": "{name}: 비어 있습니다",
        "the file": "파일",
        "{num:.1f} s are missing": "{num:.1f}초가 없습니다",
    }
    monkeypatch.setattr("serve_app.sentences.catalogue", lambda locale: templates if locale is Locale.KO else {})


def test_a_sentence_is_its_english_text() -> None:
    sentence = Sentence("{name} is empty", name="a.wav")
    assert sentence == "a.wav is empty"
    assert translated(sentence, Locale.EN) == "a.wav is empty"
    assert Sentence("100 % {of} it") == "100 % {of} it"  # without values it is taken as it is


@pytest.mark.usefixtures("korean")
def test_a_sentence_and_the_sentences_inside_it_are_translated() -> None:
    inside = Sentence("{name} is empty", name=Sentence("the file"))
    assert translated(inside, Locale.KO) == "파일: 비어 있습니다"
    assert translated(Sentence("{num:.1f} s are missing", num=2.04), Locale.KO) == "2.0초가 없습니다"
    assert translated(joined("; ", [inside, "{plain}"]), Locale.KO) == "파일: 비어 있습니다; {plain}"
    assert translated("{name} is empty", Locale.KO) == "{name} is empty"  # plain text is left alone
    assert translated(Sentence("{name} is unknown here", name="x"), Locale.KO) == "x is unknown here"


@pytest.mark.usefixtures("korean")
def test_a_sentence_survives_pickling_and_json() -> None:
    error = errors.InvalidRequest(Sentence("{name} is empty", name=Sentence("the file")))
    for kept in (
        pickle.loads(pickle.dumps(error)).detail,
        from_json(json.loads(json.dumps(to_json(error.detail)))),
    ):
        assert kept == "the file is empty"
        assert translated(kept, Locale.KO) == "파일: 비어 있습니다"
    assert from_json(to_json("plain")) == "plain"


@pytest.mark.parametrize(
    "kept",
    [
        None,
        {"sentence": "{a.__class__}", "values": {"a": "x"}},
        {"sentence": "{a[0]}", "values": {"a": "x"}},
        {"sentence": "{a:{b}}", "values": {"a": 1, "b": "x"}},
        {"sentence": "{missing}", "values": {}},
        {"sentence": "{a}", "values": {"a": None}},
        {"sentence": "{a:9999999999}", "values": {"a": 1}},
    ],
)
def test_what_is_no_sentence_is_refused(kept: object) -> None:
    with pytest.raises(ValueError):
        from_json(kept)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def templates_in(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each `Sentence(…)`: where it stands, and its template; fails on a template that is no literal."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Sentence":
            where = f"{file.relative_to(PACKAGE.parent)}:{node.lineno}"
            if file.name != "sentences.py":
                assert isinstance(node.args[0], ast.Constant), f"{where}: the template must be a literal"
                yield where, node.args[0].value


TEMPLATES = [found for file in sorted(PACKAGE.rglob("*.py")) for found in templates_in(file)]
TEMPLATES += [("another library's", template) for template in FOREIGN]


def test_every_sentence_exists_in_korean() -> None:
    known = catalogue(Locale.KO)
    assert [f"{where}: {template}" for where, template in TEMPLATES if template not in known] == []


def test_korean_templates_are_used_have_the_same_fields_and_are_sorted() -> None:
    text = KOREAN_FILE.read_text("utf-8")
    known = json.loads(text)
    assert set(known) - {template for _, template in TEMPLATES} == set()
    for english, korean in known.items():
        if template_fields(english):
            assert template_fields(korean) == template_fields(english), english
    assert text == json.dumps(known, ensure_ascii=False, indent=0, sort_keys=True) + "\n"


def error_classes() -> set[str]:
    """Return the names of all classes under ServeAppError, also of those defined outside `errors`."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ClassDef)
    }
    found = {"ServeAppError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def told_by(node: ast.AST, classes: set[str]) -> ast.expr | None:
    """Return what a call gives to an error as its sentence; None where it makes no error for callers."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return None
    place = 0 if node.func.id in classes else {"HTTPException": 1, "PydanticCustomError": 1}.get(node.func.id)
    return None if place is None or len(node.args) <= place else node.args[place]


def test_errors_for_callers_are_sentences() -> None:
    classes = error_classes()
    plain = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).parts[0] in TERMINAL:
            continue
        for node in ast.walk(tree(file)):
            told = told_by(node, classes)
            english = isinstance(told, ast.JoinedStr | ast.BinOp) or (
                # pydantic's is filled in with the sentence of its context
                isinstance(told, ast.Constant) and isinstance(told.value, str) and told.value not in ("", "{sentence}")
            )
            if english:
                plain.append(f"{file.relative_to(PACKAGE.parent)}:{node.lineno}")  # type: ignore[attr-defined]
    assert plain == []


def test_a_sentence_is_kept_in_a_column_of_texts() -> None:
    kept = from_text(to_text(Sentence("The disk failed: {reason}", reason="{")))
    assert translated(kept, Locale.KO) == "디스크 오류: {"
    assert from_text(to_text("{plain}")) == "{plain}"
