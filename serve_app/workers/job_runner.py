"""`JobRunner`: deployment that consumes the durable job queue and sends its callbacks."""

from __future__ import annotations

import os
import socket
import uuid

from ray import serve
from ray.util import metrics

from serve_app.deployments.replica.process import prepare_process
from serve_app.flows.deployments import Deployments
from serve_app.flows.health import GraphHealth
from serve_app.flows.media_source import MediaSource
from serve_app.flows.music import MusicPipeline
from serve_app.flows.video import VideoPipeline
from serve_app.jobs.delivery import Courier
from serve_app.jobs.outbox import ResultLinks
from serve_app.jobs.store import JobStore, QueueDepth
from serve_app.messages import JobKind
from serve_app.settings import Settings
from serve_app.threads import STORE
from serve_app.workers.options import RunnerOptions
from serve_app.workers.runner import Runner

_PATIENCE_S = 600.0  # no caller repeats a job's calls


@serve.deployment(name="JobRunner")
class JobRunner:
    """Runs a `Runner`: jobs from the job table, which all replicas share.

    It takes no requests, so that Serve sees none when it stops a replica; jobs in work are then handed back, without
    counting an attempt.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it: the loops start in the replica's own event loop
        self, settings: Settings, options: RunnerOptions, deployments: Deployments
    ) -> None:
        prepare_process()
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._store = JobStore(
            settings.database_url.get_secret_value(),
            lease_s=options.lease_s,
            max_attempts=options.max_attempts,
            locale=settings.locale,
            result_links=ResultLinks(settings.max_callback_result_bytes, settings.public_url or ""),
        )
        await STORE.run(self._store.create_schema)
        media = MediaSource(settings)
        health = GraphHealth(serve.get_replica_context().app_name, deployments.names())
        self._client = media.callback_client()
        self._runner = Runner(
            self._store,
            {
                JobKind.VIDEO: VideoPipeline(deployments.video, media, _PATIENCE_S, health.deployments).run_job,
                JobKind.MUSIC: MusicPipeline(deployments.music, media, _PATIENCE_S).make,
            },
            Courier(self._store, self._client, secrets=" ".join(settings.webhook_secret_values()), owner=owner),
            media,
            options,
            _RayMetrics(),
            owner=owner,
            locale=settings.locale,
            retention_s=settings.retention_s,
        )
        self._runner.start()

    def check_health(self) -> None:
        """Raise if a loop of the runner has ended: Serve then replaces the replica."""
        self._runner.check_health()

    async def __del__(self) -> None:
        """Hand all jobs back to other runners."""
        if not hasattr(self, "_runner"):
            return
        await self._runner.stop()
        await self._client.aclose()
        await STORE.run(self._store.close)


class _RayMetrics:
    """`RunnerMetrics` that Ray exports."""

    def __init__(self) -> None:
        self._jobs_ended = metrics.Counter(
            "serve_app_jobs_ended", "Jobs that this runner brought to an end", tag_keys=("status",)
        )
        self._stage_seconds = metrics.Histogram(
            "serve_app_stage_seconds",
            "Seconds of each finished stage",
            boundaries=[0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800],
            tag_keys=("stage",),
        )
        self._queue = metrics.Gauge("serve_app_jobs", "Jobs in the table", tag_keys=("status",))
        self._paused = metrics.Gauge(
            "serve_app_storage_paused", "1 while this runner claims nothing because its storage fails"
        )
        self._paused.set(0)

    def job_ended(self, status: str) -> None:
        self._jobs_ended.inc(tags={"status": status})

    def step_finished(self, step: str, seconds: float) -> None:
        self._stage_seconds.observe(seconds, tags={"stage": step})

    def storage_paused(self, is_paused: bool) -> None:
        self._paused.set(int(is_paused))

    def queue_depth(self, depth: QueueDepth) -> None:
        self._queue.set(depth.queued, tags={"status": "queued"})
        self._queue.set(depth.running, tags={"status": "processing"})
