"""Files from a mirror: servers on loopback, folders, storages."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from serve_app.models.catalog import CatalogFile
from serve_app.models.mirror_source import MirrorSource
from serve_app.models.model_source import SourceFailed
from tests.unit.models.loopback_files import Files, files_on_loopback
from tests.unit.models.made_models import catalog_file

CONTENT = bytes(range(256)) * 4096
FILE = catalog_file("model.bin", CONTENT)
PATH = "/models/made/model.bin"


@pytest.fixture
def server() -> Iterator[Files]:
    with files_on_loopback() as served:
        served.files[PATH] = CONTENT
        yield served


def source(mirror: str, told: list[tuple[str, int, int | None]] | None = None) -> MirrorSource:
    return MirrorSource(mirror, "made", lambda *progress: told.append(progress) if told is not None else None)


def test_a_file_of_a_server(server: Files, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    source(f"{server.url}/models/?sig=secret", told).fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert server.requests == [(f"{PATH}?sig=secret", None)]
    assert told[-1] == ("model.bin", len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_what_broke_off_goes_on_where_it_ended(server: Files, tmp_path: Path) -> None:
    server.cut[PATH] = [400_000, 300_000]
    source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert [asked is None for _, asked in server.requests] == [True, False, False]


def test_what_breaks_off_again_and_again_is_left_for_the_next_try(server: Files, tmp_path: Path) -> None:
    server.cut[PATH] = [200_000, 100_000, 100_000]
    with pytest.raises(SourceFailed, match=r"model\.bin: RemoteProtocolError") as caught:
        source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert (caught.value.gave_nothing, caught.value.is_silent) == (True, False)
    assert not (tmp_path / "model.bin").exists()
    kept = (tmp_path / "model.bin.part").stat().st_size
    assert 0 < kept <= 400_000
    source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert server.requests[-1] == (PATH, f"bytes={kept}-")


def test_a_server_without_ranges_sends_the_whole_file_again(server: Files, tmp_path: Path) -> None:
    server.with_ranges = False
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:1000])
    source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_asks_for_nothing(server: Files, tmp_path: Path) -> None:
    (tmp_path / "model.bin.part").write_bytes(CONTENT)
    source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert server.requests == []


def test_a_part_that_is_longer_than_the_file_is_begun_anew(server: Files, tmp_path: Path) -> None:
    (tmp_path / "model.bin.part").write_bytes(CONTENT + b"x")
    source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", CONTENT * 2, b""])
def test_a_file_of_another_size_is_refused_and_deleted(server: Files, tmp_path: Path, content: bytes) -> None:
    server.files[PATH] = content
    with pytest.raises(SourceFailed, match=f"not the official one of {len(CONTENT)} bytes, and was refused") as caught:
        source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert not caught.value.gave_nothing
    assert list(tmp_path.iterdir()) == []


def test_a_part_beyond_the_servers_file_is_forgotten(server: Files, tmp_path: Path) -> None:
    server.files[PATH] = CONTENT[:100]
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:200])
    with pytest.raises(SourceFailed, match=r"it answers 416 for made/model\.bin"):
        source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin.part").stat().st_size == 0


def test_a_file_that_is_not_there(server: Files, tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"it answers 404 for made/model\.bin") as caught:
        source(f"{server.url}/elsewhere").fetch(FILE, tmp_path / "model.bin")
    assert (caught.value.gave_nothing, caught.value.is_silent) == (True, False)
    with pytest.raises(SourceFailed, match=r"it has no made/model\.bin"):
        source(str(tmp_path)).fetch(FILE, tmp_path / "model.bin")


def test_a_server_that_is_not_there_is_silent(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="ConnectError") as caught:
        source("http://127.0.0.1:9/models").fetch(FILE, tmp_path / "model.bin")
    assert (caught.value.gave_nothing, caught.value.is_silent) == (True, True)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "mirror" / "made").mkdir(parents=True)
    (tmp_path / "mirror" / "made" / "model.bin").write_bytes(CONTENT)
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:700_000])
    source(f"{scheme}{tmp_path / 'mirror'}").fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_storage(tmp_path: Path) -> None:
    storage = fsspec.filesystem("memory")
    storage.pipe("/mirror/made/model.bin", CONTENT)
    try:
        source("memory://mirror").fetch(FILE, tmp_path / "model.bin")
    finally:
        storage.rm("/mirror", recursive=True)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_storage_that_can_not_be_read_tells_no_secret(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed) as caught:
        source("nonsense://key:hunter2@bucket").fetch(FILE, tmp_path / "model.bin")
    assert caught.value.reason == "model.bin can't be read (ValueError)"


def test_a_file_without_a_hash_is_not_taken(server: Files, tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"no SHA-256 is known of model\.bin: the hub alone is trusted with it"):
        source(f"{server.url}/models").fetch(CatalogFile("model.bin", None, None), tmp_path / "model.bin")
    assert server.requests == []


def test_a_full_disk_is_told_as_it_is(server: Files, tmp_path: Path) -> None:
    (tmp_path / "model.bin.part").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        source(f"{server.url}/models").fetch(FILE, tmp_path / "model.bin")
    assert caught.value.errno == errno.ENOSPC


def test_labels_hide_credentials() -> None:
    made = source("https://user:hunter2@mirror.example/models?sig=hunter2")
    assert made.label == "mirror https://mirror.example/models"
    assert "hunter2" not in made.host
    assert source("/srv/models").label == "mirror /srv/models"
    assert made.needed_bytes([FILE, CatalogFile("x", None, None)]) == len(CONTENT)
