"""`shares_then_result`: a long piece of work that tells its caller how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

OnShare = Callable[[float], None]

_REPORT_S = 0.25


async def shares_then_result(work: Callable[[OnShare], Awaitable[T]]) -> AsyncGenerator[float | T, None]:
    """Yield the share that is done, rising, at most four times a second; at last the work's result.

    A caller who leaves ends the work.

    Args:
        work: calls its argument, from any thread, with the share that is done, in [0, 1].
    """
    loop = asyncio.get_running_loop()
    shares: asyncio.Queue[float | None] = asyncio.Queue()

    def on_progress(share: float) -> None:
        loop.call_soon_threadsafe(shares.put_nowait, share)

    task = asyncio.ensure_future(work(on_progress))
    task.add_done_callback(lambda _: shares.put_nowait(None))
    reported, next_report_s = 0.0, 0.0
    try:
        while (share := await shares.get()) is not None:
            if share > reported and (now_s := time.monotonic()) >= next_report_s:
                reported, next_report_s = min(share, 1.0), now_s + _REPORT_S
                yield reported
        yield await task
    finally:
        task.cancel()
