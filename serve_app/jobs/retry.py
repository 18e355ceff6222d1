"""`Backoff`, and the rules of new attempts. Pure functions: callers pass times and random numbers."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.errors import DownloadError, Overloaded, ServeAppError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter.

    Attributes:
        first_s: the first delay.
        cap_s: no delay is longer.
        factor: each delay is this many times as long as the one before.
        jitter: share of a delay that is random, 0 to 1; it spreads the retries of many callers after one fault.
    """

    first_s: float
    cap_s: float
    factor: float = 2.0
    jitter: float = 0.5

    def delay_s(self, attempts: int, chance: float) -> float:
        """Return how long to wait after some failed attempts; `chance` is uniform in [0, 1)."""
        # The cap is reached long before the exponent overflows a float.
        longest_s = min(self.cap_s, self.first_s * self.factor ** min(attempts - 1, 64))
        return longest_s * (1.0 - self.jitter * chance)


DELIVERY_BACKOFF = Backoff(first_s=0.5, cap_s=600.0)
LONGEST_JOB_DELAY_S = 60.0
JOB_BACKOFF = Backoff(first_s=2.0, cap_s=LONGEST_JOB_DELAY_S)
STORAGE_BACKOFF = Backoff(first_s=1.0, cap_s=LONGEST_JOB_DELAY_S)  # of claims, while a disk or a store fails

DELIVERY_GIVE_UP_S = 24 * 3600.0

_LEAST_BYTES_PER_S = 100_000.0  # of a receiver's link


def delivery_retry_after_s(attempts: int, chance: float, receiver_s: float | None = None) -> float:
    """Return how long an event waits for its next attempt.

    Args:
        attempts: made so far; 1 after the first.
        chance: uniform in [0, 1).
        receiver_s: what the receiver asked for; at most the longest delay is granted.
    """
    return max(DELIVERY_BACKOFF.delay_s(attempts, chance), min(receiver_s or 0.0, DELIVERY_BACKOFF.cap_s))


def sending_s(num_bytes: int) -> float:
    """Return how long a body of this length may take to be sent."""
    return num_bytes / _LEAST_BYTES_PER_S


def job_retry_after_s(error: BaseException, attempts: int, chance: float) -> float | None:
    """Return how long a job waits before its next attempt; None if another attempt can't help.

    An error that serve_app did not raise itself (a bug, mostly) may pass, so the limit of attempts decides. Faults of
    the storage do not come here: they use up no attempt (`Runner`). A download gets no further attempt: fetching has
    tried as often as the contract says.
    `attempts` failed before this one (`Job.attempts`); `chance` is uniform in [0, 1).
    """
    if isinstance(error, DownloadError) or (isinstance(error, ServeAppError) and not error.transient):
        return None
    delay_s = JOB_BACKOFF.delay_s(attempts + 1, chance)
    if isinstance(error, Overloaded):
        delay_s = max(delay_s, min(error.retry_after_s, JOB_BACKOFF.cap_s))
    return delay_s
