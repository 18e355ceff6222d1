"""The same behaviour over a folder, over memory and over a real S3 server."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from serve_app.media.artifacts import ArtifactStore, job_key


@pytest.fixture(scope="module", autouse=True)
def _s3_runs(s3_endpoint: str) -> None:
    """Start the session's server here: one of the tests would count as the one that left it running."""


@pytest.fixture(params=["folder", "file-url", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    urls = {
        "folder": str(tmp_path / "artifacts"),
        "file-url": f"file://{tmp_path}/artifacts",
        "memory": f"memory://{tmp_path.name}",
        "s3": "s3://bucket/artifacts",
    }
    if request.param == "s3":
        request.getfixturevalue("s3_bucket")
        return ArtifactStore(urls["s3"], skip_instance_cache=True)
    return ArtifactStore(urls[request.param])


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
    for use in (store.locate, store.open, store.exists, store.delete_prefix):
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
