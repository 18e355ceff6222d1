"""The same behaviour over a folder, over memory, over a real S3 server and over an emulator of GCS."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from serve_app.errors import StorageError, StorageUnavailable
from serve_app.media.artifacts import ArtifactStore, job_key
from tests.unit.media.gcs_server import SIGNER, service_account


@pytest.fixture(scope="module", autouse=True)
def _servers_run(s3_endpoint: str, gcs_endpoint: str) -> None:
    """Start the session's servers here: one of the tests would count as the one that left them running."""


def stored(store: ArtifactStore, tmp_path: Path, key: str, content: bytes = b"sound") -> str:
    source = tmp_path / "incoming"
    source.write_bytes(content)
    location = store.put_file(key, source)
    assert not source.exists()
    return location


def test_file_is_moved_in_and_found(store: ArtifactStore, tmp_path: Path) -> None:
    key = job_key("job-1", "source")
    assert not store.exists(key)
    location = stored(store, tmp_path, key)
    assert location == store.locate(key)
    assert store.exists(key)
    with store.open(key) as file:
        assert file.read() == b"sound"
    stored(store, tmp_path, key, b"again")
    with store.open(key) as file:
        assert file.read() == b"again"


def test_missing_file(store: ArtifactStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.open("jobs/none/source")
    assert store.delete_prefix("jobs/none") == 0


def test_deleting_a_job_leaves_the_one_whose_name_goes_on(store: ArtifactStore, tmp_path: Path) -> None:
    for key in ("jobs/a/source", "jobs/a/deep/er", "jobs/ab/source"):
        stored(store, tmp_path, key)
    assert store.delete_prefix("jobs/a") == 2
    assert not store.exists("jobs/a/source")
    assert not store.exists("jobs/a/deep/er")
    assert store.exists("jobs/ab/source")


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "jobs/../../x", "jobs//x", "jobs/./x", "jobs/.hidden", "a\\b", "a\0", "a b", "x/"],
)
def test_malformed_key_is_refused(store: ArtifactStore, tmp_path: Path, key: str) -> None:
    for use in (store.locate, store.open, store.exists, store.delete_prefix, store.stat):
        with pytest.raises(ValueError, match="Malformed artefact key"):
            use(key)


def test_job_key_never_holds_an_unsafe_id() -> None:
    assert job_key("550e8400-e29b-41d4-a716-446655440000", "source").startswith("jobs/550e8400-")
    for job_id in ("../../etc", "a/b", ".", "", "영상", "x" * 65, "a.b"):
        assert job_key(job_id, "source").startswith("jobs/sha256=")
    assert job_key("a/b") != job_key("a_b")


def test_folder_is_filled_by_renaming(tmp_path: Path) -> None:
    source = tmp_path / "incoming"
    source.write_bytes(b"x")
    inode = source.stat().st_ino
    location = ArtifactStore(str(tmp_path / "artifacts")).put_file("jobs/a/source", source)
    assert Path(location).stat().st_ino == inode


def test_file_from_another_file_system_is_copied_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "incoming"
    source.write_bytes(b"x" * 100_000)
    rename = os.replace

    def across(here: Path, there: Path) -> None:
        if here == source:
            raise OSError(errno.EXDEV, "cross-device")
        rename(here, there)

    monkeypatch.setattr(os, "replace", across)
    location = Path(ArtifactStore(str(tmp_path / "artifacts")).put_file("jobs/a/source", source))
    assert location.read_bytes() == b"x" * 100_000
    assert not source.exists()
    assert [path.name for path in location.parent.iterdir()] == ["source"]


def test_sweep_removes_what_is_old(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(b"x")
        store.put_file(f"jobs/{name}/media", tmp_path / name)
    os.utime(store.locate("jobs/old/media"), (1_000_000_000, 1_000_000_000))
    assert store.sweep("jobs", 3600.0) == 1
    assert not store.exists("jobs/old/media")
    assert store.exists("jobs/new/media")


def test_sweep_of_a_store_that_holds_nothing_yet(tmp_path: Path) -> None:
    assert ArtifactStore(str(tmp_path / "never-written")).sweep("jobs", 0.0) == 0


BODY = bytes(range(256)) * 9000  # more than two requests
KEY = "jobs/a/music.mp3"
NAME = '봄 "바다" 1%.mp3'


async def pieces(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in chunks]


def test_bytes_are_stored_and_read_by_ranges(store: ArtifactStore) -> None:
    assert store.put_bytes(KEY, BODY, "audio/mpeg") == store.locate(KEY)
    file = store.stat(KEY)
    assert file.num_bytes == len(BODY)
    for start, end in ((0, len(BODY)), (0, 1), (len(BODY) - 1, len(BODY)), (1_048_570, 1_048_580), (7, 2_000_000)):
        chunks = asyncio.run(pieces(file.read(start, end)))
        assert b"".join(chunks) == BODY[start:end]
        assert max(map(len, chunks)) <= 256 << 10


def test_many_read_the_same_file_at_once(store: ArtifactStore) -> None:
    store.put_bytes(KEY, BODY)
    file = store.stat(KEY)

    async def all_at_once() -> list[list[bytes]]:
        return await asyncio.gather(*(pieces(file.read(start, start + 300_000)) for start in range(0, 90_000, 10_001)))

    for number, chunks in enumerate(asyncio.run(all_at_once())):
        assert b"".join(chunks) == BODY[number * 10_001 :][:300_000]


def test_etag_is_the_contents_and_every_process_has_the_same(store: ArtifactStore) -> None:
    store.put_bytes(KEY, b"one")
    etag = store.stat(KEY).etag
    assert store.stat(KEY).etag == etag
    assert etag.isalnum()
    time.sleep(0.02)
    store.put_bytes(KEY, b"two")
    assert store.stat(KEY).etag != etag


def test_what_is_not_there_or_a_folder_has_no_length(store: ArtifactStore) -> None:
    store.put_bytes(KEY, b"x")
    for key in ("jobs/a/none", "jobs/none/music.mp3", "jobs/a"):
        with pytest.raises(FileNotFoundError):
            store.stat(key)


def test_file_that_vanished_or_became_shorter_is_a_storage_error(store: ArtifactStore) -> None:
    store.put_bytes(KEY, BODY)
    file = store.stat(KEY)
    store.put_bytes(KEY, BODY[:10])
    with pytest.raises(StorageError):
        asyncio.run(pieces(file.read(0, file.num_bytes)))
    store.delete_prefix("jobs/a")
    with pytest.raises(StorageError):
        asyncio.run(pieces(file.read(0, 5)))


def test_bytes_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(str(tmp_path / "artifacts"))
    store.put_bytes(KEY, b"old")

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageUnavailable, match="The artefact store fails: No space left on device"):
            store.put_bytes(KEY, b"new")
    folder = Path(store.locate(KEY)).parent
    assert [path.name for path in folder.iterdir()] == ["music.mp3"]
    assert (folder / "music.mp3").read_bytes() == b"old"


@pytest.mark.parametrize("store", ["folder", "file-url", "memory"], indirect=True)
def test_folder_and_memory_have_no_links(store: ArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put_bytes(KEY, b"x")
    assert asyncio.run(store.stat(KEY).signed_url(NAME)) is None
    assert caplog.messages == []


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_s3_link_downloads_under_its_name(store: ArtifactStore) -> None:
    store.put_bytes(KEY, BODY, "audio/mpeg")
    url = asyncio.run(store.stat(KEY).signed_url(NAME))
    assert url is not None
    query = dict(parse_qsl(urlsplit(url).query))
    assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == ("AWS4-HMAC-SHA256", "600")
    answer = httpx.get(url)
    assert answer.content == BODY
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{quote(NAME, safe='')}"


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_s3_without_credentials_has_no_links(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.put_bytes(KEY, b"x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    without = ArtifactStore("s3://bucket/artifacts", skip_instance_cache=True)
    assert without.signed_url(KEY, NAME) is None
    assert "NoCredentialsError" in caplog.text


def test_gcs_link_downloads_under_its_name_and_is_signed(gcs_bucket: None, tmp_path: Path) -> None:
    """The emulator does not check signatures, so this does."""
    with service_account(tmp_path) as (key_file, public_key):
        store = ArtifactStore("gs://bucket/artifacts", token=str(key_file), skip_instance_cache=True)
        store.put_bytes(KEY, BODY, "audio/mpeg")
        url = asyncio.run(store.stat(KEY).signed_url(NAME))
    assert url is not None
    answer = httpx.get(url)
    assert answer.content == BODY
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{quote(NAME, safe='')}"

    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    assert query["X-Goog-Expires"] == "600"
    scope = query["X-Goog-Credential"].removeprefix(f"{SIGNER}/")
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    listed = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
    canonical = f"GET\n{parts.path}\n{listed}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashes.Hash(hashes.SHA256())
    digest.update(canonical.encode())
    signed = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n{digest.finalize().hex()}"
    public_key.verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("store", ["gcs"], indirect=True)
def test_gcs_without_a_private_key_says_so_once(store: ArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put_bytes(KEY, b"x")
    with caplog.at_level(logging.WARNING, "serve_app.media.artifacts"):
        assert store.signed_url(KEY, NAME) is None
        assert store.signed_url(KEY, NAME) is None
    assert [message.partition(":")[0] for message in caplog.messages] == ["No signed links"]
    assert "private key" in caplog.text
