from __future__ import annotations

import pytest

from serve_app.errors import NoRoomYet, StorageUnavailable
from serve_app.workers.breaker import Breaker
from tests.clock import Clock

FULL = StorageUnavailable("the disk is full")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, lambda: 0.0)  # the longest delays


def test_pauses_grow_to_a_minute_and_begin_anew_after_a_success(breaker: Breaker, clock: Clock) -> None:
    pauses = []
    for _ in range(8):
        breaker.fault(FULL)
        pauses.append(breaker.wait_s)
        clock.now_s += breaker.wait_s
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    breaker.ended("a")
    assert (breaker.wait_s, breaker.reason) == (0.0, "")
    breaker.fault(FULL)
    assert breaker.wait_s == 1


def test_jobs_that_were_in_work_together_are_one_fault(breaker: Breaker, clock: Clock) -> None:
    for job_id in "abcd":
        breaker.job_delay_s(job_id, FULL)
    assert breaker.wait_s == 1


def test_after_a_pause_one_job_is_tried(breaker: Breaker, clock: Clock) -> None:
    breaker.fault(FULL)
    clock.now_s += 1
    assert breaker.wait_s == 0
    breaker.claimed()
    assert breaker.wait_s == 1  # before the next
    breaker.ended("a")
    breaker.claimed()
    assert breaker.wait_s == 0


def test_another_job_is_tried_first(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        delay_s = breaker.job_delay_s("a", FULL)
        assert breaker.wait_s <= delay_s <= 60
        clock.now_s += breaker.wait_s


def test_a_file_that_does_not_fit_puts_off_its_own_job_alone(breaker: Breaker) -> None:
    delays = [breaker.job_delay_s("large", NoRoomYet("no room")) for _ in range(7)]
    assert delays == [1, 2, 4, 8, 16, 32, 60]
    assert (breaker.wait_s, breaker.reason) == (0.0, "")
