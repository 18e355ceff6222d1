"""`Batcher`: dynamic batching: the items that wait when the model is free share its next call.

A caller uses it, too: items that arrive while its calls are under way share the next call.

`serve.batch` closes a batch `batch_wait_timeout_s` after its first item even while the model is busy, so that under
load from many clients the batches behind a slow call hold one item each. Here a batch is closed when the model is free.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Gathers single items into calls of `work`, in the order in which they came.

    Args:
        work: returns one answer for each item of a batch, in order. An answer that is an exception is raised to the
            caller of its item alone; an exception that `work` raises is raised to all.
        max_items: of a call.
        wait_s: how long a free model waits until there are `max_items`.
        isolate: exceptions of `work` where one item is at fault, or the batch was too large: each item then gets a call
            of its own.
        max_calls: under way at once.
        weight: of an item.
        max_weight: of a call's items together; a heavier item has a call of its own.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        max_items: int,
        wait_s: float,
        isolate: tuple[type[Exception], ...] = (),
        max_calls: int = 1,
        weight: Callable[[Item], float] = lambda item: 0.0,
        max_weight: float = math.inf,
    ) -> None:
        if max_items < 1 or wait_s < 0 or max_calls < 1:
            raise ValueError("max_items and max_calls must be at least 1, and wait_s not negative")
        self._work = work
        self._max_items = max_items
        self._wait_s = wait_s
        self._isolate = isolate
        self._max_calls = max_calls
        self._weight = weight
        self._max_weight = max_weight
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()
        self._loops: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Answer:
        """Return the answer for one item; a caller that is cancelled before its batch starts takes its item out."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._arrived.set()
        if len(self._loops) < self._max_calls:
            loop = asyncio.create_task(self._run())
            self._loops.add(loop)
            loop.add_done_callback(self._loops.discard)
        return await future

    async def _run(self) -> None:
        """Work until nothing waits: an idle batcher holds no task."""
        while self._waiting:
            await self._gather()
            if batch := self._next_batch():
                await self._answer(batch)
        # not by the callback, which runs a turn later: an item that arrives until then would start no loop
        self._loops.discard(asyncio.current_task())

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        total = 0.0
        while self._waiting and len(batch) < self._max_items:
            item, future = self._waiting[0]
            if not future.done():  # its caller has not left
                total += self._weight(item)
                if batch and total > self._max_weight:
                    break
                batch.append((item, future))
            self._waiting.popleft()
        return batch

    async def _gather(self) -> None:
        if self._wait_s == 0:
            return
        try:
            async with asyncio.timeout(self._wait_s):
                while len(self._waiting) < self._max_items:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._work([item for item, _ in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(batch)} items were answered by {len(answers)} answers")
        except Exception as error:
            if len(batch) > 1 and isinstance(error, self._isolate):
                for each in batch:
                    if not each[1].done():
                        await self._answer([each])
                return
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
