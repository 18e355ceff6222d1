"""`ApiSettings`: what an operator can choose about the HTTP layer; and how routes get it, with the services."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import Depends, Request

from serve_app.messages import Locale
from serve_app.services import Services


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Settings of the HTTP layer, passed down by the graph.

    Attributes:
        locale: language of all that callers read.
        cors_origins: origins whose pages may call this API; `*` for any. None by default.
        keys_on: whether callers need an API key.
        hosts: names of this server, beside loopback ones; None: requests may name any.
        backend_url: callback base of a job that names none; None: such a job has no callback.
        max_body_bytes: limit of a JSON body; a valid one is a few kilobytes.
        max_upload_bytes: limit of a form with a recording; an hour of uncompressed 48 kHz stereo takes 0.7 GB.
        max_image_bytes: limit of one picture in a form.
        cookie_secrets: sign visitors' cookies, the newest first; empty: the one that `JobService.visitor_secret` gives.
        cookie_secure: whether visitors' cookies are for HTTPS only; `auto`: where the request came by HTTPS.
        heartbeat_s: longest silence on an event stream, below the idle limit of common proxies (60 s).
        retry_ms: after which an event stream's client should reconnect.
        readiness_timeout_s: limit of a readiness probe's wait for the deployments' states.
        proxy_echoes_request_id: the server in front adds `x-request-id` to every answer, as Ray Serve does.
    """

    locale: Locale = Locale.KO
    cors_origins: tuple[str, ...] = ()
    keys_on: bool = False
    hosts: tuple[str, ...] | None = None
    backend_url: str | None = None
    max_body_bytes: int = 1 << 20
    max_upload_bytes: int = 512 << 20
    max_image_bytes: int = 20 << 20
    cookie_secrets: tuple[str, ...] = field(default=(), repr=False)
    cookie_secure: Literal["auto", "always", "never"] = "auto"
    heartbeat_s: float = 15.0
    retry_ms: int = 3000
    readiness_timeout_s: float = 5.0
    proxy_echoes_request_id: bool = False


# async though they wait for nothing: FastAPI calls plain functions in threads, at a tenth of a small request's cost
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _settings(request: Request) -> ApiSettings:
    settings: ApiSettings = request.app.state.settings
    return settings


InjectedServices = Annotated[Services, Depends(_services)]
InjectedSettings = Annotated[ApiSettings, Depends(_settings)]
