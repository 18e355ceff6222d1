"""Work that ends with its client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from serve_app.api.http.disconnect import while_connected


class Client:
    """A client that may leave; `request` is its request, whose body was read."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.request = Request({"type": "http"}, self.messages.get)

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


def test_returns_what_the_work_returns_and_leaves_nothing_behind() -> None:
    async def run() -> None:
        async def work() -> int:
            await asyncio.sleep(0)
            return 42

        assert await while_connected(Client().request, work()) == 42
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_raises_what_the_work_raises() -> None:
    async def run() -> None:
        async def work() -> None:
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            await while_connected(Client().request, work())

    asyncio.run(run())


def test_leaving_ends_the_work_and_waits_for_its_end() -> None:
    async def run() -> list[str]:
        client, told, before = Client(), [], asyncio.all_tasks()

        async def work() -> None:
            try:
                client.leave()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                told.append("work ended")

        with pytest.raises(ClientDisconnect):
            await while_connected(client.request, work())
        told.append("caller goes on")
        assert asyncio.all_tasks() == before
        return told

    assert asyncio.run(asyncio.wait_for(run(), 10)) == ["work ended", "caller goes on"]


def test_late_body_messages_are_not_leaving() -> None:
    async def run() -> int:
        client = Client()
        client.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

        async def work() -> int:
            for _ in range(10):
                await asyncio.sleep(0)
            return 1

        return await while_connected(client.request, work())

    assert asyncio.run(run()) == 1


def test_cancelled_caller_ends_the_work() -> None:
    async def run() -> bool:
        started, ended = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                started.set()
                await asyncio.Event().wait()
            finally:
                ended.set()

        caller = asyncio.create_task(while_connected(Client().request, work()))
        await started.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        return ended.is_set()

    assert asyncio.run(run())
