"""Who is told that a replica has no model, and when."""

from __future__ import annotations

import pytest

from serve_app.deployments.replica import load_failure
from serve_app.deployments.replica.load_failure import LoadFailure
from serve_app.errors import ModelLoadingError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(load_failure, "time", clock)
    return clock


def test_a_loaded_model_is_healthy_for_ever(clock: Clock) -> None:
    failure = LoadFailure()
    clock.now += 1e6
    failure.check_health()
    assert failure.uptime_s == 1e6


def test_callers_are_told_at_once_and_serve_after_half_a_minute(clock: Clock) -> None:
    failure = LoadFailure()
    clock.now += 12.0  # loading took so long
    failure.error = ModelLoadingError("no file")
    assert failure.raised() is failure.error
    failure.check_health()
    clock.now += 18.0
    failure.check_health()
    clock.now += 0.001
    with pytest.raises(RuntimeError, match="no file"):
        failure.check_health()


def test_one_that_was_loaded_after_all_is_healthy_again(clock: Clock) -> None:
    failure = LoadFailure()
    failure.error = ModelLoadingError("no file")
    clock.now += 100.0
    with pytest.raises(RuntimeError):
        failure.check_health()
    failure.error = None
    failure.check_health()


def test_a_call_that_finds_no_model_is_told_so_whatever_happened() -> None:
    error = LoadFailure().raised()
    assert (type(error), error.detail) == (ModelLoadingError, "no model is loaded")
