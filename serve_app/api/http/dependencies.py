"""What routes are handed: the services and settings that `create_app` was given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from serve_app.api.http.options import ApiSettings
from serve_app.services import Services


# async though they wait for nothing: FastAPI calls plain functions in threads, at a tenth of a small request's cost
async def _services(request: Request) -> Services:
    return request.app.state.services


async def _settings(request: Request) -> ApiSettings:
    return request.app.state.settings


InjectedServices = Annotated[Services, Depends(_services)]
InjectedSettings = Annotated[ApiSettings, Depends(_settings)]
