from __future__ import annotations

import asyncio

import pytest

from serve_app.flows import handles
from tests.unit.flows.fakes import FakeResponse


@pytest.fixture(autouse=True)
def fake_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `SharedResult` wait for fake references, which Ray's `wait` does not know."""

    async def until_made(reference: FakeResponse) -> None:
        await asyncio.wait({reference.task})

    monkeypatch.setattr(handles, "until_made", until_made)
