"""What a server's headers and words become; its requests are tested with the engines that make them."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest

from serve_app.models.remote_http import PassingFailure, retry_after_s, told_by
from serve_app.models.untrusted_text import clean_text

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Mon, 30 Nov 2026 12:00:20 GMT"}, 20.0),
        ({"retry-after": "Mon, 30 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": f"Mon, 30 Nov 2026 12:00:00 +{'9' * 20}"}, None),
        ({"retry-after": f"Mon, 30 Nov {'9' * 20} 12:00:00 GMT"}, None),
        ({"x-ratelimit-reset-requests": "nan"}, None),
        ({"x-ratelimit-reset-requests": "1m30s"}, 90.0),
        ({"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        (
            {
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "900",
            },
            2.0,
        ),
        ({"x-ratelimit-reset-requests": "1.2.3s"}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error": {"code": 400, "type": "invalid", "message": "No."}}', "invalid No."),
        (b'{"detail": "Busy"}', "Busy"),
        (b'{"error": "quota"}', "quota"),
        (b'{"error": null, "message": "gone"}', "gone"),
        (b"plain", "plain"),
        (b"", ""),
        (b"[" * 30_000, "[" * 20_000),
        (b"\xff\xfe", "��"),
    ],
)
def test_a_servers_own_words(body: bytes, told: str) -> None:
    assert told_by(body) == told


def test_words_are_one_short_line_without_control_characters() -> None:
    assert clean_text("a\r\nb\x1b[31m\u202ec\x00  d", 100) == "a b [31m c d"
    assert clean_text("x" * 900, 10) == "x" * 10


def test_a_passing_failure_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(PassingFailure("busy", 3.0)))
    assert (error.detail, error.retry_after_s, error.transient) == ("busy", 3.0, True)
