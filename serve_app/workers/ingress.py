"""`Ingress`: deployment of the HTTP API. It adapts the job store and deployment handles to `serve_app.services`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.deployments.image_classifier import ClassifierReplica
from serve_app.deployments.replica.process import prepare_process
from serve_app.flows.deployments import Deployments
from serve_app.flows.drums import DrumFlow
from serve_app.flows.health import GraphHealth, StorageHealth
from serve_app.flows.images import ImageFlow, LocalClassifier
from serve_app.flows.jobs import StoredJobs
from serve_app.flows.keys import StoredKeys
from serve_app.flows.media_source import MediaSource
from serve_app.flows.music_jobs import MusicFlow
from serve_app.flows.speech import SpeechFlow
from serve_app.flows.video import AnalysisFlow, VideoPipeline
from serve_app.flows.weights import DeployedModels
from serve_app.jobs.store import JobStore, Quota
from serve_app.models.images.options import ClassifierArgs
from serve_app.models.images.tasks import TASKS
from serve_app.models.options import ModelEnvironment
from serve_app.services import ReplicaModel, Services
from serve_app.settings import Settings
from serve_app.workers.listening import listening_host
from serve_app.workers.options import IngressOptions

logger = logging.getLogger("ray.serve")

_PATIENCE_S = 2.0  # enough for one more try after a lost replica; a synchronous caller can repeat the request


@serve.deployment(name="Ingress")
@serve.ingress()
class Ingress:
    """Serves one FastAPI app, built when the replica starts.

    Args:
        settings: of the whole graph.
        options: limits of work at once.
        environment: for the classifiers of this process.
        deployments: of the graph.
        local_classifiers: by task, the options of the classifiers of this process, which answer instead.
        job_runner: not called; bound here so that Serve deploys it with the graph.
    """

    def __init__(
        self,
        settings: Settings,
        options: IngressOptions,
        environment: ModelEnvironment,
        deployments: Deployments,
        local_classifiers: Mapping[str, ClassifierArgs],
        job_runner: DeploymentHandle[Any],
    ) -> None:
        prepare_process()
        store = JobStore(settings.database_url.get_secret_value(), locale=settings.locale)
        store.create_schema()
        media = MediaSource(settings)
        app_name = serve.get_replica_context().app_name
        names = (*deployments.names(), "JobRunner", "Ingress")
        health = GraphHealth(app_name, names, StorageHealth(store, media), deployments.left_out())
        pipeline = VideoPipeline(deployments.video, media, _PATIENCE_S, health.deployments)
        self._local = {
            name: LocalClassifier(
                partial(
                    ClassifierReplica,
                    task=TASKS[name],
                    options=replace(classifier, device="cpu"),
                    environment=environment,
                    max_pixels=settings.max_image_pixels,
                )
            )
            for name, classifier in local_classifiers.items()
        }
        jobs = StoredJobs(store, media, settings.max_queued_jobs, needed=deployments.needed())
        self._api_settings = settings.api_on(host := listening_host())
        _log_access(self._api_settings, host, has_keys=bool(store.valid_keys()))
        self._services = Services(
            jobs=jobs,
            music=MusicFlow(
                jobs,
                media,
                quota=Quota(settings.max_pieces_in_work, settings.max_pieces_per_hour),
                max_pixels=settings.max_image_pixels,
            ),
            analysis=AnalysisFlow(pipeline, media, max_at_once=options.max_direct_analyses),
            speech=SpeechFlow(
                deployments.video,
                media,
                _PATIENCE_S,
                health.deployments,
                max_at_once=options.max_direct_transcriptions,
                max_pieces=options.max_direct_pieces,
            ),
            drums=DrumFlow(deployments.drums, media, _PATIENCE_S, max_at_once=options.max_direct_drums),
            images=ImageFlow(
                deployments.classifiers,
                media,
                _PATIENCE_S,
                max_at_once=options.max_direct_images,
                max_calls=options.max_image_calls,
                local=self._local,
            ),
            models=DeployedModels(
                app_name, deployments.classifiers, tuple(self._local), fixed=deployments.loaded_once()
            ),
            health=health,
            keys=StoredKeys(store),
        )

    async def describe_model(self, name: str) -> ReplicaModel:
        """Return a model of this process."""
        return await self._local[name].describe()

    async def reload_model(self, name: str) -> ReplicaModel:
        """Load the weights of a model of this process again."""
        return await self._local[name].reload()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the app; Serve calls this after the constructor."""
        return create_app(self._services, self._api_settings)


def _log_access(settings: ApiSettings, host: str | None, *, has_keys: bool) -> None:
    where = "an address that is not known" if host is None else host
    if not settings.keys_on:
        level = logging.INFO if settings.hosts is not None else logging.WARNING
        logger.log(level, "API keys are off: whoever reaches %s may use all routes (docs/security.md)", where)
    elif has_keys:
        logger.info("API keys are on: Serve listens on %s", where)
    else:
        logger.warning(
            "API keys are on, as Serve listens on %s, and there is none: every request is answered 401 until "
            "`serve-app keys create NAME` has made one (docs/security.md)",
            where,
        )
