"""Routes of the models' weights: list them, and reload them without downtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, BeforeValidator, Field
from starlette.exceptions import HTTPException

from serve_app.api.http.access import needs
from serve_app.api.http.answers import timestamp
from serve_app.api.http.failures import ApiRoute, error_responses
from serve_app.api.http.options import InjectedServices, InjectedSettings
from serve_app.jobs.record import Scope
from serve_app.messages import shown
from serve_app.sentences import Locale, Sentence, translated
from serve_app.services import DeployedModel, ReplicaModel


def _shown_time(posix_s: float | None) -> str | None:
    return None if posix_s is None else timestamp(posix_s)


class EngineSpeedView(BaseModel, from_attributes=True):
    """How fast an engine ran the network on the replica's machine, when its weights were loaded there first."""

    engine: str = Field(description="library and number format")
    cores: str = Field(description="how it used them")
    lone_ms: float | None = Field(description="milliseconds of one picture alone; null: it could not run")
    batch_ms: float | None = Field(description="milliseconds a picture, of several at once")
    max_difference: float | None = Field(description="from PyTorch's probabilities in float32, on the pictures timed")
    failure: str = Field(description="why it could not run; empty: it did")


class ReplicaModelView(BaseModel, from_attributes=True):
    """What one replica serves."""

    replica: str
    node: str
    pid: int
    spec: str = Field(description="of its weights, in the configuration")
    model_version: str | None = Field(description="name of the weights' file and the beginning of its SHA-256")
    sha256: str | None
    architecture: str | None
    engine: str | None = Field(description="library and number format")
    device: str
    warm: bool = Field(description="the network has run already")
    loaded_at: Annotated[str | None, BeforeValidator(_shown_time)]
    max_difference: float | None = Field(description="from PyTorch's probabilities in float32, on the probe")
    notes: list[str]
    failure: str | None = Field(description="why it does not serve the configured weights; null: it does")
    cores: str = Field(description="how the engine uses them; empty: it has no choice")
    speeds: list[EngineSpeedView] = Field(description="of the engines that were measured; empty: none were")


class DeployedModelView(BaseModel, from_attributes=True):
    """A model of the graph."""

    name: str = Field(description="of `POST /models/{name}/reload`, where it reloads")
    deployment: str
    state: str = Field(description="`HEALTHY` where it takes requests; `NOT_INSTALLED: …` says what to install")
    replicas: list[ReplicaModelView] = Field(description="those that run; empty: scaled to zero, or not up")
    reloads: bool = Field(description="its weights can be replaced while it serves")


class DeployedModelsView(BaseModel):
    """The models of the graph."""

    models: list[DeployedModelView]


class ReloadView(DeployedModelsView):
    """What serves after a reload."""

    reloaded: bool = Field(description="every replica serves the configured weights; false: see each `failure`")


router = APIRouter(route_class=ApiRoute, tags=["models"])


@router.get("/models", summary="What is loaded where", responses=error_responses(503))
@needs(Scope.ADMIN)
async def list_models(services: InjectedServices, settings: InjectedSettings) -> DeployedModelsView:
    """Return the models of the graph, and what each running replica serves. This starts no replica."""
    models = await services.models.models()
    return DeployedModelsView(models=_views(models, settings.locale))


@router.post(
    "/models/{name}/reload",
    summary="Reload a model's weights in every replica",
    responses=error_responses(503, own={404: "No model has this name"}),
)
@needs(Scope.ADMIN)
async def reload_model(
    name: Annotated[str, Path(description="of `GET /models`", max_length=64)],
    services: InjectedServices,
    settings: InjectedSettings,
) -> ReloadView:
    """Replace the weights in every replica of a model; no request fails. Return once all have answered.

    The file is the configured one; a link is followed anew. If it can't be loaded, the old weights go on serving,
    `reloaded` is false, and each replica's `failure` gives the reason.
    """
    names = services.models.names()
    if name not in names:
        known = ", ".join(names) or Sentence("none")
        raise HTTPException(404, Sentence("No such model; there are: {names}", names=known))
    models = await services.models.reload(name)
    failed = [replica for model in models for replica in model.replicas if replica.failure]
    return ReloadView(models=_views(models, settings.locale), reloaded=not failed)


def _views(models: Sequence[DeployedModel], locale: Locale) -> list[DeployedModelView]:
    told = (
        replace(
            model,
            state=translated(model.state, locale),
            replicas=tuple(_told(replica, locale) for replica in model.replicas),
        )
        for model in models
    )
    return [DeployedModelView.model_validate(model) for model in told]


def _told(replica: ReplicaModel, locale: Locale) -> ReplicaModel:
    return replace(
        replica,
        notes=tuple(translated(note, locale) for note in replica.notes),
        failure=translated(replica.failure, locale) if replica.failure else replica.failure,
        speeds=tuple(replace(speed, failure=shown(speed.failure, locale)) for speed in replica.speeds),
    )
