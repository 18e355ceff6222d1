"""Deployment: the one HTTP ingress. Adapts the job store and deployment handles to `serve_app.services`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, ReplicaState

from serve_app.api.app import create_app
from serve_app.deployments.event_watcher import EventWatcher
from serve_app.deployments.logs import join_serve_log
from serve_app.deployments.media_source import MediaSource
from serve_app.deployments.steps import PlainSteps
from serve_app.deployments.video_pipeline import PlacedDeployment, VideoModels, VideoPipeline
from serve_app.errors import Unavailable
from serve_app.jobs.record import Delivery, Job, JobEvent, JobPage, JobRequest, JobStatus
from serve_app.jobs.store import JobStore
from serve_app.media.artifacts import job_key
from serve_app.services import AnalysisRequest, Services, SubmittedJob
from serve_app.settings import Settings

# A synchronous caller can try again itself; a replica that was lost under it is still worth one more try.
_PATIENCE_S = 2.0
_STATUS_KEPT_S = 1.0
_RETRY_AFTER_S = 10.0


class StoredJobs:
    """`services.JobService` over the job store."""

    def __init__(self, settings: Settings, store: JobStore, media: MediaSource) -> None:
        self._settings = settings
        self._store = store
        self._media = media
        self._watcher = EventWatcher(store)

    async def submit(self, request: JobRequest) -> SubmittedJob:
        """Store a job after its callback base was checked."""
        if request.callback_base is not None:
            await self._media.check_callback_base(request.callback_base)
        job, _ = await asyncio.to_thread(self._store.submit, request, max_queued=self._settings.max_queued_jobs)
        estimated_s = await asyncio.to_thread(self._store.estimate_s, job.job_id)
        return SubmittedJob(job, estimated_s)

    async def get(self, job_id: str) -> Job:
        """Return one job."""
        return await asyncio.to_thread(self._store.get, job_id)

    async def queue_position(self, job_id: str) -> int | None:
        """Return how many jobs are before this one."""
        return await asyncio.to_thread(self._store.queue_position, job_id)

    async def page(self, status: JobStatus | None, limit: int, cursor: str | None) -> JobPage:
        """Return jobs, newest first."""
        return await asyncio.to_thread(self._store.page, status, limit, cursor)

    async def cancel(self, job_id: str) -> Job:
        """Ask for a job's end."""
        return await asyncio.to_thread(self._store.cancel, job_id)

    async def delete(self, job_id: str) -> None:
        """Remove an ended job with its artefacts."""
        await asyncio.to_thread(self._store.delete, job_id)
        await asyncio.to_thread(self._media.discard, job_key(job_id))

    async def events(self, job_id: str, after_seq: int) -> AsyncIterator[JobEvent]:
        """Yield a job's events as they come."""
        async for event in self._watcher.events(job_id, after_seq):
            yield event

    async def deliveries(self, job_id: str) -> list[Delivery]:
        """Return the job's deliveries."""
        return await asyncio.to_thread(self._store.deliveries, job_id)

    async def replay(self, job_id: str) -> int:
        """Queue all deliveries again."""
        return await asyncio.to_thread(self._store.replay, job_id)


class DirectAnalysis:
    """`services.AnalysisService` over the deployments' handles."""

    def __init__(self, pipeline: VideoPipeline, media: MediaSource, max_at_once: int) -> None:
        self._pipeline = pipeline
        self._media = media
        self._free = asyncio.Semaphore(max_at_once)

    async def analyze(self, request: AnalysisRequest) -> Mapping[str, Any]:
        """Run the video pipeline while the caller waits."""
        if self._free.locked():
            raise Unavailable("all synchronous analyses are busy; submit a job instead", _RETRY_AFTER_S)
        async with self._free:
            folder = job_key(f"direct-{uuid.uuid4().hex}")
            try:
                return await self._pipeline.analyze(request, folder, PlainSteps())
            finally:
                await asyncio.shield(asyncio.to_thread(self._media.discard, folder))


class GraphHealth:
    """`services.HealthService` over Serve's controller."""

    def __init__(self, app_name: str, expected: Sequence[str]) -> None:
        self._app_name = app_name
        self._expected = expected
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._states: dict[str, str] = {}

    async def deployments(self) -> Mapping[str, str]:
        """Return every enabled deployment's state, at most a second old."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            if loop.time() - self._asked_at > _STATUS_KEPT_S:
                self._states = await asyncio.to_thread(self._ask)
                self._asked_at = loop.time()
        return self._states

    def _ask(self) -> dict[str, str]:
        application = serve.status().applications.get(self._app_name)
        found = application.deployments if application is not None else {}
        return {name: _state(found.get(name)) for name in self._expected}


def _state(deployment: DeploymentStatusOverview | None) -> str:
    """Return a deployment's state; one that scales or is updated counts as healthy while a replica of it runs."""
    if deployment is None:
        return "NOT_DEPLOYED"
    changing = (DeploymentStatus.UPDATING, DeploymentStatus.UPSCALING, DeploymentStatus.DOWNSCALING)
    if deployment.status in changing and deployment.replica_states.get(ReplicaState.RUNNING, 0):
        return DeploymentStatus.HEALTHY.value
    return deployment.status.value


@serve.deployment(name="Ingress")
@serve.ingress()
class Ingress:
    """Serves the HTTP contract: one FastAPI app, built when the replica starts.

    Args:
        settings: of the whole graph.
        deployments: names of all deployments of the graph, for `/health/ready`.
        max_direct_analyses: synchronous analyses at once in one replica; more are answered 503.
        analyzer, recognizer, diarizers: handles of the video DAG; each diarizer with whether it runs on a GPU.
        job_runner: bound here only so that Serve deploys it with the graph: its work comes from the job table.
    """

    def __init__(
        self,
        settings: Settings,
        deployments: Sequence[str],
        max_direct_analyses: int,
        analyzer: DeploymentHandle,
        recognizer: DeploymentHandle,
        diarizers: Sequence[tuple[DeploymentHandle, bool]],
        job_runner: DeploymentHandle,
    ) -> None:
        join_serve_log()
        store = JobStore(settings.database_url.get_secret_value(), locale=settings.locale)
        store.create_schema()
        media = MediaSource(settings)
        models = VideoModels(analyzer, recognizer, [PlacedDeployment(handle, on_gpu) for handle, on_gpu in diarizers])
        app_name = serve.get_replica_context().app_name
        self._api_settings = settings.api
        self._services = Services(
            jobs=StoredJobs(settings, store, media),
            analysis=DirectAnalysis(VideoPipeline(models, media, _PATIENCE_S), media, max_direct_analyses),
            health=GraphHealth(app_name, deployments),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the app; Serve calls this after the constructor."""
        return create_app(self._services, self._api_settings)
