"""Deployment: the one HTTP ingress. Adapts the job store and deployment handles to `serve_app.services`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.api.app import create_app
from serve_app.deployments.image_classifier import ClassifierArguments, make_classifier
from serve_app.deployments.replica.process import join_serve_log
from serve_app.flows.drums import DrumFlow
from serve_app.flows.handles import Placed
from serve_app.flows.health import GraphHealth
from serve_app.flows.images import ImageFlow, ImageLimits, LocalClassifier
from serve_app.flows.jobs import StoredJobs
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech import SpeechFlow
from serve_app.flows.video import AnalysisFlow, VideoModels, VideoPipeline
from serve_app.flows.weights import DeployedModels
from serve_app.jobs.store import JobStore
from serve_app.models.images.tasks import TASKS
from serve_app.services import ReplicaModel, Services
from serve_app.settings import Settings

# A synchronous caller can try again itself; a replica that was lost under it is still worth one more try.
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class DirectLimits:
    """Bounds of the work that callers wait for, in one ingress replica.

    Attributes:
        max_analyses: synchronous analyses at once; more are answered 503.
        max_transcriptions: uploads in transcription at once; more are answered 503.
        max_pieces: pieces of one upload at once.
        max_drums: requests in drum transcription at once; more are answered 503.
        images: of the classification of pictures.
    """

    max_analyses: int = 2
    max_transcriptions: int = 32
    max_pieces: int = 16
    max_drums: int = 16
    images: ImageLimits = field(default_factory=ImageLimits)


@serve.deployment(name="Ingress")
@serve.ingress()
class Ingress:
    """Serves the HTTP contract: one FastAPI app, built when the replica starts.

    Args:
        settings: of the whole graph.
        deployments: names of all deployments of the graph, for `/health/ready`.
        limits: of work at once.
        models: the deployments of the video DAG.
        drums: the deployment that transcribes drums, and after it the one that takes over.
        classifiers: by task, the deployment that classifies pictures, and after it the one that takes over.
        local_classifiers: by task, how to make the classifiers that this process has in itself, which answer then.
        job_runner: bound here only so that Serve deploys it with the graph: its work comes from the job table.
    """

    def __init__(
        self,
        settings: Settings,
        deployments: Sequence[str],
        limits: DirectLimits,
        models: VideoModels,
        drums: Sequence[Placed[Any]],
        classifiers: Mapping[str, Sequence[Placed[Any]]],
        local_classifiers: Mapping[str, ClassifierArguments],
        job_runner: DeploymentHandle,
    ) -> None:
        join_serve_log()
        store = JobStore(settings.database_url.get_secret_value(), locale=settings.locale)
        store.create_schema()
        media = MediaSource(settings)
        app_name = serve.get_replica_context().app_name
        health = GraphHealth(app_name, deployments)
        pipeline = VideoPipeline(models, media, _PATIENCE_S, health.deployments)
        self._local = {
            name: LocalClassifier(partial(make_classifier, TASKS[name], arguments))
            for name, arguments in local_classifiers.items()
        }
        self._api_settings = settings.api
        self._services = Services(
            jobs=StoredJobs(settings, store, media),
            analysis=AnalysisFlow(pipeline, media, limits.max_analyses),
            speech=SpeechFlow(
                models, media, _PATIENCE_S, health.deployments, limits.max_transcriptions, limits.max_pieces
            ),
            drums=DrumFlow(drums, media, _PATIENCE_S, limits.max_drums),
            images=ImageFlow(classifiers, media, _PATIENCE_S, limits.images, self._local),
            models=DeployedModels(app_name, classifiers, tuple(self._local), fixed=_fixed_models(models, drums)),
            health=health,
        )

    async def describe_model(self, name: str) -> ReplicaModel:
        """Return what this process serves of a model that it has in itself."""
        return await self._local[name].describe()

    async def reload_model(self, name: str) -> ReplicaModel:
        """Have this process read the weights of a model that it has in itself anew."""
        return await self._local[name].reload()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the app; Serve calls this after the constructor."""
        return create_app(self._services, self._api_settings)


def _fixed_models(models: VideoModels, drums: Sequence[Placed[Any]]) -> dict[str, Sequence[Placed[Any]]]:
    """Return the deployments of models that are loaded once, by short name."""
    speech = {str(name): placed for name, placed in models.speech.backends.items()}
    return speech | {"diarization": models.diarizers, "drums": drums}
