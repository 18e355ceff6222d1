from __future__ import annotations

import asyncio
import threading

import pytest

from serve_app.deployments.replica.worker_threads import ShouldStop, WorkerThreads


def test_the_loop_goes_on_while_a_thread_works() -> None:
    async def scenario() -> str:
        threads = WorkerThreads(1, "test")
        release = threading.Event()
        task = asyncio.create_task(threads.run(lambda should_stop: release.wait(10) and "done"))
        await asyncio.sleep(0)
        release.set()  # only a free loop comes here
        return await task

    assert asyncio.run(scenario()) == "done"


def test_a_cancelled_caller_stops_its_call_and_the_next_one_waits_for_it() -> None:
    order: list[str] = []
    started = threading.Event()

    def until_stopped(should_stop: ShouldStop) -> None:
        started.set()
        while not should_stop():
            threading.Event().wait(0.001)
        order.append("stopped")

    async def scenario() -> None:
        threads = WorkerThreads(1, "test")
        first = asyncio.create_task(threads.run(until_stopped))
        await asyncio.to_thread(started.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await threads.run(lambda should_stop: order.append("next"))

    asyncio.run(scenario())
    assert order == ["stopped", "next"]


def test_an_error_comes_through() -> None:
    def fail(should_stop: ShouldStop) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(WorkerThreads(1, "test").run(fail))


def test_closed_threads_end_once_their_calls_have() -> None:
    before = set(threading.enumerate())
    started, release = threading.Event(), threading.Event()

    async def scenario() -> bool:
        threads = WorkerThreads(1, "test")
        task = asyncio.create_task(threads.run(lambda should_stop: (started.set(), release.wait(10))[1]))
        await asyncio.to_thread(started.wait, 10)
        threads.close()
        with pytest.raises(RuntimeError, match="after shutdown"):
            await threads.run(lambda should_stop: None)
        release.set()
        return await task

    assert asyncio.run(scenario())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
