"""Names whose server does not answer hold few threads, and nothing but names waits for them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from serve_app.errors import DownloadInterrupted
from serve_app.media import host_names
from serve_app.media.address_guard import check_callback_base
from serve_app.media.address_policy import AddressPolicy
from serve_app.media.fetch import FetchSources, fetch
from serve_app.media.part_file import FetchLimits
from tests.unit.media.silent_names import (
    NameServers,
    have_five_default_threads,
    require_free_default_threads,
    silent_name_servers,
)

T = TypeVar("T")


@pytest.fixture
def name_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    with silent_name_servers(monkeypatch, deadline_s=0.2) as servers:
        yield servers


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in a loop whose default executor has five threads, as that of a Serve replica."""

    async def inside() -> T:
        have_five_default_threads()
        return await work()

    return asyncio.run(inside())


async def outcome(host: str) -> object:
    try:
        return await host_names.resolve(host, 443)
    except TimeoutError as error:
        return str(error)


def test_silent_names_leave_the_default_threads_free(name_servers: NameServers) -> None:
    async def work() -> list[object]:
        asking = [asyncio.create_task(outcome(f"name.evil{n}.silent")) for n in range(15)]
        await name_servers.require_waiting(15)
        await require_free_default_threads()
        return await asyncio.gather(*asking)

    assert set(run(work)) == {"the name server did not answer"}


def test_many_askers_share_one_lookup_until_its_thread_is_back(name_servers: NameServers) -> None:
    async def work() -> None:
        first = await asyncio.gather(*(outcome("a.evil.silent") for _ in range(50)))
        later = [await outcome("A.evil.silent") for _ in range(50)]
        assert set(first + later) == {"the name server did not answer"}
        assert name_servers.asked == ["a.evil.silent"]
        name_servers.release.set()
        while name_servers.waiting["a.evil.silent"]:  # at most until its thread has run on
            await asyncio.sleep(0.01)
        with pytest.raises(socket.gaierror):
            await host_names.resolve("a.evil.silent", 443)
        assert len(name_servers.asked) == 2

    run(work)


def test_names_of_one_domain_hold_few_threads_and_others_are_resolved(name_servers: NameServers) -> None:
    async def work() -> None:
        for n in range(6):
            asking = [asyncio.create_task(outcome(f"n{n}-{i}.evil.silent")) for i in range(20)]
            assert await outcome(f"good{n}.example") == ["8.8.8.8"]
            await asyncio.gather(*asking)
        assert sum(name_servers.waiting.values()) <= 8 + 4

    run(work)


def test_asker_who_leaves_does_not_end_the_lookup_for_the_others(name_servers: NameServers) -> None:
    async def work() -> None:
        leaver = asyncio.create_task(host_names.resolve("a.b.silent", 443))
        stayer = asyncio.create_task(outcome("a.b.silent"))
        await asyncio.sleep(0.01)
        leaver.cancel()
        assert await stayer == "the name server did not answer"
        assert len(name_servers.asked) == 1

    run(work)


def test_an_address_is_not_looked_up(name_servers: NameServers) -> None:
    async def work() -> list[object]:
        return [await host_names.resolve(text, 80) for text in ("127.0.0.1", "::1", "fe80::1%eth0")]

    assert run(work) == [["127.0.0.1"], ["::1"], ["fe80::1%eth0"]]
    assert name_servers.asked == []


def test_callback_base_with_a_silent_name_is_accepted_for_now(name_servers: NameServers) -> None:
    async def work() -> None:
        await check_callback_base("https://a.evil.silent", AddressPolicy())
        await check_callback_base("https://a.evil.silent:8443/x", AddressPolicy())

    run(work)
    assert name_servers.asked == ["a.evil.silent"]


@pytest.mark.parametrize("url", ["https://a.evil.silent/x.mp4", "s3://bucket/x.mp4"])
def test_fetching_asks_in_the_threads_of_names(
    name_servers: NameServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://store.evil.silent",
        "AWS_ACCESS_KEY_ID": "key-id",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)

    async def work() -> None:
        with pytest.raises(DownloadInterrupted, match="can't be reached"):
            await fetch(url, tmp_path / "file", sources=FetchSources(), limits=FetchLimits(num_tries=1))

    run(work)
    assert name_servers.asked
    assert name_servers.threads == {"serve_app-names"}
