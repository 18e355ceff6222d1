import email.utils
import random
import time

import httpx
import pytest

from serve_app.errors import AddressRefused, DownloadInterrupted, Overloaded, ProcessingError, Unavailable
from serve_app.jobs.delivery import _retry_after_s
from serve_app.jobs.retry import (
    DELIVERY_BACKOFF,
    JOB_BACKOFF,
    Backoff,
    delivery_retry_after_s,
    job_retry_after_s,
)


def test_delays_double_up_to_the_cap():
    backoff = Backoff(first_s=0.5, cap_s=600.0)
    assert [backoff.delay_s(n, 0.0) for n in range(1, 6)] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert backoff.delay_s(11, 0.0) == 512.0
    assert backoff.delay_s(12, 0.0) == 600.0
    assert backoff.delay_s(100_000, 0.0) == 600.0  # no overflow


def test_jitter_takes_away_at_most_its_share():
    backoff = Backoff(first_s=10.0, cap_s=10.0, jitter=0.5)
    chances = [random.Random(7).random() for _ in range(50)] + [0.0, 0.999999]
    delays_s = [backoff.delay_s(1, chance) for chance in chances]
    assert min(delays_s) == pytest.approx(5.0, abs=1e-4)
    assert max(delays_s) == 10.0


def test_a_receivers_wish_is_kept_within_the_cap():
    assert delivery_retry_after_s(3, 0.0) == DELIVERY_BACKOFF.delay_s(3, 0.0)
    assert delivery_retry_after_s(1, 0.0, 30) == 30
    assert delivery_retry_after_s(1, 0.0, 1e9) == 600
    assert delivery_retry_after_s(1, 0.0, 0) == 0.5


def test_jobs_are_tried_again_only_after_what_may_pass():
    for passing in (Unavailable("a replica was lost", 0.0), ConnectionError("the database restarts")):
        assert job_retry_after_s(passing, 0, 0.0) == JOB_BACKOFF.delay_s(1, 0.0)
        assert job_retry_after_s(passing, 1, 0.0) == JOB_BACKOFF.delay_s(2, 0.0)
    # a download has had its tries when it fails
    for error in (AddressRefused("private"), ProcessingError("bad"), DownloadInterrupted("reset")):
        assert job_retry_after_s(error, 0, 0.0) is None


def test_a_full_deployment_says_when():
    assert job_retry_after_s(Overloaded("full", 20.0), 0, 0.0) == 20.0
    assert job_retry_after_s(Overloaded("full", 1e6), 0, 0.0) == JOB_BACKOFF.cap_s


@pytest.mark.parametrize(
    ("value", "date", "wait_s"),
    [
        ("120", None, 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:27:00 GMT", 60.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:29:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None, 0.0),
        ("Sun, 31 Dec 9999 23:59:59 GMT", "garbage", None),
        ("soon", None, None),
        ("-5", None, None),
        ("9" * 400, None, None),
        ("", None, None),
    ],
)
def test_retry_after_of_a_receiver(value: str, date: str | None, wait_s: float | None) -> None:
    headers = {"retry-after": value} if date is None else {"retry-after": value, "date": date}
    assert _retry_after_s(httpx.Response(503, headers=headers)) == wait_s


def test_a_receiver_without_a_clock_is_waited_for_by_ours() -> None:
    until = email.utils.formatdate(time.time() + 3600, usegmt=True)
    wait_s = _retry_after_s(httpx.Response(503, headers={"retry-after": until}))
    assert wait_s is not None
    assert 3590 <= wait_s <= 3600
