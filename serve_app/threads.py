"""`STORE`, `LEASES`, `NAMES`, `FILES`, `CHECKS`: threads for blocking calls, apart by what they wait for.

A name server that does not answer, a disk that stalls and a database that vanished each stop only the calls of their
own group. Serve gives a replica one default executor of five threads; with it, five silent name servers would stop the
job table. The default executor is left to work of the processor (`asyncio.to_thread`).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from serve_app.errors import StorageUnavailable
from serve_app.sentences import Sentence

P = ParamSpec("P")
T = TypeVar("T")


class ThreadGroup:
    """Runs blocking calls of one kind in threads of their own, each with a deadline.

    A call that misses its deadline, or whose caller is cancelled, is abandoned: it gives its seat to the next call at
    once, and its thread is free when the call returns. While more than `num_abandoned` calls are stuck, new ones wait
    for a thread, until their own deadlines.

    Args:
        name: of the threads.
        num_threads: calls at once.
        num_abandoned: calls beyond their deadlines that may still hold a thread.
        deadline_s: of a call, with its wait for a seat.
        missed: returns the error of a call that missed its deadline, by that deadline in seconds.
    """

    def __init__(
        self,
        name: str,
        num_threads: int,
        *,
        num_abandoned: int,
        deadline_s: float,
        missed: Callable[[float], Exception],
    ) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(num_threads + num_abandoned, thread_name_prefix=f"serve_app-{name}")
        self._num_threads = num_threads
        self._deadline_s = deadline_s
        self._missed = missed
        self._seats: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )

    def __reduce__(self) -> tuple[Callable[[str], ThreadGroup], tuple[str]]:
        # Ray copies classes with the globals that they use: a copy stands for the group of the process it arrives in
        return _group, (self._name,)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `call(*args, **kwargs)`, run in a thread of this group."""
        return await self.run_within(self._deadline_s, call, *args, **kwargs)

    async def run_within(self, deadline_s: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `run` does, with a deadline of its own."""
        loop = asyncio.get_running_loop()
        seats = self._seats.get(loop)
        if seats is None:
            seats = self._seats[loop] = asyncio.Semaphore(self._num_threads)
        try:
            async with asyncio.timeout(deadline_s) as deadline, seats:
                return await loop.run_in_executor(self._executor, partial(call, *args, **kwargs))
        except TimeoutError:
            if not deadline.expired():
                raise
            raise self._missed(deadline_s) from None


def _group(name: str) -> ThreadGroup:
    return {group._name: group for group in (STORE, LEASES, NAMES, FILES, CHECKS)}[name]


def _silent(what: str) -> Callable[[float], Exception]:
    return lambda deadline_s: StorageUnavailable(
        Sentence("{what} did not answer within {deadline_s:g} s", what=what, deadline_s=deadline_s)
    )


STORE = ThreadGroup(
    "job-table", 8, num_abandoned=24, deadline_s=40.0, missed=_silent(Sentence("the job table"))
)  # longer than SQLite waits for its write lock
LEASES = ThreadGroup("leases", 4, num_abandoned=12, deadline_s=5.0, missed=_silent(Sentence("the job table")))
NAMES = ThreadGroup(
    "names", 16, num_abandoned=48, deadline_s=5.0, missed=lambda _: TimeoutError("the name server did not answer")
)
FILES = ThreadGroup(
    "files", 8, num_abandoned=24, deadline_s=600.0, missed=_silent(Sentence("the disk or the artefact store"))
)
# of the storage, for readiness: they must not wait for long uploads
CHECKS = ThreadGroup("checks", 3, num_abandoned=9, deadline_s=2.0, missed=_silent(Sentence("the storage")))
