"""`LeastRate`: ends a download whose server sends too little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serve_app.errors import DownloadError, DownloadInterrupted
from serve_app.sentences import Sentence


class LeastRate:
    """The time for which one download may still wait for its server, over all its tries.

    It begins with `window_s`, and never exceeds it. Waiting uses it up, and each byte earns `1 / bytes_per_s`. So a
    server that sends nothing is given up after `window_s`, whatever it sent before, and over any stretch of `t` seconds
    of waiting it must send `(t - window_s) * bytes_per_s`. Disk writes and pauses between tries do not count.
    """

    def __init__(self, bytes_per_s: float, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._window_s = window_s
        self._clock = clock
        self._left_s = window_s
        self._num_bytes = 0

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Count the time of the body, which waits for the server; it is cancelled when no time is left.

        Raises:
            DownloadError: the server sends too little.
            DownloadInterrupted: it has sent no byte of the file.
        """
        self._require_time()
        begun = self._clock()
        try:
            async with asyncio.timeout(self._left_s) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            self._left_s = 0.0
            self._require_time()
        finally:
            self._left_s -= self._clock() - begun

    def add(self, num_bytes: int) -> None:
        """Note that bytes came; raise as `waiting` does."""
        self._num_bytes += num_bytes
        self._left_s = min(self._window_s, self._left_s + num_bytes / self._bytes_per_s)
        self._require_time()

    def _require_time(self) -> None:
        if self._left_s > 0.0:
            return
        if not self._num_bytes:
            what = Sentence("waiting for data")
            raise DownloadInterrupted(Sentence("The server did not answer in time ({what})", what=what))
        raise DownloadError(Sentence("The server sends less than {rate:g} kB/s", rate=self._bytes_per_s / 1000))
