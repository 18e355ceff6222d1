"""Name servers that do not answer: `socket.getaddrinfo` blocks on an event, as glibc's blocks on a silent server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from serve_app import threads
from serve_app.media import host_names
from serve_app.threads import ThreadGroup


class NameServers:
    """Replaces `socket.getaddrinfo`: names below `.silent` get no answer before `release`, all others 8.8.8.8."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: set[str] = set()  # names of the threads that asked, without their numbers
        self.waiting: Counter[str] = Counter()
        self.release = threading.Event()
        self._lock = threading.Lock()

    def getaddrinfo(self, host: str, *args: object, **kwargs: object) -> list[object]:
        with self._lock:
            self.asked.append(host)
            self.threads.add(threading.current_thread().name.rpartition("_")[0])
        if host.endswith(".silent"):
            self.waiting[host] += 1
            self.release.wait(20)
            self.waiting[host] -= 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))]

    async def require_waiting(self, num_names: int) -> None:
        """Wait until so many names wait for their servers at once; TimeoutError: they never do."""
        try:
            async with asyncio.timeout(10):
                while sum(self.waiting.values()) < num_names:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self.release.set()  # or the test would end only after all lookups
            raise


@contextmanager
def silent_name_servers(monkeypatch: pytest.MonkeyPatch, deadline_s: float) -> Iterator[NameServers]:
    """Replace the machine's name servers, and NAMES by a group of its size with another deadline."""
    servers = NameServers()
    names = ThreadGroup("names", 16, num_abandoned=48, deadline_s=deadline_s, missed=threads.NAMES._missed)
    monkeypatch.setattr(host_names, "NAMES", names)
    monkeypatch.setattr(socket, "getaddrinfo", servers.getaddrinfo)
    yield servers
    servers.release.set()
    names._executor.shutdown()


async def require_free_default_threads() -> None:
    """Run five calls that wait for each other in the loop's default executor, which has five threads as in a replica.

    BrokenBarrierError: one of the threads was taken.
    """
    meeting = threading.Barrier(5)
    await asyncio.gather(*(asyncio.to_thread(meeting.wait, 5) for _ in range(5)))


def have_five_default_threads() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(5))
