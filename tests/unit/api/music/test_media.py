"""Pictures and music as browsers fetch them: ranges over a folder, memory, a real S3 server and an emulator of GCS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.media.artifacts import ArtifactStore
from serve_app.services import MusicFile, Services
from tests.unit.api.live import serving
from tests.unit.api.memory_services import FILES, JobsOnTable, MusicOnTable
from tests.unit.api.music.conftest import submit

MP3 = FILES[MusicFile.MP3]
SIZE = len(MP3)
AUDIO = "/music/a/audio"
ON_STORES = pytest.mark.parametrize("store", ["folder", "memory", "s3", "gcs"], indirect=True)


@pytest.fixture(scope="module", autouse=True)
def _servers_run(s3_endpoint: str, gcs_endpoint: str) -> None:
    """Start the servers here: one of the tests would count as the one that left them running."""


@pytest.fixture
def app(services: Services, jobs: JobsOnTable, store: ArtifactStore) -> Any:
    """Return an application whose pieces lie in the store, with a piece named `a` that everybody may read."""
    music = MusicOnTable(jobs, store)
    app = create_app(replace(services, music=music), ApiSettings())
    submit(TestClient(app), job_id="a")
    music.run("a")
    return app


@pytest.fixture
def player(app: Any) -> TestClient:
    return TestClient(app)


@ON_STORES
def test_whole(player: TestClient) -> None:
    answer = player.get(AUDIO)
    assert (answer.status_code, answer.content) == (200, MP3)
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["x-content-type-options"] == "nosniff"


@ON_STORES
def test_part(player: TestClient) -> None:
    for sent, start, end in (
        ("bytes=0-", 0, SIZE),
        ("bytes=0-1", 0, 2),  # Safari's first request
        ("bytes=1048576-", 1 << 20, SIZE),
        ("bytes=-128", SIZE - 128, SIZE),
        (f"bytes={SIZE - 1}-{SIZE + 9}", SIZE - 1, SIZE),
        ("bytes=300000-1100000", 300_000, 1_100_001),
    ):
        answer = player.get(AUDIO, headers={"Range": sent})
        assert (answer.status_code, answer.content) == (206, MP3[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(end - start)


@ON_STORES
def test_several_parts_or_none_that_there_is(player: TestClient) -> None:
    answer = player.get(AUDIO, headers={"Range": "bytes=0-1,5-6"})
    assert (answer.status_code, answer.content) == (200, MP3)
    answer = player.get(AUDIO, headers={"Range": f"bytes={SIZE}-"})
    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@ON_STORES
def test_conditions(player: TestClient) -> None:
    etag = player.head(AUDIO).headers["etag"]
    assert player.get(AUDIO, headers={"If-None-Match": etag}).status_code == 304
    assert player.get(AUDIO, headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    assert player.get(AUDIO, headers={"Range": "bytes=0-9", "If-Range": '"old"'}).status_code == 200


@ON_STORES
def test_head(player: TestClient) -> None:
    answer = player.head(AUDIO, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)


@ON_STORES
def test_picture(player: TestClient) -> None:
    for answer in (player.get("/music/a/picture"), player.head("/music/a/picture")):
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"].startswith("private")
    assert player.get("/music/a/picture").content == FILES[MusicFile.PICTURE]
    assert player.get("/music/a/picture", headers={"Range": "bytes=-2"}).content == b"\xff\xd9"


@ON_STORES
def test_download(player: TestClient, store: ArtifactStore) -> None:
    answer = player.get("/music/a/download?locale=en", follow_redirects=False)
    if answer.status_code == 302:  # S3: the emulator of GCS has no key to sign with here
        assert urlsplit(store.locate("x")).scheme == "s3"
        answer = httpx.get(answer.headers["location"])
        assert (
            answer.headers["content-disposition"]
            == "attachment; filename*=UTF-8''A%20calm%20sea%20in%20blue%20light.mp3"
        )
    else:
        assert urlsplit(store.locate("x")).scheme != "s3"
        part = player.get("/music/a/download", headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.content) == (206, MP3[:10])
        assert "attachment" in part.headers["content-disposition"]
    assert answer.content == MP3


@ON_STORES
def test_file_that_the_store_has_lost(player: TestClient, store: ArtifactStore) -> None:
    store.delete("published/a/music.mp3")
    assert player.get(AUDIO).status_code == 404
    assert player.get(AUDIO).json()["error"]["code"] == "MUSIC_FILE_MISSING"


@pytest.mark.parametrize("store", ["folder", "memory"], indirect=True)
def test_file_that_becomes_unreadable_is_answered_as_a_failure(
    player: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ArtifactStore, key: str, start: int, end: int) -> bytes:
        raise OSError("secret path")

    monkeypatch.setattr(ArtifactStore, "read_range", broken)
    answer = player.get(AUDIO)
    assert answer.status_code == 500
    assert "secret" not in answer.text


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_a_real_server_sends_parts_over_one_connection(app: Any) -> None:
    with serving(app) as url, httpx.Client(base_url=url) as client:
        for start in range(0, SIZE, 400_000):
            answer = client.get(AUDIO, headers={"Range": f"bytes={start}-{start + 99}"})
            assert (answer.status_code, answer.content) == (206, MP3[start : start + 100])
        assert client.head(AUDIO).headers["content-length"] == str(SIZE)
        assert client.get(AUDIO, headers={"If-None-Match": client.head(AUDIO).headers["etag"]}).status_code == 304
        assert client.get(AUDIO).content == MP3


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_a_long_file_is_never_whole_in_memory(
    app: Any,
    store: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that reads nothing more after the first bytes stops the reading of the store."""
    store.put_bytes("published/a/music.mp3", bytes(64 << 20))
    read: list[int] = []
    original: Callable[..., bytes] = ArtifactStore.read_range

    def counted(self: ArtifactStore, key: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return original(self, key, start, end)

    monkeypatch.setattr(ArtifactStore, "read_range", counted)
    with serving(app) as url, httpx.Client(base_url=url) as client:
        with client.stream("GET", AUDIO) as answer:
            assert next(answer.iter_raw(1000))
        assert max(read) <= 1 << 20
    assert sum(read) < 32 << 20
