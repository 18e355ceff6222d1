"""`RetryingCalls`: calls of a service, repeated where that helps.

refused     429, 503, 502, or nothing listens: the file is not the cause. Repeated until the service has answered
            nothing for ten minutes
broken off  the connection was lost during the call, or a fault may pass: five tries, as the file may be the cause

Any other answer is final.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from serve_app.errors import Overloaded, ServeAppError

T = TypeVar("T")

_BACKOFF = wait_exponential(max=30)
_MAX_RETRY_AFTER_S = 600.0
_MAX_SILENCE_S = 600.0
_MAX_TRIES = 5
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RetryingCalls:
    """Calls a service for all workers of a run.

    Attributes:
        stop: set it to end every wait and to refuse new calls.
        refusal: the service's last refusal; empty once a call succeeds.

    Args:
        clock: monotonic seconds.
        wait: waits for some seconds and returns whether the run has stopped; default: `stop.wait`.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wait: Callable[[float], bool] | None = None
    ) -> None:
        self.stop = threading.Event()
        self.refusal = ""
        self._clock = clock
        self._wait = wait or self.stop.wait
        self._lock = threading.Lock()
        self._num_running = 0
        self._answered_at_s = clock()

    def pause(self, seconds: float) -> None:
        """Wait; CancelledError if the run stops meanwhile."""
        if self._wait(seconds):
            raise CancelledError

    def call(self, act: Callable[[], T]) -> T:
        """Return a call's answer, after repetitions where they help.

        Raises:
            ServeAppError: the service's answer; the last refusal (see `is_refusal`) if the service answers nothing.
            CancelledError: the run stops.
        """
        num_broken = itertools.count(1)

        def is_enough(state: RetryCallState) -> bool:
            return self._is_silent() if is_refusal(_error_of(state)) else next(num_broken) >= _MAX_TRIES

        retrying = Retrying(
            retry=retry_if_exception(_may_pass), stop=is_enough, wait=self._wait_s, sleep=self.pause, reraise=True
        )
        return retrying(self._once, act)

    def _once(self, act: Callable[[], T]) -> T:
        if self.stop.is_set():
            raise CancelledError
        with self._lock:
            self._num_running += 1
        is_answered = False
        try:
            answer = act()
            is_answered = True
            return answer
        except ServeAppError as error:
            is_answered = not _may_pass(error)
            raise
        finally:
            with self._lock:
                self._num_running -= 1
                if is_answered:
                    self._answered_at_s, self.refusal = self._clock(), ""

    def _is_silent(self) -> bool:
        """Return whether the service has answered nothing for long and no call runs: one may take an hour."""
        with self._lock:
            return not self._num_running and self._clock() - self._answered_at_s >= _MAX_SILENCE_S

    def _wait_s(self, state: RetryCallState) -> float:
        error = _error_of(state)
        self.refusal = error.detail or error.code
        wait_s = _BACKOFF(state)
        # without an answer, `retry_after_s` is a default and not the service's
        if isinstance(error, Overloaded) and not isinstance(error.__cause__, httpx.TransportError):
            wait_s = max(wait_s, min(error.retry_after_s, _MAX_RETRY_AFTER_S))
        return wait_s * random.uniform(1.0, 1.25)  # noqa: S311 (so that workers don't come back all at once)


def is_refusal(error: ServeAppError) -> bool:
    """Return whether the service refused a call, or was not reached, whatever the file."""
    cause = error.__cause__
    is_broken_off = isinstance(cause, httpx.TransportError) and not isinstance(cause, _NOT_CONNECTED)
    return isinstance(error, Overloaded) and not is_broken_off


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ServeAppError) and (error.transient or is_refusal(error))


def _error_of(state: RetryCallState) -> ServeAppError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ServeAppError)  # _may_pass lets nothing else through
    return error
