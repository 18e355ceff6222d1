"""Dynamic batching: what waits when the model is free goes into its next call.

`serve.batch` closes a batch `batch_wait_timeout_s` after its first item also while the model is still busy, so that
under load from many clients the batches that queue up behind a slow call hold one item each. Here nothing is closed
before the model can take it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Gathers single items into calls of `work`, one call at a time, in the order in which they came.

    Args:
        work: answers a batch; one answer for each item, in order. An answer that is an exception is raised to the
            caller of its item alone; an exception that `work` raises is raised to all.
        max_items: in one call.
        wait_s: for more items when the model is free and there are fewer; 0 takes what is there.
    """

    def __init__(
        self, work: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]], *, max_items: int, wait_s: float
    ) -> None:
        if max_items < 1 or wait_s < 0:
            raise ValueError("max_items must be at least 1, and wait_s not negative")
        self._work = work
        self._max_items = max_items
        self._wait_s = wait_s
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """Return the answer for one item; a caller that is cancelled before its batch starts takes its item out."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._arrived.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        """Work until nothing waits: an idle batcher holds no task."""
        while self._waiting:
            await self._gather()
            batch: list[tuple[Item, asyncio.Future[Answer]]] = []
            while self._waiting and len(batch) < self._max_items:
                item, future = self._waiting.popleft()
                if not future.done():  # its caller has gone
                    batch.append((item, future))
            if batch:
                await self._answer(batch)

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
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
