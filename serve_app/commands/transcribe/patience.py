"""Which failures of a call are worth another try, and when.

refused      429, 503, 502, or nobody listens: the file is not at fault. Tried again as long as anything moves
broken off   the connection was lost under the call, or a passing fault: a few times, for the file may be the cause
anything else is an answer
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from serve_app.errors import Overloaded, ServeAppError

T = TypeVar("T")

# Nothing reached the service.
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Stopped(Exception):
    """Raised in a worker when the run ends before its file did."""


class Stalled(Exception):
    """Raised when the service has refused everything for too long; `refusal` is the last answer."""

    def __init__(self, refusal: ServeAppError) -> None:
        super().__init__(refusal)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long.

    Attributes:
        backoff_s: wait before the second try; doubles from then on.
        max_wait_s: longest wait, unless the service asks for more.
        max_asked_s: longest wait that the service can ask for.
        idle_s: how long it may refuse everything.
        num_tries: tries of a call that breaks off.
    """

    backoff_s: float = 1.0
    max_wait_s: float = 30.0
    max_asked_s: float = 600.0
    idle_s: float = 600.0
    num_tries: int = 5


class PatientCalls:
    """Calls the service for all workers of a run, and again where that helps.

    Args:
        patience: how often and how long.
        stop: ends every wait.
        clock: monotonic seconds.
        wait: waits for so many seconds, or returns True as soon as the run stops; default: on `stop`.
    """

    def __init__(
        self,
        patience: Patience = Patience(),
        stop: threading.Event | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.stop = stop or threading.Event()
        self._patience = patience
        self._clock = clock
        self._wait = wait or self.stop.wait
        self._lock = threading.Lock()
        self._moved_at_s = clock()
        self._num_calling = 0
        self._refusals: dict[int, str] = {}  # by worker thread

    @property
    def refusals(self) -> list[str]:
        """What the workers that wait for another try were told last."""
        with self._lock:
            return list(self._refusals.values())

    def pause(self, seconds: float) -> None:
        """Wait between two looks at a job; Stopped."""
        if self._wait(seconds):
            raise Stopped

    def call(self, act: Callable[[], T]) -> T:
        """Return what a call returns, after as many tries as it is worth.

        Raises:
            ServeAppError: the service's answer, or its last refusal while it served others.
            Stalled: it refused everything for `idle_s`.
            Stopped: the run ends.
        """
        began_s = self._clock()
        num_refused = num_broken = 0
        try:
            while True:
                if self.stop.is_set():
                    raise Stopped
                try:
                    return self._once(act)
                except ServeAppError as error:
                    if isinstance(error, Overloaded) and not _broke_off(error):
                        self._check_idle(error, began_s)
                    elif not error.transient or (num_broken := num_broken + 1) >= self._patience.num_tries:
                        self._moved()
                        raise
                    wait_s = self._next_wait_s(error, num_refused)
                    num_refused += 1
                    self._note(error.detail or error.code)
                if self._wait(wait_s):
                    raise Stopped
        finally:
            self._note(None)

    def _once(self, act: Callable[[], T]) -> T:
        with self._lock:
            self._num_calling += 1
        try:
            answer = act()
        finally:
            with self._lock:
                self._num_calling -= 1
        self._moved()
        return answer

    def _check_idle(self, refusal: ServeAppError, began_s: float) -> None:
        """Let a call go on, unless it is this file alone that is refused, or all are."""
        with self._lock:
            busy, moved_at_s = self._num_calling > 0, self._moved_at_s
        now_s = self._clock()
        if busy or now_s - began_s < self._patience.idle_s:
            return
        if now_s - moved_at_s >= self._patience.idle_s:
            raise Stalled(refusal)
        raise refusal

    def _next_wait_s(self, error: ServeAppError, num_refused: int) -> float:
        wait_s = min(self._patience.backoff_s * 2.0 ** min(num_refused, 16), self._patience.max_wait_s)
        # without an answer, `retry_after_s` is nobody's wish
        if isinstance(error, Overloaded) and not isinstance(error.__cause__, httpx.TransportError):
            wait_s = max(wait_s, min(error.retry_after_s, self._patience.max_asked_s))
        return wait_s * random.uniform(1.0, 1.25)  # noqa: S311 - so that workers don't come back all at once

    def _moved(self) -> None:
        with self._lock:
            self._moved_at_s = self._clock()

    def _note(self, refusal: str | None) -> None:
        with self._lock:
            if refusal is None:
                self._refusals.pop(threading.get_ident(), None)
            else:
                self._refusals[threading.get_ident()] = refusal


def _broke_off(error: ServeAppError) -> bool:
    cause = error.__cause__
    return isinstance(cause, httpx.TransportError) and not isinstance(cause, _NOT_CONNECTED)
