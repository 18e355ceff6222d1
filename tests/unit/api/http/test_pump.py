"""A pump reads ahead, loses nothing when a wait is given up, and closes its source in the task that ran it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serve_app.api.http.event_stream import Pump


class Source:
    """Numbers, and the tasks in which they were asked for and closed."""

    def __init__(self, num: int, error: Exception | None = None, close_error: Exception | None = None) -> None:
        self.num, self.error, self.close_error = num, error, close_error
        self.tasks: list[asyncio.Task[None] | None] = []
        self.yielded = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(self.num):
                self.tasks.append(asyncio.current_task())
                self.yielded += 1
                yield number
            if self.error:
                raise self.error
        finally:
            self.tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            self.closed = True
            if self.close_error:
                raise self.close_error


async def read_all(pump: Pump[int]) -> list[int]:
    items = []
    try:
        while True:
            items.append(await pump.next())
    except StopAsyncIteration:
        return items


def test_hands_on_everything_and_stays_at_the_end() -> None:
    async def run() -> None:
        source = Source(5)
        pump = Pump(aiter(source))
        assert await read_all(pump) == [0, 1, 2, 3, 4]
        assert source.closed
        with pytest.raises(StopAsyncIteration):
            await pump.next()
        await pump.close()

    asyncio.run(run())


def test_source_runs_in_one_task_though_asked_from_many() -> None:
    async def run() -> None:
        source = Source(3)
        pump = Pump(aiter(source))
        assert [await asyncio.create_task(pump.next()) for _ in range(3)] == [0, 1, 2]
        await pump.close()
        assert len(source.tasks) == 4
        assert len(set(source.tasks)) == 1

    asyncio.run(run())


def test_wait_that_was_given_up_loses_nothing() -> None:
    async def run() -> None:
        released = asyncio.Event()

        async def late() -> AsyncIterator[int]:
            await released.wait()
            yield 1

        pump = Pump(late())
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await pump.next()
        released.set()
        assert await pump.next() == 1
        await pump.close()

    asyncio.run(run())


def test_reads_no_further_ahead_than_one_item_in_hand() -> None:
    async def run() -> None:
        source = Source(100)
        pump = Pump(aiter(source))
        assert await pump.next() == 0
        for _ in range(50):
            await asyncio.sleep(0)
        assert source.yielded <= 3  # taken, ready, and the one that waits to become ready
        await pump.close()
        assert source.closed

    asyncio.run(run())


@pytest.mark.parametrize("where", ["error", "close_error"])
def test_failure_comes_after_what_came_before_it(where: str) -> None:
    async def run() -> None:
        pump = Pump(aiter(Source(2, **{where: ValueError("lost")})))
        assert [await pump.next(), await pump.next()] == [0, 1]
        with pytest.raises(ValueError, match="lost"):
            async with asyncio.timeout(10):
                await pump.next()
        await pump.close()

    asyncio.run(run())


def test_closing_before_the_first_step_closes_a_source_that_was_begun() -> None:
    async def run() -> None:
        source = Source(3)
        begun = aiter(source)
        assert await anext(begun) == 0
        await Pump(begun).close()
        assert source.closed

    asyncio.run(run())


def test_closing_ends_a_source_that_waits() -> None:
    async def run() -> None:
        ended = asyncio.Event()
        waiting = asyncio.Event()

        async def endless() -> AsyncIterator[int]:
            try:
                waiting.set()
                await asyncio.Event().wait()
                yield 1
            finally:
                ended.set()

        pump = Pump(endless())
        await waiting.wait()
        await pump.close()
        assert ended.is_set()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
