"""An asynchronous source read ahead by one task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import anyio

T_co = TypeVar("T_co", covariant=True)


class _End:
    """Stands after the last item."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


class Pump(Generic[T_co]):
    """Reads a source ahead by one item, so that waiting for the next one can be given up without losing it.

    The source runs, and is closed, in a single task: it may use task groups and time-outs across its items, which a
    source that is asked by one task after another can't.

    Args:
        source: closed at its end, at its failure, and by `close`.
    """

    def __init__(self, source: AsyncIterator[T_co]) -> None:
        self._source = source
        self._ready: asyncio.Queue[T_co | _End] = asyncio.Queue(maxsize=1)
        self._started = False
        self._task = asyncio.create_task(self._run())

    async def next(self) -> T_co:
        """Return the next item; may be cancelled and called again.

        Raises:
            StopAsyncIteration: the source has ended.
            Exception: whatever the source raised.
        """
        item = await self._ready.get()
        if not isinstance(item, _End):
            return item
        self._ready.put_nowait(item)  # it stays the end, however often one asks
        raise item.error or StopAsyncIteration

    async def close(self) -> None:
        """Stop the source and wait for its end; not needed after the last item, and does no harm."""
        self._task.cancel()
        # the server's cancellation must not cut off the source's own cleaning up
        with anyio.CancelScope(shield=True):
            await asyncio.gather(self._task, return_exceptions=True)
            if not self._started:  # a task that is cancelled before its first step never runs
                await self._close_source()

    async def _run(self) -> None:
        self._started = True
        end = _End(None)
        try:
            try:
                async for item in self._source:
                    await self._ready.put(item)
            finally:
                await self._close_source()
        except Exception as error:
            end = _End(error)
        await self._ready.put(end)

    async def _close_source(self) -> None:
        if hasattr(self._source, "aclose"):
            await self._source.aclose()
