"""A client over real HTTP to the app with in-memory services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.client import Client
from serve_app.sentences import Locale
from tests.unit.api.memory_services import memory_services
from tests.unit.client.loopback import serving


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FastAPI, str]]:
    app = create_app(memory_services(), ApiSettings(max_upload_bytes=100_000, locale=Locale.EN))
    with serving(app) as port:
        yield app, f"http://127.0.0.1:{port}"


@pytest.fixture
def client(running: tuple[FastAPI, str]) -> Iterator[Client]:
    app, url = running
    app.state.services = memory_services()
    with Client(url) as client:
        yield client
