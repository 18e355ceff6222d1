"""`RateLimiter`: token buckets of API keys, in the memory of one ingress replica.

The headers are those of draft-ietf-httpapi-ratelimit-headers-03, which clients and gateways know.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.errors import RateLimited
from serve_app.sentences import Sentence

RATE_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What is left of a key's requests after one more.

    Attributes:
        per_minute: the limit, and the most that may come at once.
        left: requests; below 0: this one is too many.
    """

    per_minute: int
    left: float

    def headers(self) -> dict[str, str]:
        """Return RATE_HEADERS: the limit, what is left of it, and the seconds until all of it is there again."""
        full_s = (self.per_minute - max(self.left, 0.0)) * _MINUTE_S / self.per_minute
        values = (self.per_minute, max(0, math.floor(self.left)), math.ceil(full_s))
        return dict(zip(RATE_HEADERS, map(str, values), strict=True))

    def require(self) -> None:
        """Raise RateLimited where this request is too many."""
        if self.left < 0:
            wait_s = -self.left * _MINUTE_S / self.per_minute
            too_many = Sentence(
                "This API key may send {per_minute} requests a minute; try again later", per_minute=self.per_minute
            )
            raise RateLimited(too_many, wait_s)


class RateLimiter:
    """Token buckets: each holds a minute's requests, and is filled evenly."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def take(self, name: str, per_minute: int) -> Rate:
        """Take a token of a bucket; a bucket that has none keeps what it has."""
        now = self._clock()
        tokens, counted_at = self._buckets.get(name, (float(per_minute), now))
        tokens = min(float(per_minute), tokens + (now - counted_at) * per_minute / _MINUTE_S)
        left = tokens - 1.0
        self._buckets[name] = (tokens if left < 0 else left, now)
        return Rate(per_minute, left)
