"""`wrong_fields`: what is wrong with a request's fields, as FastAPI lists it, bounded and in the caller's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serve_app.sentences import Locale, Sentence, recognized, translated

_MAX_FIELDS = 16  # wrong fields that are told of; of more, their number
_MAX_NAME_CHARS = 64  # of a client's own text in a failure
_MAX_MESSAGE_CHARS = 400

# Sentences of pydantic, FastAPI and Starlette that a caller can get. The first that fits a text is taken.
FOREIGN = (
    "Field required",
    "Field is frozen",
    "Extra inputs are not permitted",
    "Keys should be strings",
    "Input should be an object",
    "Input should be a valid dictionary",
    "Input should be a valid dictionary or object to extract fields from",
    "Input should be a valid array",
    "Input should be a valid list",
    "Input should be a valid tuple",
    "Input should be a valid string",
    "Input should be a valid string, unable to parse raw data as a unicode string",
    "Input should be a valid boolean",
    "Input should be a valid boolean, unable to interpret input",
    "Input should be a valid integer",
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be a valid integer, got a number with a fractional part",
    "Unable to parse input string as an integer, exceeded maximum size",
    "Input should be a valid number",
    "Input should be a valid number, unable to parse string as a number",
    "Input should be a finite number",
    "Input should be a multiple of {num}",
    "Input should be greater than or equal to {least}",
    "Input should be greater than {bound}",
    "Input should be less than or equal to {most}",
    "Input should be less than {bound}",
    "Input should be {names} or {last}",
    "Input should be {name}",
    "String should have at least 1 character",
    "String should have at least {least} characters",
    "String should have at most 1 character",
    "String should have at most {most} characters",
    "String should match pattern '{pattern}'",
    "List should have at least 1 item after validation, not {num}",
    "List should have at least {least} items after validation, not {num}",
    "List should have at most 1 item after validation, not {num}",
    "List should have at most {most} items after validation, not {num}",
    "Value should have at least {least} items after validation, not {num}",
    "Value should have at most {most} items after validation, not {num}",
    "Value error, {reason}",
    "JSON decode error",
    "There was an error parsing the body",
    "Bad Request",
    "Not Found",
    "Method Not Allowed",
    "Missing boundary in multipart.",
    "Invalid multipart data.",
    'The Content-Disposition header field "name" must be provided.',
    "Too many files. Maximum number of files is {num}.",
    "Too many fields. Maximum number of fields is {num}.",
    "Field exceeded maximum size of {num}KB.",
    "Part exceeded maximum size of {num}KB.",
)


def foreign_sentence(text: str) -> str:
    """Return the sentence that a text of pydantic, FastAPI or Starlette is; one that is not in FOREIGN stays text."""
    return text if isinstance(text, Sentence) else recognized(text, FOREIGN)


def sentence_of(item: Mapping[str, Any]) -> str:
    """Return the sentence of one of pydantic's errors; ours have it in their context, as `sentence`."""
    return foreign_sentence((item.get("ctx") or {}).get("sentence", item["msg"]))


def wrong_fields(errors: Sequence[Any], locale: Locale) -> list[dict[str, Any]]:
    """Return FastAPI's list of wrong fields, bounded: one body may hold a hundred thousand of them.

    It is without `input`, which may hold NaN or half a surrogate pair, which JSON can't, and a presigned URL.
    """
    fields = [
        {
            "type": item["type"],
            "loc": _clean(item["loc"]),
            "msg": translated(sentence_of(item), locale)[:_MAX_MESSAGE_CHARS],
        }
        for item in errors[:_MAX_FIELDS]
    ]
    if (num_more := len(errors) - len(fields)) > 0:
        more = Sentence("{num} more errors are not listed", num=num_more)
        fields.append({"type": "more_errors", "loc": ["body"], "msg": translated(more, locale)})
    return fields


def _clean(location: Sequence[Any]) -> list[Any]:
    # a field's name is the client's text, and JSON lets it be half a surrogate pair
    return [
        part[:_MAX_NAME_CHARS].encode("utf-8", "replace").decode() if isinstance(part, str) else part
        for part in location[:_MAX_FIELDS]
    ]
