"""What is tried again, how often, and when: on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError

import httpx
import pytest

from serve_app import errors
from serve_app.commands.calls import RetryingCalls, is_refusal


class Service:
    """Answers in turn; waiting passes the time of the clock."""

    def __init__(self, *answers: Exception | str) -> None:
        self.answers = list(answers)
        self.waits: list[float] = []
        self.now_s = 1000.0
        self.during_wait: Callable[[], object] = lambda: None
        self.calls = RetryingCalls(clock=lambda: self.now_s, wait=self._wait)

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now_s += seconds
        self.during_wait()
        return self.calls.stop.is_set()

    def act(self) -> str:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def call(self) -> str:
        return self.calls.call(self.act)


def lost(kind: type[httpx.TransportError]) -> errors.Unavailable:
    error = errors.Unavailable("can't be reached")
    error.__cause__ = kind("x")
    return error


def near(seconds: float) -> object:
    return pytest.approx(seconds * 1.125, rel=0.112)  # a quarter of jitter, upwards only


def test_answers_at_once() -> None:
    service = Service("words")
    assert service.call() == "words"
    assert service.waits == []


@pytest.mark.parametrize("kind", [errors.Overloaded, errors.Unavailable])
def test_retry_after_is_obeyed(kind: type[errors.Overloaded]) -> None:
    service = Service(kind("full", 13.0), kind("full", 40.0), "words")
    assert service.call() == "words"
    assert service.waits == [near(13), near(40)]
    assert all(wait >= asked for wait, asked in zip(service.waits, (13, 40), strict=True))


def test_short_retry_after_backs_off_all_the_same() -> None:
    service = Service(*[errors.Overloaded("full", 1.0)] * 8, "words")
    assert service.call() == "words"
    assert service.waits == [near(seconds) for seconds in (1, 2, 4, 8, 16, 30, 30, 30)]


def test_absurd_retry_after_is_bounded() -> None:
    service = Service(errors.Overloaded("full", 1e9), "words")
    assert service.call() == "words"
    assert service.waits == [near(600)]


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ConnectTimeout])
def test_nobody_listens_is_waited_out_without_a_number_of_tries(kind: type[httpx.TransportError]) -> None:
    service = Service(*[lost(kind)] * 15, "words")
    assert service.call() == "words"
    assert service.waits[:3] == [near(1), near(2), near(4)]


@pytest.mark.parametrize("between", [0, 2])
def test_broken_connections_are_tried_five_times(between: int) -> None:
    """The file itself may be what breaks them, also where the service is away for a while after each."""
    service = Service(*[lost(httpx.ReadError), *[lost(httpx.ConnectError)] * between] * 4, lost(httpx.ReadError))
    with pytest.raises(errors.Unavailable) as caught:
        service.call()
    assert not is_refusal(caught.value)
    assert len(service.waits) == 4 * (1 + between)


def test_other_passing_faults_too() -> None:
    service = Service(errors.DownloadInterrupted("reset"), "words")
    assert service.call() == "words"
    assert service.waits == [near(1)]


@pytest.mark.parametrize(
    "error",
    [errors.InvalidRequest("x"), errors.AudioExtractionError("x"), errors.GpuMemoryError("x"), errors.ServeAppError()],
    ids=lambda error: type(error).__name__,
)
def test_answers_that_stand_are_not_tried_again(error: errors.ServeAppError) -> None:
    service = Service(error)
    with pytest.raises(type(error)):
        service.call()
    assert service.waits == []


def test_service_that_refuses_everything_is_given_up_after_ten_minutes() -> None:
    service = Service(errors.Unavailable("starting", 5.0))
    with pytest.raises(errors.Unavailable, match="starting") as caught:
        service.call()
    assert is_refusal(caught.value)
    assert 600 <= sum(service.waits) < 700


def test_service_that_is_busy_with_our_own_files_is_waited_for() -> None:
    """One slot, and an upload of an hour in it: the others' refusals mean nothing."""
    service = Service(errors.Unavailable("busy", 30.0))

    def hour_long() -> str:
        service.during_wait = lambda: service.answers.insert(0, "words") if service.now_s > 4600 else None
        assert service.call() == "words"
        return "outer"

    assert service.calls.call(hour_long) == "outer"
    assert sum(service.waits) > 3000


def test_stop_ends_a_wait_and_refuses_new_calls() -> None:
    service = Service(errors.Overloaded("full", 5.0))
    service.during_wait = service.calls.stop.set
    with pytest.raises(CancelledError):
        service.call()
    assert len(service.waits) == 1
    with pytest.raises(CancelledError):
        service.call()
    with pytest.raises(CancelledError):
        service.calls.pause(1.0)


def test_reports_why_workers_wait() -> None:
    service = Service(errors.Overloaded("queue full", 5.0), "words")
    seen: list[str] = []
    service.during_wait = lambda: seen.append(service.calls.refusal)
    service.call()
    assert seen == ["queue full"]
    assert service.calls.refusal == ""
