"""Callbacks whose name servers do not answer stop neither the job API nor a runner's leases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.flows.jobs import StoredJobs
from serve_app.flows.media_source import MediaSource
from serve_app.jobs.delivery import Courier
from serve_app.jobs.record import DeliveryStatus, VideoRequest
from serve_app.media.address_policy import AddressPolicy
from serve_app.media.fetch import FetchSources, fetch
from serve_app.settings import Settings
from serve_app.threads import LEASES
from tests.job_tables import make_job_table
from tests.unit.media.silent_names import (
    NameServers,
    have_five_default_threads,
    require_free_default_threads,
    silent_name_servers,
)

NUM_SILENT = 15


@pytest.fixture
def name_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    with silent_name_servers(monkeypatch, deadline_s=5.0) as servers:
        yield servers


def media_source(folder: Path) -> MediaSource:
    return MediaSource(Settings.from_environment({"SERVE_APP_STATE_DIR": str(folder), "HOME": str(folder)}))


def silent_job(number: int) -> VideoRequest:
    return VideoRequest(
        job_id=f"evil-{number}", video_url="https://a.example/x.mp4", callback_base=f"https://a.n{number}.silent"
    )


def test_ingress_answers_while_names_of_callbacks_are_not_resolved(name_servers: NameServers, tmp_path: Path) -> None:
    store, _ = make_job_table()
    jobs = StoredJobs(store, media_source(tmp_path), 1000)

    async def work() -> None:
        have_five_default_threads()
        await jobs.submit(VideoRequest(job_id="honest", video_url="https://a.example/x.mp4"))
        attack = [asyncio.create_task(jobs.submit(silent_job(number))) for number in range(NUM_SILENT)]
        await name_servers.require_waiting(NUM_SILENT)
        for _ in range(20):
            assert (await jobs.get("honest")).job_id == "honest"
        await jobs.submit(
            VideoRequest(job_id="other", video_url="https://a.example/x.mp4", callback_base="https://good.example")
        )
        await require_free_default_threads()
        assert sum(name_servers.waiting.values()) == NUM_SILENT  # all of it while no name server had answered
        assert not any(task.done() for task in attack)
        name_servers.release.set()
        assert [job.job.job_id for job in await asyncio.gather(*attack)] == [f"evil-{n}" for n in range(NUM_SILENT)]

    asyncio.run(work())


def test_runner_renews_fetches_and_delivers_while_names_are_not_resolved(
    name_servers: NameServers, tmp_path: Path
) -> None:
    store, _ = make_job_table()
    for number in range(NUM_SILENT):
        store.submit(silent_job(number), max_queued=None)
        store.cancel(f"evil-{number}")  # its event waits to be delivered
    store.submit(VideoRequest(job_id="honest", video_url="x"), max_queued=None)
    claim = store.claim("me")
    assert claim is not None
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.wav").write_bytes(b"RIFF")

    async def work() -> None:
        have_five_default_threads()
        stop = asyncio.Event()
        courier = Courier(store, media_source(tmp_path).callback_client(), secrets=None, owner="me")
        delivering = asyncio.create_task(courier.run(stop))
        await name_servers.require_waiting(NUM_SILENT)
        for _ in range(20):
            await LEASES.run(store.renew, claim)
        sources = FetchSources(AddressPolicy(), media_root=tmp_path / "root")
        assert (await fetch("a.wav", tmp_path / "copy", sources=sources)).num_bytes == 4
        await require_free_default_threads()
        assert sum(name_servers.waiting.values()) == NUM_SILENT
        name_servers.release.set()
        stop.set()
        await delivering

    asyncio.run(work())
    assert {each.status for n in range(NUM_SILENT) for each in store.deliveries(f"evil-{n}")} == {
        DeliveryStatus.PENDING
    }
