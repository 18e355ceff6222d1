"""Clients of an app over services in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.sentences import Locale
from serve_app.services import Services
from tests.unit.api.memory_services import (
    JobsOnTable,
    MemoryAnalysis,
    MemoryDrums,
    MemoryHealth,
    MemoryImages,
    MemoryModels,
    MemorySpeech,
    MusicOnTable,
    memory_services,
)

with warnings.catch_warnings():
    # starlette would rather have httpx2, which nothing else here needs
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

in_korean = pytest.mark.parametrize("locale", [Locale.KO])


@pytest.fixture
def services() -> Services:
    return memory_services(max_queued=3)


@pytest.fixture
def jobs(services: Services) -> JobsOnTable:
    assert isinstance(services.jobs, JobsOnTable)
    return services.jobs


@pytest.fixture
def analysis(services: Services) -> MemoryAnalysis:
    assert isinstance(services.analysis, MemoryAnalysis)
    return services.analysis


@pytest.fixture
def speech(services: Services) -> MemorySpeech:
    assert isinstance(services.speech, MemorySpeech)
    return services.speech


@pytest.fixture
def drums(services: Services) -> MemoryDrums:
    assert isinstance(services.drums, MemoryDrums)
    return services.drums


@pytest.fixture
def music(services: Services) -> MusicOnTable:
    assert isinstance(services.music, MusicOnTable)
    return services.music


@pytest.fixture
def images(services: Services) -> MemoryImages:
    assert isinstance(services.images, MemoryImages)
    return services.images


@pytest.fixture
def models(services: Services) -> MemoryModels:
    assert isinstance(services.models, MemoryModels)
    return services.models


@pytest.fixture
def health(services: Services) -> MemoryHealth:
    assert isinstance(services.health, MemoryHealth)
    return services.health


@pytest.fixture
def locale() -> Locale:
    """Return the operator's language; `in_korean` is a test's where the contract's own sentences matter."""
    return Locale.EN


@pytest.fixture
def client_with(services: Services, locale: Locale) -> Callable[..., TestClient]:
    """Return a factory of clients of an app with given settings."""

    def make(**settings: Any) -> TestClient:
        chosen = ApiSettings(**{"locale": locale} | settings)
        return TestClient(create_app(services, chosen), raise_server_exceptions=False)

    return make


@pytest.fixture
def client(client_with: Callable[..., TestClient]) -> Iterator[TestClient]:
    with client_with() as client:
        yield client
