"""Groups of threads: seats, deadlines that abandon, cancellation, and copies that Ray makes."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator

import pytest

from serve_app import threads
from serve_app.errors import StorageUnavailable
from serve_app.threads import CHECKS, FILES, LEASES, NAMES, STORE, ThreadGroup

LONG_S = 30.0  # no test waits so long


class Missed(Exception):
    pass


class Gate:
    """Calls that block until the gate is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.lock = threading.Lock()
        self.num_inside = 0
        self.most_inside = 0
        self.num_called = 0

    def call(self, value: int = 0) -> int:
        with self.lock:
            self.num_called += 1
            self.num_inside += 1
            self.most_inside = max(self.most_inside, self.num_inside)
        assert self.open.wait(LONG_S)
        with self.lock:
            self.num_inside -= 1
        return value


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def group(num_threads: int = 2, num_abandoned: int = 2, deadline_s: float = LONG_S) -> ThreadGroup:
    return ThreadGroup(
        "tested", num_threads, num_abandoned=num_abandoned, deadline_s=deadline_s, missed=lambda s: Missed(f"{s:g}")
    )


async def until_inside(gate: Gate, count: int) -> None:
    async with asyncio.timeout(LONG_S):
        while gate.num_inside < count:
            await asyncio.sleep(0.001)


def test_results_errors_and_arguments_pass() -> None:
    async def run() -> None:
        tested = group()
        assert await tested.run(divmod, 7, 2) == (3, 1)
        assert await tested.run(int, "ff", base=16) == 255
        with pytest.raises(ZeroDivisionError):
            await tested.run(divmod, 1, 0)
        name = await tested.run(lambda: threading.current_thread().name)
        assert name.startswith("serve_app-tested")

    asyncio.run(run())


def test_as_many_calls_at_once_as_seats(gate: Gate) -> None:
    async def run() -> None:
        tested = group(num_threads=2, num_abandoned=5)
        calls = [asyncio.create_task(tested.run(gate.call, n)) for n in range(5)]
        await until_inside(gate, 2)
        await asyncio.sleep(0.02)
        gate.open.set()
        assert await asyncio.gather(*calls) == list(range(5))
        assert gate.most_inside == 2

    asyncio.run(run())


def test_a_call_that_misses_its_deadline_gives_up_its_seat_at_once(gate: Gate) -> None:
    async def run() -> None:
        tested = group(num_threads=1, num_abandoned=2)
        for _ in range(2):
            with pytest.raises(Missed, match=r"0\.02"):
                await tested.run_within(0.02, gate.call)
        assert gate.num_inside == 2  # both hang on
        assert await tested.run(divmod, 7, 2) == (3, 1)

    asyncio.run(run())


def test_while_too_many_hang_new_calls_wait_until_their_own_deadlines(gate: Gate) -> None:
    async def run() -> None:
        tested = group(num_threads=1, num_abandoned=1, deadline_s=0.02)
        for _ in range(2):
            with pytest.raises(Missed):
                await tested.run(gate.call)
        called: list[int] = []
        with pytest.raises(Missed):
            await tested.run(called.append, 1)
        waiting = asyncio.create_task(tested.run_within(LONG_S, called.append, 2))
        await asyncio.sleep(0.02)
        assert called == []
        gate.open.set()
        await waiting
        assert called == [2]  # the call that was given up is never made

    asyncio.run(run())


def test_a_deadline_counts_the_wait_for_a_seat(gate: Gate) -> None:
    async def run() -> None:
        tested = group(num_threads=1)
        holder = asyncio.create_task(tested.run(gate.call))
        await until_inside(gate, 1)
        with pytest.raises(Missed):
            await tested.run_within(0.02, gate.call)
        assert gate.num_called == 1
        gate.open.set()
        await holder

    asyncio.run(run())


def test_a_cancelled_caller_gives_up_its_seat_at_once(gate: Gate) -> None:
    async def run() -> None:
        tested = group(num_threads=1, num_abandoned=1)
        caller = asyncio.create_task(tested.run(gate.call))
        await until_inside(gate, 1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await tested.run(divmod, 7, 2) == (3, 1)
        assert gate.num_inside == 1

    asyncio.run(run())


def test_a_timeout_of_the_call_itself_stays_what_it_is() -> None:
    def late() -> None:
        raise TimeoutError("of the socket")

    with pytest.raises(TimeoutError, match="of the socket"):
        asyncio.run(group().run(late))


def test_each_event_loop_has_seats_of_its_own(gate: Gate) -> None:
    tested = group(num_threads=1, num_abandoned=2)

    async def hang() -> None:
        with pytest.raises(Missed):
            await tested.run_within(0.02, gate.call)

    asyncio.run(hang())
    asyncio.run(hang())


def test_a_copy_is_the_group_of_the_process_it_arrives_in() -> None:
    """Ray copies classes by value, with the globals that their methods use."""
    for each in (STORE, LEASES, NAMES, FILES, CHECKS):
        assert pickle.loads(pickle.dumps(each)) is each
    with pytest.raises(KeyError):
        pickle.loads(pickle.dumps(group()))


@pytest.mark.parametrize("other", [STORE, NAMES, FILES, CHECKS])
def test_renewals_go_on_while_all_other_threads_hang(gate: Gate, other: ThreadGroup) -> None:
    """`_keep_lease` renews in LEASES: no store call, name server, disk or check may stop it."""

    async def run() -> float:
        hanging = [asyncio.create_task(other.run_within(LONG_S, gate.call)) for _ in range(40)]
        await until_inside(gate, 3)
        started = time.monotonic()
        await LEASES.run(lambda: None)
        took_s = time.monotonic() - started
        gate.open.set()
        await asyncio.gather(*hanging)
        return took_s

    assert asyncio.run(run()) < 5.0


def test_what_a_silent_store_is_called() -> None:
    for each in (STORE, LEASES, FILES, CHECKS):
        assert isinstance(each._missed(5.0), StorageUnavailable)
    assert isinstance(NAMES._missed(5.0), TimeoutError)
    assert LEASES._deadline_s <= 5.0, "a renewal must be given up well within a lease of 15 s"
    assert threads._group("leases") is LEASES
