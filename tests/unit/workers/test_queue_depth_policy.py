from __future__ import annotations

import asyncio
import types
from pathlib import Path

import pytest

from serve_app.jobs.record import VideoRequest
from serve_app.jobs.store import JobStore
from serve_app.workers.queue_depth_policy import QueueDepthPolicy


async def settled(policy: QueueDepthPolicy, target: int) -> float:
    """Return what the policy wants once it has read the table."""
    context = types.SimpleNamespace(target_num_replicas=target)
    policy(context)
    assert policy._reading is not None
    await policy._reading
    wanted, _ = policy(context)
    return wanted


@pytest.mark.parametrize(("num_jobs", "jobs_per_replica", "wanted"), [(0, 1, 0), (1, 1, 1), (5, 2, 3), (6, 2, 3)])
def test_it_wants_a_replica_for_so_many_jobs(tmp_path: Path, num_jobs: int, jobs_per_replica: int, wanted: int) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    store = JobStore(url)
    store.create_schema()
    for number in range(num_jobs):
        store.submit(VideoRequest(job_id=f"job-{number}", video_url="https://example.com/a.mp4"), max_queued=None)
    if num_jobs:
        store.claim("runner")  # a job in work counts like one that waits
    policy = QueueDepthPolicy(url, jobs_per_replica)
    assert asyncio.run(settled(policy, target=1)) == wanted


def test_without_an_answer_the_replicas_stay(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder, so no database can be made in it")
    policy = QueueDepthPolicy(f"sqlite:///{tmp_path}/file/jobs.sqlite3", 1)
    assert asyncio.run(settled(policy, target=2)) == 2


def test_a_table_that_can_not_be_read_is_logged_once_and_read_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    folder.write_text("no folder, so no database can be made in it")
    policy = QueueDepthPolicy(f"sqlite:///{folder}/jobs.sqlite3", 1, poll_interval_s=0.0)

    async def scenario() -> list[float]:
        wanted = [await settled(policy, target=2) for _ in range(2)]
        folder.unlink()
        return [*wanted, await settled(policy, target=2)]

    assert asyncio.run(scenario()) == [2, 2, 0]
    assert caplog.text.count("the job table can't be read, JobRunner is not scaled: FileExistsError") == 1


def test_without_a_url_the_environment_says_which_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    monkeypatch.setenv("SERVE_APP_DATABASE_URL", url)
    store = JobStore(url)
    store.create_schema()
    store.submit(VideoRequest(job_id="a", video_url="https://example.com/a.mp4"), max_queued=None)
    assert asyncio.run(settled(QueueDepthPolicy(None), target=0)) == 1


def test_it_reads_at_most_once_an_interval(tmp_path: Path) -> None:
    async def scenario() -> bool:
        policy = QueueDepthPolicy(f"sqlite:///{tmp_path / 'jobs.sqlite3'}", 1, poll_interval_s=3600.0)
        await settled(policy, target=1)
        first = policy._reading
        policy(types.SimpleNamespace(target_num_replicas=1))
        return policy._reading is first

    assert asyncio.run(scenario())
