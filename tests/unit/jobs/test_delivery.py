import pytest

from serve_app.jobs.delivery import HostGate


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock) -> HostGate:
    return HostGate(per_host=4, clock=clock)


def attempt(gate, host, *, reached):
    gate.start(host)
    gate.finish(host, reached=reached)


def test_counts_what_is_under_way(gate):
    gate.start("a")
    gate.start("a")
    gate.start("b")
    assert gate.occupied() == {"a": 2, "b": 1}
    gate.finish("a", reached=True)
    assert gate.occupied() == {"a": 1, "b": 1}


def test_a_host_without_answer_is_paused_then_probed_then_trusted(gate, clock):
    attempt(gate, "a", reached=False)
    assert gate.occupied() == {"a": 4}  # paused: no place
    clock.now_s += 1.0
    assert gate.occupied() == {"a": 3}  # one place, to see
    gate.start("a")
    assert gate.occupied() == {"a": 4}  # and no more than one
    gate.finish("a", reached=True)
    assert gate.occupied().get("a", 0) == 0


def test_pauses_grow_up_to_a_minute(gate, clock):
    pauses_s = []
    for _ in range(9):
        attempt(gate, "a", reached=False)
        began_s = clock.now_s
        while gate.occupied()["a"] == 4:
            clock.now_s += 0.5
        pauses_s.append(clock.now_s - began_s)
    assert pauses_s == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_attempts_that_fail_together_count_once(gate, clock):
    for _ in range(4):
        gate.start("a")
    for _ in range(4):
        gate.finish("a", reached=False)
    clock.now_s += 1.0
    assert gate.occupied() == {"a": 3}


def test_an_attempt_cut_short_says_nothing_of_the_host(gate):
    gate.start("a")
    gate.finish("a", reached=None)
    assert gate.occupied().get("a", 0) == 0


def test_hosts_are_forgotten(gate, clock):
    attempt(gate, "good", reached=True)
    attempt(gate, "dead", reached=False)
    gate.occupied()
    assert "good" not in gate.occupied()
    clock.now_s += 602.0
    assert gate.occupied() == {}
