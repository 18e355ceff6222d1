"""`Breaker`: how long a runner claims nothing because its storage fails."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.errors import NoRoomYet, StorageUnavailable
from serve_app.jobs.retry import LONGEST_JOB_DELAY_S, STORAGE_BACKOFF

_MOST_REMEMBERED = 1000


class Breaker:
    """A circuit breaker: pauses after a fault of the storage; after each pause one job is tried, until one ends well.

    Args:
        clock: returns monotonic seconds.
        chance: returns numbers in [0, 1), so that runners do not try all at once.
    """

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._num_faults = 0
        self._pause_s = 0.0
        self._is_trying = False
        self._until = clock()
        self._faults_of_job: dict[str, int] = {}
        self.reason = ""

    @property
    def wait_s(self) -> float:
        """Seconds until the next claim may be made."""
        return max(0.0, self._until - self._clock())

    def fault(self, error: StorageUnavailable) -> None:
        """Begin a pause, longer than the one before; the jobs that were in work together count as one fault."""
        self.reason = error.detail
        if self.wait_s and not self._is_trying:
            return
        self._is_trying = False
        self._num_faults += 1
        self._pause_s = STORAGE_BACKOFF.delay_s(self._num_faults, self._chance())
        self._until = self._clock() + self._pause_s

    def job_delay_s(self, job_id: str, error: StorageUnavailable) -> float:
        """Note a job's fault; return how long it is put off, longer than the pause: another job is tried first."""
        if not isinstance(error, NoRoomYet):
            self.fault(error)
        if len(self._faults_of_job) >= _MOST_REMEMBERED:
            self._faults_of_job.clear()
        num_faults = self._faults_of_job[job_id] = self._faults_of_job.get(job_id, 0) + 1
        delay_s = self.wait_s + STORAGE_BACKOFF.delay_s(num_faults, self._chance())
        return min(delay_s, LONGEST_JOB_DELAY_S)

    def claimed(self) -> None:
        """Note a claim: while it is not known to go well, the next one waits as long as the last pause."""
        if self.reason:
            self._is_trying = True
            self._until = self._clock() + self._pause_s

    def ended(self, job_id: str) -> None:
        """Note a job that has not met a fault: the storage works."""
        self._faults_of_job.pop(job_id, None)
        self.reason, self._num_faults, self._until = "", 0, self._clock()
