"""What JobRunner builds from the settings when its replica starts, without Ray."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.errors import AudioExtractionError
from serve_app.flows.music import MusicModels
from serve_app.jobs.record import Job, VideoRequest
from serve_app.jobs.store import JobStore
from serve_app.messages import Stage
from serve_app.settings import Settings
from serve_app.workers import job_runner as module
from serve_app.workers.options import RunnerOptions

JobRunner: Any = module.JobRunner.func_or_class  # type: ignore[attr-defined]
end = JobRunner.__del__  # Serve awaits it


class Pipeline:
    """Takes the place of the video pipeline: fails on one file, and keeps each job's file otherwise."""

    def __init__(self, *given: Any) -> None:
        pass

    async def run_job(self, request: VideoRequest, steps: Any) -> dict[str, Any]:
        async def fetch() -> str:
            return request.video_url

        if request.video_url == "silent":
            raise AudioExtractionError("no audio track")
        return {"text": await steps.run("fetch", str, fetch, [Stage.DOWNLOADED])}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"SERVE_APP_STATE_DIR": str(tmp_path), "SERVE_APP_LOCALE": "en"})


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(JobRunner, "__del__")  # which Python would call too, and not await
    monkeypatch.setattr(module, "VideoPipeline", Pipeline)
    monkeypatch.setattr(module, "prepare_process", lambda: None)
    monkeypatch.setattr(module.serve, "get_replica_context", lambda: SimpleNamespace(app_name="serve_app"))


def run_jobs(settings: Settings, options: RunnerOptions, *requests: VideoRequest) -> list[Job]:
    """Return the jobs once a JobRunner has brought them to their ends."""

    async def scenario() -> list[Job]:
        runner = object.__new__(JobRunner)
        music = MusicModels((), None)  # type: ignore[arg-type]
        await runner.__init__(settings, options, SimpleNamespace(names=tuple, video=None, music=music))
        store = JobStore(settings.database_url.get_secret_value())
        try:
            for request in requests:
                store.submit(request, max_queued=None)
            while not all(store.get(request.job_id).status.is_final for request in requests):
                await asyncio.sleep(0.002)
            runner.check_health()
            return [store.get(request.job_id) for request in requests]
        finally:
            store.close()
            await end(runner)

    return asyncio.run(asyncio.wait_for(scenario(), 30))


def test_jobs_of_the_settings_table_are_done_in_the_settings_language(settings: Settings) -> None:
    options = RunnerOptions(jobs_per_replica=2, poll_interval_s=0.002)
    good, bad = run_jobs(
        settings, options, VideoRequest(job_id="good", video_url="file"), VideoRequest(job_id="bad", video_url="silent")
    )
    assert (good.status, good.result, good.message) == ("completed", {"text": "file"}, "Analysis completed")
    assert (bad.status, bad.error_message) == ("failed", "Audio extraction failed: no audio track")


def test_a_replica_whose_constructor_failed_ends_quietly() -> None:
    asyncio.run(end(object.__new__(JobRunner)))
