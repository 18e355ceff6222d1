"""Routes of the service's health."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import Request

from serve_app.api.http.access import ShowsDetails, open_to_all
from serve_app.api.http.answers import timestamp
from serve_app.api.http.failures import ApiRoute, ContractRoute, describe, error_body
from serve_app.api.http.options import InjectedServices, InjectedSettings
from serve_app.errors import StorageUnavailable, Unavailable
from serve_app.sentences import Sentence, joined, translated
from serve_app.services import NOT_INSTALLED

UP = "HEALTHY"
_READY_RETRY_AFTER_S = 5.0  # deployments start within tens of seconds

contract_router = APIRouter(route_class=ContractRoute, tags=["health"])
router = APIRouter(prefix="/health", route_class=ApiRoute, tags=["health"])


class HealthView(BaseModel):
    """State of this process."""

    status: str = Field(examples=["healthy"])
    timestamp: str = Field(examples=["2024-01-15T10:30:00Z"])


class ReadinessView(BaseModel):
    """State of the service; of every enabled deployment and the storage where keys are off, and for an `admin` key."""

    status: str = Field(examples=["ready"])
    timestamp: str
    deployments: dict[str, str] | None = Field(default=None, examples=[{"SpeechRecognizer": UP, "Diarizer": UP}])
    storage: dict[str, str] | None = Field(
        default=None,
        description="what is wrong with the job table, the artefact store, the disk or the runners; empty: nothing",
        examples=[{}],
    )


@contract_router.get("/health", summary="Health")
@open_to_all
async def health() -> HealthView:
    """Answer while this process runs; `/health/ready` reports the models' state."""
    return HealthView(status="healthy", timestamp=timestamp(time.time()))


@router.get("/live", summary="Liveness")
@open_to_all
async def live() -> HealthView:
    """Answer while this process runs: restart it where this fails."""
    return HealthView(status="alive", timestamp=timestamp(time.time()))


@router.get(
    "/ready",
    summary="Readiness",
    response_model=ReadinessView,
    responses={503: {"description": "A deployment is not up, or the storage fails; `error.message` says which"}},
)
@open_to_all
async def ready(
    request: Request, shows_details: ShowsDetails, services: InjectedServices, settings: InjectedSettings
) -> JSONResponse:
    """Answer 200 once every enabled deployment is up; send requests only then.

    One whose libraries are not installed is left out: its state begins with `NOT_INSTALLED` and says what to install.
    """
    try:
        async with asyncio.timeout(settings.readiness_timeout_s):
            deployments, faults = await asyncio.gather(services.health.deployments(), services.health.storage_faults())
    except TimeoutError as late:
        silent = Sentence("The state of the deployments is not known: Serve did not answer in time")
        raise Unavailable(silent, _READY_RETRY_AFTER_S) from late
    down = {name: state for name, state in deployments.items() if state != UP and not state.startswith(NOT_INSTALLED)}
    is_ready = deployments and not down and not faults
    status = "ready" if is_ready else "not_ready"
    content: dict[str, Any] = {"status": status, "timestamp": timestamp(time.time())}
    if shows_details:
        told_states = {name: translated(state, settings.locale) for name, state in deployments.items()}
        told_faults = {part: translated(fault, settings.locale) for part, fault in faults.items()}
        content |= {"deployments": told_states, "storage": told_faults}
    if is_ready:
        return JSONResponse(content)
    if deployments and not down:
        told: str = joined(
            "; ", [Sentence("{part}: {fault}", part=part, fault=fault) for part, fault in faults.items()]
        )
        kind: type[Unavailable] = StorageUnavailable
        what = Sentence("The storage fails")
    else:
        told = ", ".join(f"{name} ({state})" for name, state in down.items()) or Sentence("no deployment is known yet")
        kind, what = Unavailable, Sentence("Not up")
    sentence = (
        Sentence("{what}: {told}", what=what, told=told)
        if shows_details
        else Sentence("{what}; an API key with the scope admin is told what", what=what)
    )
    failure = describe(kind(sentence, _READY_RETRY_AFTER_S), settings.locale)
    return JSONResponse({**content, **error_body(failure, request)}, failure.status, dict(failure.headers))
