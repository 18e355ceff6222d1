"""`resolve`: the addresses of host names that callers chose, looked up in the threads of `serve_app.threads.NAMES`.

A name server that does not answer holds a thread for 10 to 20 s (glibc: 5 s for each server and try). So that a caller
with such a name takes few threads, a name is looked up once for all who ask at the same time, and the names of one
domain get few threads.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

from serve_app.registered_names import registered_name
from serve_app.threads import NAMES

_DEADLINE_S = 5.0  # with the wait for a place
_PER_DOMAIN = 4  # lookups at once
_SILENT_PER_DOMAIN = 8  # lookups beyond their deadline that still hold a thread; then no more are begun


class _Lookup:
    """One lookup, run in a thread."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.holds_thread = False

    def __call__(self) -> list[str]:
        self.holds_thread = True
        try:
            answers = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        finally:
            self.holds_thread = False
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class _Resolver:
    """Lookups of one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[list[str]]] = {}
        self._silent: list[_Lookup] = []
        self._places: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    async def resolve(self, host: str) -> list[str]:
        task = self._under_way.get(host)
        if task is None:
            task = self._under_way[host] = asyncio.create_task(self._look_up(host))
            task.add_done_callback(lambda done: self._end(host, done))
        return list(await asyncio.shield(task))  # who leaves does not end it for the others

    def _end(self, host: str, done: asyncio.Task[list[str]]) -> None:
        del self._under_way[host]
        if not done.cancelled():
            done.exception()  # all who asked may have left

    async def _look_up(self, host: str) -> list[str]:
        domain = registered_name(host)
        places = self._places.get(domain)
        if places is None:
            places = self._places[domain] = asyncio.Semaphore(_PER_DOMAIN)
        async with asyncio.timeout(_DEADLINE_S), places:
            self._refuse_silent(host, domain)
            lookup = _Lookup(host)
            try:
                return await NAMES.run(lookup)
            finally:
                if lookup.holds_thread:
                    self._silent.append(lookup)

    def _refuse_silent(self, host: str, domain: str) -> None:
        self._silent = [lookup for lookup in self._silent if lookup.holds_thread]
        silent = Counter(registered_name(lookup.host) for lookup in self._silent)
        if silent[domain] >= _SILENT_PER_DOMAIN or any(lookup.host == host for lookup in self._silent):
            raise TimeoutError("the name server did not answer")


_resolvers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Resolver] = weakref.WeakKeyDictionary()


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, in the resolver's order of preference; an address stands for itself.

    Raises:
        TimeoutError: the name server did not answer within 5 s, or owes the answers to earlier lookups.
        socket.gaierror: the name has no address.
    """
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    resolver = _resolvers.get(loop)
    if resolver is None:
        resolver = _resolvers[loop] = _Resolver()
    return await resolver.resolve(host.lower())
