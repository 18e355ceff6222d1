"""What a courier remembers of its receivers: pauses of silent hosts, suspect shares, places of each kind."""

import pytest

from serve_app.jobs.outbox import DueDelivery
from serve_app.jobs.receivers import Receivers
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def receivers(clock) -> Receivers:
    return Receivers(16, 4, clock)


def due(host, *, share=None, is_suspect=False, num_bytes=100):
    return DueDelivery(
        job_id="j",
        seq=1,
        webhook_id="msg_1",
        target=f"https://{host}",
        host=host,
        share=share or host,
        body=bytes(num_bytes),
        attempts=0,
        fence=1,
        lease_s=30.0,
        is_suspect=is_suspect,
    )


def attempt(receivers, host, *, is_reached, is_good=None, **options):
    delivery = due(host, **options)
    receivers.start(delivery)
    receivers.finish(delivery, is_reached=is_reached, is_good=bool(is_reached) if is_good is None else is_good)


def test_counts_what_is_under_way(receivers):
    first, second, other = due("a"), due("a"), due("b")
    for delivery in (first, second, other):
        receivers.start(delivery)
    assert receivers.under_way() == {"a": 2, "b": 1}
    receivers.finish(first, is_reached=True, is_good=True)
    assert receivers.under_way() == {"a": 1, "b": 1}


def test_a_host_without_answer_is_paused_then_probed_then_trusted(receivers, clock):
    attempt(receivers, "a", is_reached=False)
    assert receivers.limits().paused == ["a"]
    clock.now_s += 1.0
    assert receivers.limits().paused == []
    probe = due("a")
    receivers.start(probe)
    assert receivers.limits().paused == ["a"]  # until the probe has told
    receivers.finish(probe, is_reached=True, is_good=True)
    assert receivers.limits().paused == []
    assert receivers.limits().shares == []


def test_pauses_grow_up_to_a_minute(receivers, clock):
    pauses_s = []
    for _ in range(9):
        attempt(receivers, "a", is_reached=False)
        began_s = clock.now_s
        while receivers.limits().paused:
            clock.now_s += 0.5
        pauses_s.append(clock.now_s - began_s)
    assert pauses_s == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_attempts_that_fail_together_count_once(receivers, clock):
    together = [due("a") for _ in range(4)]
    for delivery in together:
        receivers.start(delivery)
    for delivery in together:
        receivers.finish(delivery, is_reached=False)
    clock.now_s += 1.0
    assert receivers.limits().paused == []


def test_an_attempt_cut_short_says_nothing_of_the_host(receivers):
    attempt(receivers, "a", is_reached=None)
    limits = receivers.limits()
    assert (limits.paused, limits.shares) == ([], [])


def test_a_failure_makes_the_whole_share_suspect_but_for_hosts_that_did_well(receivers):
    attempt(receivers, "n1.evil.example", share="evil.example", is_reached=True)
    attempt(receivers, "n2.evil.example", share="evil.example", is_reached=True, is_good=False)
    attempt(receivers, "b", is_reached=True)
    limits = receivers.limits()
    assert limits.shares == ["evil.example"]
    assert limits.trusted == ["n1.evil.example"]
    assert limits.paused == []  # it answered


def test_suspect_deliveries_have_a_quarter_of_the_places_and_one_share_half_of_them(receivers):
    assert (receivers.limits().places, receivers.limits().per_share) == (4, 2)
    for host in ("a", "a", "b"):
        receivers.start(due(host, is_suspect=True))
    limits = receivers.limits()
    assert (limits.places, limits.under_way, limits.other_places) == (1, {"a": 2, "b": 1}, 15)


def test_first_attempts_leave_one_place_to_retries(receivers):
    for n in range(14):
        receivers.start(due(f"h{n}"))
    assert receivers.limits().other_places == 1
    receivers.start(due("h14"))
    assert receivers.limits().other_places == 0


def test_long_bodies_have_a_quarter_of_the_places(receivers):
    assert receivers.limits().long_places == 4
    long = [due(f"h{n}", num_bytes=(1 << 20) + 1) for n in range(4)]
    for delivery in long:
        receivers.start(delivery)
    assert receivers.limits().long_places == 0
    receivers.finish(long[0], is_reached=True, is_good=True)
    assert receivers.limits().long_places == 1


def test_hosts_are_forgotten(receivers, clock):
    attempt(receivers, "dead", is_reached=False)
    clock.now_s += 602.0
    limits = receivers.limits()
    assert (limits.paused, limits.shares, receivers.under_way()) == ([], [], {})


def test_a_wildcard_name_fills_neither_the_memory_nor_a_query(receivers):
    for n in range(6000):
        attempt(receivers, f"n{n}.evil.example", share="evil.example", is_reached=False)
    assert len(receivers.limits().paused) == 500
    assert len(receivers._hosts) <= 5000
