"""`Backoff`, and the decisions whether and when to try again. Pure functions: callers pass times and random numbers."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.errors import DownloadError, Overloaded, ServeAppError

GONE = 410  # the receiver asks for no more of this job's events


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
        """Return how long to wait after a failed attempt.

        Args:
            attempts: failed so far; 1 after the first.
            chance: uniform in [0, 1).
        """
        # The cap is reached long before the exponent overflows a float.
        longest_s = min(self.cap_s, self.first_s * self.factor ** min(attempts - 1, 64))
        return longest_s * (1.0 - self.jitter * chance)


DELIVERY_BACKOFF = Backoff(first_s=0.5, cap_s=600.0)
JOB_BACKOFF = Backoff(first_s=2.0, cap_s=60.0)

DELIVERY_GIVE_UP_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not before `after_s` seconds from now."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Never try again."""

    whole_job: bool = False  # the job's other events are given up too


def is_taken(status_code: int) -> bool:
    """Return whether a status says that the receiver has accepted the event. A redirection does not."""
    return 200 <= status_code < 300


def after_failure(
    status_code: int | None,
    *,
    attempts: int,
    chance: float,
    past_deadline: bool,
    retry_after_s: float | None = None,
) -> Retry | GiveUp:
    """Decide what to do with an event that was not delivered.

    Args:
        status_code: of the answer; None if there was no answer.
        attempts: made so far, this one included.
        chance: uniform in [0, 1).
        past_deadline: whether the event is too old to be worth another attempt.
        retry_after_s: what the receiver asked for; at most the longest delay is granted.
    """
    if status_code == GONE:
        return GiveUp(whole_job=True)
    if past_deadline:
        return GiveUp()
    delay_s = DELIVERY_BACKOFF.delay_s(attempts, chance)
    if retry_after_s is not None:
        delay_s = max(delay_s, min(retry_after_s, DELIVERY_BACKOFF.cap_s))
    return Retry(delay_s)


def job_retry_after_s(error: BaseException, attempts: int, chance: float) -> float | None:
    """Return how long a job waits before its next attempt; None if another attempt can't help.

    An error that serve_app did not raise itself (a database that restarts, a full disk, a bug) may pass, so the limit
    of attempts decides. A download gets no further attempt: fetching has tried as often as the contract says.

    Args:
        error: what ended the attempt.
        attempts: failed so far, this one not included (`Job.attempts`).
        chance: uniform in [0, 1).
    """
    if isinstance(error, DownloadError) or (isinstance(error, ServeAppError) and not error.transient):
        return None
    delay_s = JOB_BACKOFF.delay_s(attempts + 1, chance)
    if isinstance(error, Overloaded):
        delay_s = max(delay_s, min(error.retry_after_s, JOB_BACKOFF.cap_s))
    return delay_s
