"""`Sentence`: an English sentence for callers that is known in other languages too. Imports nothing heavy.

    raise InvalidRequest(Sentence("The form has {num} files; send up to {most}", num=num, most=MAX_FILES))

It is its English text wherever a `str` is used, such as in the log. An answer takes the caller's language:
`translated(error.detail, locale)`. The other languages stand in `sentences_<language>.json`, by the English template.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Annotated, Any

_FORMATTER = string.Formatter()
_MAX_SPEC = 4  # characters: a width of ten digits would make a text of gigabytes


class Locale(StrEnum):
    """Language of the sentences for callers."""

    KO = "ko"
    EN = "en"


class Sentence(str):
    """A sentence, made of a template in English and the values of its fields.

    It keeps both through pickling. An f-string or a concatenation of it is plain English text: put a sentence into
    another one as a value instead.

    Args:
        template: English, a literal, as for `str.format`; without values it is taken as it is.
        **values: texts, sentences or numbers; anything else is kept as its text.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Sentence:
        kept = {name: _kept(value) for name, value in values.items()}
        sentence = super().__new__(cls, template.format_map(kept) if kept else template)
        sentence.template, sentence.values = template, kept
        return sentence

    def __reduce__(self) -> tuple[Any, ...]:
        return _sentence, (self.template, self.values)


def _kept(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else str(value)


def _sentence(template: str, values: dict[str, Any]) -> Sentence:
    return Sentence(template, **values)


def joined(separator: str, parts: Iterable[str]) -> Sentence:
    """Return texts and sentences as one, each of which is translated by itself."""
    values = {f"part{number}": part for number, part in enumerate(parts)}
    return Sentence(separator.replace("{", "{{").replace("}", "}}").join(f"{{{name}}}" for name in values), **values)


def reason_of(error: BaseException) -> str:
    """Return an exception's text, still a sentence where it was raised with one."""
    return error.args[0] if error.args and isinstance(error.args[0], Sentence) else str(error)


def translated(text: str, locale: Locale) -> str:
    """Return a sentence in a language, its values too; plain text, and what has no translation, stays as it is."""
    if not isinstance(text, Sentence):
        return text
    template = catalogue(locale).get(text.template, text.template)
    values = {
        name: translated(value, locale) if isinstance(value, str) else value for name, value in text.values.items()
    }
    return template.format_map(values) if values else template


@cache
def catalogue(locale: Locale) -> dict[str, str]:
    """Return a language's templates by the English ones; English has none."""
    if locale is Locale.EN:
        return {}
    text = resources.files(__package__).joinpath(f"sentences_{locale}.json").read_text(encoding="utf-8")
    templates: dict[str, str] = json.loads(text)
    return templates


def to_json(text: str) -> str | dict[str, Any]:
    """Return what JSON can keep of a sentence, so that `from_json` gives it back."""
    if not isinstance(text, Sentence):
        return text
    values = {name: to_json(value) if isinstance(value, str) else value for name, value in text.values.items()}
    return {"sentence": text.template, "values": values}


def to_text(text: str) -> str:
    """Return what a column of texts can keep of a sentence, so that `from_text` gives it back."""
    return json.dumps(to_json(text), ensure_ascii=False) if isinstance(text, Sentence) else text


def from_text(kept: str) -> str:
    """Return the sentence of what `to_text` returned; any other text as it is."""
    try:
        return from_json(json.loads(kept)) if kept.startswith("{") else kept
    except ValueError:
        return kept


def from_json(kept: Any) -> str:
    """Return the sentence, or the text, of what `to_json` returned; ValueError for anything else.

    It is safe for what another process wrote: a template's fields may name values, and nothing inside them.
    """
    if isinstance(kept, str):
        return kept
    match kept:
        case {"sentence": str(template), "values": dict(values)} if template_fields(template) <= values.keys():
            return Sentence(
                template,
                **{
                    name: value if isinstance(value, int | float) else from_json(value)
                    for name, value in values.items()
                },
            )
    raise ValueError("not a sentence")


class _InJson:
    """Lets pydantic write a text in JSON: as `to_json`; where the context is a Locale, in that language."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema  # the client goes without it

        def write(text: str, info: core_schema.SerializationInfo) -> Any:
            return to_json(text) if info.context is None else translated(text, info.context)

        writing = core_schema.plain_serializer_function_ser_schema(write, info_arg=True, when_used="json")
        return core_schema.no_info_plain_validator_function(from_json, serialization=writing)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string"}  # what a caller gets


Text = Annotated[str, _InJson()]
"""A text or a `Sentence`, of a value that pydantic stores as JSON and reads again."""


def recognized(text: str, templates: Iterable[str]) -> str:
    """Return another library's text as the sentence that the first fitting template makes of it; else the text."""
    for template in templates:
        if (found := _pattern(template).fullmatch(text)) is not None:
            return Sentence(template, **found.groupdict())
    return text


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts, known = [], set()
    for fixed, name, _, _ in _FORMATTER.parse(template):
        parts.append(re.escape(fixed))
        if name:
            parts.append(f"(?P={name})" if name in known else f"(?P<{name}>.+?)")
            known.add(name)
    return re.compile("".join(parts), re.DOTALL)


def template_fields(template: str) -> set[str]:
    """Return the names of a template's fields; ValueError if one asks for more than a value, such as an attribute."""
    fields = set()
    for _, name, spec, _ in _FORMATTER.parse(template):
        if name is None:
            continue
        if not name.isidentifier() or "{" in (spec or "") or len(spec or "") > _MAX_SPEC:
            raise ValueError("a field must be a plain name, and its format short")
        fields.add(name)
    return fields
