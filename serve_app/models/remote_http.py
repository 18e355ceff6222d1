"""Requests to a model's server: bounded answers, and retries of passing failures.

What a server says is untrusted: `Answer.told` is a short line of it, for a sentence only.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.options import require_address
from serve_app.models.untrusted_text import clean_text
from serve_app.sentences import Sentence, reason_of

MAX_TRIES = 5
MAX_TOLD = 200  # letters of a server's own words
_LONGEST_WAIT_S = 20.0
_CONNECT_S = 10.0
_PASSING = {408, 409, 425, 429}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
_IN_SECONDS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)


class PassingFailure(ProcessingError):
    """Raised when a server may answer later: after `retry_after_s`, where it says so."""

    transient = True

    def __init__(self, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.args = (detail, retry_after_s)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer that no further try would change.

    Attributes:
        sent: the headers of the request that hold secrets.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    sent: Mapping[str, str] = field(repr=False)

    @property
    def told(self) -> str:
        """The server's own words, in a short line; "" without any."""
        return shown_words(told_by(self.body), self.sent)


class RemoteServer:
    """A server of a model, asked over HTTP. An instance is for one event loop.

    Args:
        name: begins the sentences of errors: "ACE-Step".
        base_url: paths are added to it.
        option: of the configuration that holds `base_url`, for errors.
        first_wait_s: before the second try, where the server asks for no other; each next one is twice as long.

    Raises:
        ModelLoadingError: `base_url` is no address.
    """

    def __init__(self, name: str, base_url: str, option: str, *, first_wait_s: float = 0.5) -> None:
        try:
            require_address(option, base_url)
        except ValueError as error:
            raise ModelLoadingError(reason_of(error)) from None
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._backoff = wait_exponential(multiplier=first_wait_s, max=_LONGEST_WAIT_S) + wait_random(0, first_wait_s)
        self._client: httpx.AsyncClient | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        deadline_s: float,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
    ) -> Answer:
        """Return the answer to a request, after at most five tries; redirects are not followed.

        Args:
            path: begins with a slash.
            headers: of the request; their values are taken out of the server's words.
            deadline_s: for all tries together.
            max_bytes: of the answer.
            content: sent as JSON; None sends nothing.

        Raises:
            PassingFailure: the server can't be reached, or answers 408, 409, 425, 429 or 5xx each time.
            ProcessingError: the answer is too large, or did not come within the deadline.
        """

        async def ask_once() -> Answer:
            answer = await self.ask_once(method, path, max_bytes=max_bytes, headers=headers, content=content)
            if is_passing(answer.status):
                told = f": {answer.told}" if answer.told else ""
                raise PassingFailure(
                    Sentence("{name} answers {status}{told}", name=self._name, status=answer.status, told=told),
                    retry_after_s(answer.headers),
                )
            return answer

        try:
            async with asyncio.timeout(deadline_s):
                return await self.retrying(deadline_s)(ask_once)
        except TimeoutError:
            raise ProcessingError(
                Sentence("{name} gave no answer within {deadline_s:g} s", name=self._name, deadline_s=deadline_s)
            ) from None

    def retrying(self, deadline_s: float) -> AsyncRetrying:
        """Return what calls a function again after each PassingFailure, at most five times, and raises the last one."""
        return AsyncRetrying(
            retry=retry_if_exception_type(PassingFailure),
            stop=stop_after_attempt(MAX_TRIES) | stop_before_delay(deadline_s),
            wait=self._wait_s,
            reraise=True,
        )

    async def ask_once(
        self,
        method: str,
        path: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
    ) -> Answer:
        """Return the answer to one try, of any status; arguments as of `ask`.

        Raises:
            PassingFailure: the server can't be reached.
            ProcessingError: the answer is too large.
        """
        if self._client is None:
            timeout = httpx.Timeout(None, connect=_CONNECT_S)  # callers limit the rest
            self._client = httpx.AsyncClient(timeout=timeout, follow_redirects=False)
        sent = {"accept-encoding": "identity", "user-agent": "serve_app", **(headers or {})}
        body = bytearray()
        try:
            async with self._client.stream(method, self._base_url + path, json=content, headers=sent) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > max_bytes:
                        raise ProcessingError(
                            Sentence(
                                "{name}'s answer has more than {max_bytes} bytes", name=self._name, max_bytes=max_bytes
                            )
                        )
        except httpx.HTTPError as error:
            raise PassingFailure(
                Sentence("{name} can't be reached ({reason})", name=self._name, reason=type(error).__name__)
            ) from None
        except httpx.InvalidURL:  # the path may be a server's
            raise ProcessingError(
                Sentence("{name} can't be asked: the address is malformed or too long", name=self._name)
            ) from None
        return Answer(response.status_code, response.headers, bytes(body), headers or {})

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _wait_s(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after_s if isinstance(failure, PassingFailure) else None
        return self._backoff(state) if asked is None else asked


def checked_key(key: str | None, setting: str) -> str | None:
    """Return the key of a server, fit for a header; None where there is none.

    Args:
        setting: that holds the key, for errors.

    Raises:
        ModelLoadingError: it holds letters that no key has.
    """
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ModelLoadingError(
            Sentence("{setting} holds letters that no key has; copy the key again", setting=setting)
        )
    return key or None


def is_passing(status: int) -> bool:
    """Return whether a later request may get another answer."""
    return status in _PASSING or status >= 500


def shown_words(words: str, sent: Mapping[str, str], most: int = MAX_TOLD) -> str:
    """Return a server's words in a short line, without the keys and tokens that it was sent.

    Args:
        sent: the headers of the request that hold secrets.
        most: letters.
    """
    for value in sent.values():
        if secret := value.removeprefix("Bearer "):
            words = words.replace(secret, "***")
    return clean_text(words, most)


def told_by(body: bytes) -> str:
    """Return an error's code, type, parameter and message; the body's beginning where it has no such form.

    The words may hold what the server was sent: `shown_words` makes them fit to be shown.
    """
    text = body[:20_000].decode("utf-8", errors="replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(found, dict):
        found = found.get("error") or found
    if isinstance(found, dict):
        parts = [found.get(name) for name in ("code", "type", "param", "message", "detail")]
        return " ".join(str(part) for part in parts if isinstance(part, str))
    return str(found)


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how long a server asks to wait: Retry-After in seconds or as a date, else x-ratelimit-reset-*.

    Of several limits the exhausted ones count, or all where none says that it is.

    Args:
        headers: with names in lower case, or of a mapping that ignores case.
    """
    given = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", given):
        return float(given)
    if given:
        try:
            moment = parsedate_to_datetime(given)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
        except (ValueError, OverflowError):
            pass
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
