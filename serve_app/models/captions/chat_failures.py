"""`failure_of`: what an OpenAI-compatible endpoint's refusal means: passing, permanent, or a refusal of the picture."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from serve_app.errors import CaptionRefused, ModelError, ProcessingError
from serve_app.models.captions.reply import clean_text

_MAX_TOLD = 200  # letters of the endpoint's own words
_PASSING = {408, 409, 425, 429}
# 429 with one of these in the body: no wait helps
_OUT_OF_QUOTA = re.compile(r"insufficient_quota|billing|current quota|credit balance|payment", re.IGNORECASE)
_FILTERED = re.compile(r"content_filter|content_policy|content management policy|safety system", re.IGNORECASE)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
_IN_SECONDS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_REMEDIES = {
    401: "correct the key (SERVE_APP_CAPTION_API_KEY)",
    403: "give the key the right to use this model",
    404: "correct chat.base_url or chat.model",
}


class PassingFailure(ProcessingError):
    """Raised when the endpoint may answer later: after `retry_after_s`, where it says so."""

    transient = True

    def __init__(self, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.args = (detail, retry_after_s)
        self.retry_after_s = retry_after_s


def failure_of(status: int, headers: Mapping[str, str], body: bytes, key: str | None) -> ModelError:
    """Return the error of an answer that is not a success.

    Args:
        headers: with names in lower case, or of a mapping that ignores case.
        key: is taken out of the endpoint's words.
    """
    words = told_by(body)
    if key:
        words = words.replace(key, "***")
    told = f": {clean_text(words, _MAX_TOLD)}" if words.strip() else ""
    if 300 <= status < 400:
        return ProcessingError(
            f"The caption endpoint redirects ({status}); set chat.base_url to the address where it answers"
        )
    if status == 429 and _OUT_OF_QUOTA.search(words):
        return ProcessingError(f"The caption endpoint's quota is used up{told}; raise it or set another key")
    if status in _PASSING or status >= 500:
        return PassingFailure(f"The caption endpoint answers {status}{told}", retry_after_s(headers))
    if _FILTERED.search(words):
        return CaptionRefused(f"The caption endpoint's filter refused the picture{told}")
    remedy = f"; {_REMEDIES[status]}" if status in _REMEDIES else ""
    return ProcessingError(f"The caption endpoint answers {status}{told}{remedy}")


def told_by(body: bytes) -> str:
    """Return an error's code, type, parameter and message; the body's beginning where it has no such form."""
    text = body[:20_000].decode("utf-8", errors="replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text[: 4 * _MAX_TOLD]
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, dict):
        parts = [found.get(name) for name in ("code", "type", "param", "message", "detail")]
        return " ".join(str(part) for part in parts if isinstance(part, str | int))
    return str(found)


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how long an endpoint asks to wait: Retry-After in seconds or as a date, else x-ratelimit-reset-*.

    Of several limits the exhausted ones count, or all where none says that it is.
    """
    given = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", given):
        return float(given)
    if given:
        try:
            moment = parsedate_to_datetime(given)
        except ValueError:
            pass
        else:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
    resets = {
        name: seconds
        for name in ("requests", "tokens")
        if (seconds := _seconds_of(headers.get(f"x-ratelimit-reset-{name}", ""))) is not None
    }
    exhausted = [resets[name] for name in resets if headers.get(f"x-ratelimit-remaining-{name}", "").strip() == "0"]
    return max(exhausted or resets.values(), default=None)


def _seconds_of(text: str) -> float | None:
    """Return the seconds of `6m0s`, `1.5s`, `20ms` or `12`."""
    text = text.strip()[:30]
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    try:
        return sum(float(part) * unit for part, unit in zip(found.groups(), _IN_SECONDS, strict=True) if part)
    except ValueError:  # of several points
        return None
