"""Pictures, visitors and their pieces."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.unit.api.memory_services import MusicOnTable
from tests.unit.media.conftest import gcs_bucket, gcs_endpoint, s3_bucket, s3_endpoint, store  # noqa: F401

BROWSER = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Origin": "http://testserver",
    "Sec-Fetch-Site": "same-origin",
    "Accept-Language": "en-GB,en;q=0.9",
}
SCRIPT = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}  # a page's own request for JSON


def picture(color: str = "navy") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(file, "JPEG")
    return file.getvalue()


def submit(client: TestClient, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Post a form with a picture."""
    data = {name: str(value) for name, value in fields.items()}
    files = {"file": ("sea.jpg", picture(), "image/jpeg")}
    return client.post("/generate-music", data=data, files=files, headers=headers, follow_redirects=False)


@pytest.fixture
def new_client(client_with: Callable[..., TestClient]) -> Callable[[], TestClient]:
    """Return a factory of clients of one application, each with cookies of its own."""
    app = client_with().app

    def make() -> TestClient:
        return TestClient(app, raise_server_exceptions=False)

    return make


@pytest.fixture
def ready(client: TestClient, music: MusicOnTable) -> str:
    """Return the id of a completed piece that the client submitted as a browser's page does."""
    job_id: str = submit(client, SCRIPT, job_id="sea-1").json()["job_id"]
    music.run(job_id)
    return job_id
