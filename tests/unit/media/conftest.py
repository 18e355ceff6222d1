"""Servers that the media tests talk to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from serve_app.media.artifacts import ArtifactStore
from tests.unit.media.gcs_server import gcs_server
from tests.unit.media.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    thread = threading.Thread(target=scripted.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield scripted
    scripted.http.shutdown()
    scripted.http.server_close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Serve S3 on loopback; yield its address."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Point this process's AWS environment at the server; yield an empty bucket named "bucket"."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "key-id",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=s3_endpoint).Bucket("bucket")
    bucket.create()
    yield bucket
    bucket.objects.all().delete()
    bucket.delete()


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    """Serve a storage emulator on loopback; yield its address."""
    with gcs_server("bucket") as url:
        yield url


@pytest.fixture
def gcs_bucket(gcs_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point this process at the emulator, with its bucket named "bucket" empty."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_endpoint)
    yield
    httpx.get(f"{gcs_endpoint}/wipe?keep-buckets=1").raise_for_status()


@pytest.fixture(params=["folder", "file-url", "memory", "s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """Return an empty store of each kind, over real servers."""
    if request.param == "s3":
        request.getfixturevalue("s3_bucket")
        return ArtifactStore("s3://bucket/artifacts", skip_instance_cache=True)
    if request.param == "gcs":
        request.getfixturevalue("gcs_bucket")
        return ArtifactStore("gs://bucket/artifacts", token="anon", skip_instance_cache=True)
    urls = {
        "folder": str(tmp_path / "artifacts"),
        "file-url": f"file://{tmp_path}/artifacts",
        "memory": f"memory://{tmp_path.name}",
    }
    return ArtifactStore(urls[request.param])
