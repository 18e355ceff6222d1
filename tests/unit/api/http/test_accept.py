"""What a client gets for what it accepts."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from serve_app.api.http.accept import preferred, preferred_locale, wants_page
from serve_app.messages import Locale

JSON, MIDI, X_MIDI = OFFERS = ("application/json", "audio/midi", "audio/x-midi")


def chosen(*accept: str) -> str:
    headers = [(b"accept", value.encode()) for value in accept]
    return preferred(Request({"type": "http", "headers": headers}), OFFERS)


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        ("audio/midi", MIDI),
        ("Audio/MIDI", MIDI),
        ("audio/x-midi", X_MIDI),
        ("audio/*", MIDI),
        ("audio/midi;charset=binary", MIDI),
        ("audio/midi, */*", MIDI),
        ("*/*, audio/midi", MIDI),
        ("audio/midi, */*;q=0.8", MIDI),
        ("application/json;q=0.5, audio/midi;q=0.7", MIDI),
        ("application/json;q=0.5, audio/*", MIDI),
        ("application/json;q=0, */*", MIDI),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json, audio/midi", JSON),
        ("audio/midi;q=0.5, application/json", JSON),
        ("audio/midi;q=0, */*", JSON),
        ("audio/midi; Q = 0.1, application/json;q=0.2", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", JSON),
        ("text/html", JSON),
        ("*/*;q=0", JSON),
    ],
)
def test_header(accept: str, answer: str) -> None:
    assert chosen(accept) == answer


def test_no_header_means_anything() -> None:
    assert chosen() == JSON


def test_header_in_several_lines() -> None:
    assert chosen("text/html", "audio/midi") == MIDI


@pytest.mark.parametrize("nonsense", ["", ",,", "midi", "/", "audio/"])
def test_what_is_no_media_range_means_nothing(nonsense: str) -> None:
    assert chosen(nonsense) == JSON
    assert chosen(f"{nonsense}, audio/x-midi") == X_MIDI


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),  # a browser's navigation
        ("image/avif,image/webp,*/*;q=0.8", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.5", False),
    ],
)
def test_browsers_get_pages(accept: str, page: bool) -> None:
    assert wants_page(Request({"type": "http", "headers": [(b"accept", accept.encode())]})) is page


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", Locale.KO),
        ("en-GB,en;q=0.9,ko;q=0.8", Locale.EN),
        ("de-DE,de;q=0.9,en;q=0.3", Locale.EN),
        ("ko;q=0.1, EN-US;q=0.2", Locale.EN),
        ("fr", Locale.KO),
        ("", Locale.KO),
        ("en;q=0, ko;q=0", Locale.KO),
    ],
)
def test_language(header: str, locale: Locale) -> None:
    request = Request({"type": "http", "headers": [(b"accept-language", header.encode())]})
    assert preferred_locale(request, Locale.KO) is locale


def test_language_without_a_header_is_the_default() -> None:
    assert preferred_locale(Request({"type": "http", "headers": []}), Locale.EN) is Locale.EN
