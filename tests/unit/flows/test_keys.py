"""`StoredKeys` over a real job table, on a clock that stands still: freshness, revocation, a database that fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve_app.errors import StorageUnavailable
from serve_app.flows import keys as module
from serve_app.flows.keys import StoredKeys
from serve_app.jobs.record import ApiKey, Scope
from serve_app.jobs.store import JobStore
from tests.job_tables import make_job_table

USUAL = frozenset({Scope.SUBMIT, Scope.READ})


class CountingStore(JobStore):
    """A job table that counts the reads of its keys, and can be made to fail."""

    num_reads = 0
    fails = False

    def valid_keys(self) -> dict[str, ApiKey]:
        self.num_reads += 1
        if self.fails:
            raise OSError("the disk is gone")
        return super().valid_keys()


class Bench:
    """Keys over a table, and their clock."""

    def __init__(self) -> None:
        self.store, _url = make_job_table(CountingStore)
        self.now_s = 1000.0
        self.keys = StoredKeys(self.store, clock=lambda: self.now_s)

    async def find(self, secret: str) -> str | None:
        key = await self.keys.find(secret)
        for _ in range(200):  # what the request has begun beside itself
            if all(task is None or task.done() for task in (self.keys._reading, self.keys._noting)):
                break
            await asyncio.sleep(0.005)
        return key.name if key else None


@pytest.fixture
def bench() -> Any:
    bench = Bench()
    yield bench
    bench.store.close()


def test_a_key_is_read_once_in_five_seconds(bench: Bench) -> None:
    async def ask() -> None:
        for _ in range(50):
            assert await bench.find(secret) == "anna"
            bench.now_s += 0.1

    _key, secret = bench.store.create_key("anna", USUAL)
    asyncio.run(ask())
    assert bench.store.num_reads == 1


def test_a_new_key_works_at_once(bench: Bench) -> None:
    async def ask() -> list[str | None]:
        found = [await bench.find("sa_unknown")]
        _key, secret = bench.store.create_key("anna", USUAL)
        bench.now_s += module._MISS_S + 0.1
        return [*found, await bench.find(secret)]

    assert asyncio.run(ask()) == [None, "anna"]


def test_a_strangers_guesses_cost_one_read_a_second(bench: Bench) -> None:
    async def guess() -> None:
        for number in range(300):
            assert await bench.find(f"sa_{number}") is None
            bench.now_s += 0.01

    asyncio.run(guess())
    assert bench.store.num_reads <= 4


def test_a_revoked_key_is_refused_within_ten_seconds(bench: Bench) -> None:
    _key, secret = bench.store.create_key("anna", USUAL)

    async def ask() -> list[str | None]:
        found = [await bench.find(secret)]
        bench.store.revoke_key("anna")
        bench.now_s += module._STALE_S + 0.1
        return [*found, await bench.find(secret)]

    assert asyncio.run(ask()) == ["anna", None]
    assert module._STALE_S <= 10


def test_known_keys_outlive_the_database_for_five_minutes(bench: Bench) -> None:
    _key, secret = bench.store.create_key("anna", USUAL)

    async def ask() -> None:
        assert await bench.find(secret) == "anna"
        bench.store.fails = True
        for _ in range(29):
            bench.now_s += 10
            assert await bench.find(secret) == "anna"
            assert await bench.find("sa_unknown") is None
        bench.now_s += 11
        with pytest.raises(StorageUnavailable):
            await bench.find(secret)
        bench.store.fails = False
        bench.now_s += module._AGAIN_AFTER_S
        assert await bench.find(secret) == "anna"

    asyncio.run(ask())


def test_without_a_first_read_nobody_is_refused_for_a_wrong_key(bench: Bench) -> None:
    bench.store.fails = True
    with pytest.raises(StorageUnavailable):
        asyncio.run(bench.find("sa_unknown"))


def test_a_silent_database_is_waited_for_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READ_WITHIN_S", 0.0)  # every read misses its deadline
    _key, secret = bench.store.create_key("anna", USUAL)

    async def ask() -> None:
        for _ in range(20):
            with pytest.raises(StorageUnavailable):
                await bench.find(secret)

    asyncio.run(ask())
    assert bench.store.num_reads <= 1


def test_its_use_is_noted_once_a_minute(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _key, secret = bench.store.create_key("anna", USUAL)
    noted = []
    note = bench.store.note_key_use
    monkeypatch.setattr(bench.store, "note_key_use", lambda used: (noted.append(dict(used)), note(used)))

    async def ask() -> None:
        for _ in range(100):
            await bench.find(secret)
            bench.now_s += 1

    asyncio.run(ask())
    assert len(noted) == 2
    [key] = bench.store.all_keys()
    assert key.last_used_at == noted[-1][key.id]
