"""`WorkerThreads`: blocking model calls beside a replica's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

ShouldStop = Callable[[], bool]


class WorkerThreads:
    """Runs blocking calls, at most `num_threads` at once.

    A cancelled caller stops its call: `should_stop` becomes true, and the thread is free once the call has returned.
    Until then the next call waits, so that a model never runs in more threads than it allows.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=name)

    async def run(self, work: Callable[[ShouldStop], T]) -> T:
        """Return `work(should_stop)`, run in a worker thread."""
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, stop.is_set)
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        """End the threads after their calls; no call may follow."""
        self._executor.shutdown(wait=False)
