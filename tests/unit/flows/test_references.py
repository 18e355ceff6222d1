"""Waiting for references: one thread for all, nothing fetched, whoever leaves is forgotten."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from serve_app.flows import references
from serve_app.flows.references import until_made


class Ray:
    """`ray.wait` over names that a test makes ready."""

    def __init__(self) -> None:
        self.ready: set[str] = set()
        self.asked: list[list[str]] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None
        self.changed = threading.Event()

    def wait(self, asked: list[str], *, num_returns: int, timeout: float, fetch_local: bool) -> Any:
        assert not fetch_local, "a decoded file of 0.9 GB would move to the caller"
        assert timeout <= 0.02
        self.asked.append(list(asked))
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        if not self.ready & set(asked):
            self.changed.wait(timeout)
            self.changed.clear()
        made = [name for name in asked if name in self.ready][:num_returns]
        return made, [name for name in asked if name not in made]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    monkeypatch.setattr(references.ray, "wait", fake.wait)
    return fake


async def ended() -> None:
    async with asyncio.timeout(10):
        while references._WAITING._thread is not None:
            await asyncio.sleep(0.001)


def test_one_thread_waits_for_all(ray: Ray) -> None:
    async def run() -> None:
        before = threading.active_count()
        waiting = {f"r{n}": asyncio.create_task(until_made(f"r{n}")) for n in range(31)}  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not any(len(asked) == 31 for asked in ray.asked):
                await asyncio.sleep(0.001)
        assert threading.active_count() == before + 1
        for name in ("r7", "r30"):
            ray.ready.add(name)
            ray.changed.set()
            async with asyncio.timeout(10):
                await waiting[name]
        assert sum(task.done() for task in waiting.values()) == 2
        ray.ready |= set(waiting)
        async with asyncio.timeout(10):
            await asyncio.gather(*waiting.values())
        assert len(ray.threads) == 1
        await ended()

    asyncio.run(run())


def test_who_leaves_is_forgotten_and_others_stay(ray: Ray) -> None:
    async def run() -> None:
        leaving, staying = (asyncio.create_task(until_made("audio")) for _ in range(2))  # type: ignore[arg-type]
        alone = asyncio.create_task(until_made("other"))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        leaving.cancel()
        alone.cancel()
        await asyncio.gather(leaving, alone, return_exceptions=True)
        async with asyncio.timeout(10):
            while not ray.asked or ray.asked[-1] != ["audio"]:
                await asyncio.sleep(0.001)
        ray.ready.add("audio")
        async with asyncio.timeout(10):
            await staying
        await ended()

    asyncio.run(run())


def test_ray_that_is_gone_is_told_to_all(ray: Ray) -> None:
    async def run() -> None:
        ray.error = RuntimeError("Ray is shut down")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="shut down"):
                await until_made("audio")  # type: ignore[arg-type]
        await ended()

    asyncio.run(run())
