from __future__ import annotations

import asyncio

import pytest

from serve_app.deployments.replica.batching import Batcher
from serve_app.errors import ProcessingError


class Model:
    """Doubles numbers; holds each call until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = asyncio.Event()

    async def double(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        await self.free.wait()
        return [ProcessingError("odd") if item == 13 else item * 2 for item in items]


def test_what_waits_behind_a_busy_model_goes_into_one_call() -> None:
    async def run() -> None:
        model = Model()
        batcher = Batcher(model.double, max_items=4, wait_s=0)
        first = asyncio.create_task(batcher.submit(1))
        while not model.batches:
            await asyncio.sleep(0)
        others = [asyncio.create_task(batcher.submit(number)) for number in range(2, 8)]
        await asyncio.sleep(0)
        model.free.set()
        assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10, 12, 14]
        assert model.batches == [[1], [2, 3, 4, 5], [6, 7]]

    asyncio.run(run())


def test_a_free_model_waits_for_more_until_the_batch_is_full() -> None:
    async def run() -> None:
        model = Model()
        model.free.set()
        batcher = Batcher(model.double, max_items=3, wait_s=30)  # the test would time out if it waited for the clock
        answers = await asyncio.gather(*(batcher.submit(number) for number in (1, 2, 3)))
        assert answers == [2, 4, 6]
        assert model.batches == [[1, 2, 3]]

    asyncio.run(run())


def test_a_lone_item_is_taken_after_the_wait() -> None:
    async def run() -> None:
        model = Model()
        model.free.set()
        assert await Batcher(model.double, max_items=3, wait_s=0.01).submit(5) == 10

    asyncio.run(run())


def test_one_bad_item_fails_alone() -> None:
    async def run() -> None:
        model = Model()
        model.free.set()
        batcher = Batcher(model.double, max_items=3, wait_s=1)
        good, bad, other = await asyncio.gather(*(batcher.submit(n) for n in (1, 13, 2)), return_exceptions=True)
        assert (good, other) == (2, 4)
        assert isinstance(bad, ProcessingError)

    asyncio.run(run())


def test_a_failed_call_fails_its_items_and_the_next_call_works() -> None:
    async def run() -> None:
        calls = 0

        async def work(items: list[int]) -> list[int | Exception]:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ProcessingError("broken")
            return list(items) if calls == 2 else []

        batcher = Batcher(work, max_items=2, wait_s=0)
        with pytest.raises(ProcessingError):
            await batcher.submit(1)
        assert await batcher.submit(2) == 2
        with pytest.raises(RuntimeError, match="1 items were answered by 0"):
            await batcher.submit(3)

    asyncio.run(run())


def test_a_caller_who_left_is_not_worked_for() -> None:
    async def run() -> None:
        model = Model()
        batcher = Batcher(model.double, max_items=1, wait_s=0)
        first = asyncio.create_task(batcher.submit(1))
        while not model.batches:
            await asyncio.sleep(0)
        gone, kept = asyncio.create_task(batcher.submit(2)), asyncio.create_task(batcher.submit(3))
        await asyncio.sleep(0)
        gone.cancel()
        model.free.set()
        assert await first == 2
        assert await kept == 6
        assert model.batches == [[1], [3]]

    asyncio.run(run())


@pytest.mark.parametrize(("max_items", "wait_s"), [(0, 0.0), (1, -1.0)])
def test_bounds_are_checked(max_items: int, wait_s: float) -> None:
    async def work(items: list[int]) -> list[int | Exception]:
        return list(items)

    with pytest.raises(ValueError, match="max_items"):
        Batcher(work, max_items=max_items, wait_s=wait_s)


def test_several_calls_may_be_under_way() -> None:
    async def run() -> None:
        model = Model()
        batcher = Batcher(model.double, max_items=2, wait_s=0, max_calls=2)
        tasks = []
        for number in range(1, 7):
            tasks.append(asyncio.create_task(batcher.submit(number)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert model.batches == [[1], [2]]  # the others wait for one of these
        model.free.set()
        assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12]
        assert model.batches[2:] == [[3, 4], [5, 6]]

    asyncio.run(run())


def test_a_call_takes_so_much_and_a_heavier_item_goes_alone() -> None:
    async def run() -> None:
        model = Model()
        batcher = Batcher(model.double, max_items=8, wait_s=0, weight=float, max_weight=10)
        first = asyncio.create_task(batcher.submit(1))
        while not model.batches:
            await asyncio.sleep(0)
        others = [asyncio.create_task(batcher.submit(number)) for number in (4, 5, 2, 50, 3)]
        await asyncio.sleep(0)
        model.free.set()
        await asyncio.gather(first, *others)
        assert model.batches == [[1], [4, 5], [2], [50], [3]]

    asyncio.run(run())


def test_an_item_that_comes_as_the_last_call_ends_is_answered() -> None:
    async def run() -> None:
        model = Model()
        model.free.set()
        batcher = Batcher(model.double, max_items=1, wait_s=0)

        async def twice() -> list[int]:
            return [await batcher.submit(1), await batcher.submit(2)]

        assert await asyncio.wait_for(twice(), 5) == [2, 4]

    asyncio.run(run())


class Fragile:
    """Doubles numbers, alone or together; a batch with 13 in it fails as a whole."""

    def __init__(self, error: Exception) -> None:
        self.batches: list[list[int]] = []
        self._error = error

    async def double(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        if 13 in items:
            raise self._error
        return [item * 2 for item in items]


def test_one_bad_item_of_a_batch_fails_alone() -> None:
    async def run() -> None:
        model = Fragile(ProcessingError("odd"))
        batcher = Batcher(model.double, max_items=3, wait_s=30, isolate=(ProcessingError,))
        answers = await asyncio.gather(*map(batcher.submit, (1, 13, 3)), return_exceptions=True)
        assert [answers[0], str(answers[1]), answers[2]] == [2, "odd", 6]
        assert model.batches == [[1, 13, 3], [1], [13], [3]]

    asyncio.run(run())


def test_a_failure_of_another_kind_is_everybodys() -> None:
    async def run() -> None:
        model = Fragile(RuntimeError("broken"))
        batcher = Batcher(model.double, max_items=2, wait_s=30, isolate=(ProcessingError,))
        answers = await asyncio.gather(*map(batcher.submit, (1, 13)), return_exceptions=True)
        assert list(map(str, answers)) == ["broken", "broken"]
        assert model.batches == [[1, 13]]

    asyncio.run(run())


def test_an_item_whose_caller_has_gone_is_not_tried_alone() -> None:
    async def run() -> None:
        model = Fragile(ProcessingError("odd"))
        answering = asyncio.Event()

        async def double(items: list[int]) -> list[int]:
            if len(items) > 1:
                answering.set()
                await asyncio.sleep(0.01)
            return await model.double(items)

        batcher = Batcher(double, max_items=3, wait_s=30, isolate=(ProcessingError,))
        calls = [asyncio.create_task(batcher.submit(item)) for item in (1, 13, 3)]
        await answering.wait()
        calls[2].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[0] == 2
        assert model.batches == [[1, 13, 3], [1], [13]]

    asyncio.run(run())
