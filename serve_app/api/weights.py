"""What is loaded where: `GET /models`, and new weights without downtime: `POST /models/{name}/reload`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from serve_app.api.http.dependencies import InjectedServices
from serve_app.api.http.failures import ApiRoute, ErrorBody, error_responses
from serve_app.api.video.answers import timestamp
from serve_app.services import DeployedModel, ReplicaModel


class ReplicaModelView(BaseModel):
    """What one replica serves."""

    replica: str
    node: str
    pid: int
    spec: str = Field(description="what names its weights in the configuration")
    model_version: str | None = Field(description="name of the weights' file and the beginning of its SHA-256")
    sha256: str | None
    architecture: str | None
    engine: str | None = Field(description="library and number format")
    device: str
    warm: bool = Field(description="whether it has run the network already")
    loaded_at: str | None
    max_difference: float | None = Field(description="from PyTorch's probabilities in float32, on the probe")
    notes: list[str]
    failure: str | None = Field(description="why it does not serve what the configuration names now; null: it does")


class DeployedModelView(BaseModel):
    """A model of the graph."""

    name: str = Field(description="of `POST /models/{name}/reload`, where it reloads")
    deployment: str
    state: str = Field(description="HEALTHY is the good one")
    replicas: list[ReplicaModelView] = Field(description="those that run; none: scaled to zero, or not up")
    reloads: bool = Field(description="whether its weights can be replaced while it serves")


class DeployedModelsView(BaseModel):
    """The models of the graph."""

    models: list[DeployedModelView]


class ReloadView(DeployedModelsView):
    """What serves after the weights were read anew."""

    reloaded: bool = Field(
        description="every replica serves what the configuration names now; false: see each `failure`, the weights "
        "that served before still do"
    )


router = APIRouter(route_class=ApiRoute, tags=["models"])


@router.get("/models", summary="Tell what is loaded where", responses=error_responses(503))
async def list_models(services: InjectedServices) -> DeployedModelsView:
    """Return the models of the graph, and what each of their replicas serves. None is started for it."""
    return DeployedModelsView(models=_views(await services.models.models()))


@router.post(
    "/models/{name}/reload",
    summary="Have every replica read its weights anew",
    responses=error_responses(503) | {404: {"model": ErrorBody, "description": "No model has this name"}},
)
async def reload_model(
    name: Annotated[str, Path(description="of `GET /models`", max_length=64)], services: InjectedServices
) -> ReloadView:
    """Swap the weights in every replica of a model, with no request failed; return once all have.

    The file is the one that the configuration names, or that its link leads to now. One that can't be loaded leaves the
    old weights serving: `reloaded` is false then, and each replica's `failure` says why.
    """
    names = services.models.names()
    if name not in names:
        raise HTTPException(404, f"No such model; there are: {', '.join(names) or 'none'}")
    models = await services.models.reload(name)
    failed = [replica for model in models for replica in model.replicas if replica.failure]
    return ReloadView(models=_views(models), reloaded=not failed)


def _views(models: Sequence[DeployedModel]) -> list[DeployedModelView]:
    return [
        DeployedModelView(
            name=model.name,
            deployment=model.deployment,
            state=model.state,
            replicas=[_replica(replica) for replica in model.replicas],
            reloads=model.reloads,
        )
        for model in models
    ]


def _replica(replica: ReplicaModel) -> ReplicaModelView:
    return ReplicaModelView(
        replica=replica.replica,
        node=replica.node,
        pid=replica.pid,
        spec=replica.spec,
        model_version=replica.model_version,
        sha256=replica.sha256,
        architecture=replica.architecture,
        engine=replica.engine,
        device=replica.device,
        warm=replica.warm,
        loaded_at=None if replica.loaded_at is None else timestamp(replica.loaded_at),
        max_difference=replica.max_difference,
        notes=list(replica.notes),
        failure=replica.failure,
    )
