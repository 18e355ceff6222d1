"""Folders that are made once for all processes, whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from serve_app.errors import ModelLoadingError
from serve_app.models import built_folder as module
from serve_app.models.built_folder import built_folder, is_whole

PROJECT = Path(__file__).parents[3]

# Makes a folder in steps that a test releases one by one, by files.
BUILDER = """
import sys, time
from pathlib import Path
from serve_app.models.built_folder import built_folder

target, gates, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def wait_for(gate):
    deadline = time.monotonic() + 60
    while not (gates / gate).exists():
        assert time.monotonic() < deadline, gate
        time.sleep(0.01)

def build(folder):
    (folder / "part").write_text("half")
    (gates / f"{name}-begun").touch()
    wait_for(f"{name}-go")
    (folder / "rest").write_text(name)

(gates / f"{name}-started").touch()
was_built = built_folder(target, build)
print(was_built, (target / "rest").read_text(), flush=True)
"""


def write(text: str) -> object:
    """Return a build function that counts its calls."""
    calls: list[Path] = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)

    build.calls = calls  # type: ignore[attr-defined]
    return build


def test_it_is_made_once(tmp_path: Path) -> None:
    build = write("content")
    first = built_folder(tmp_path / "deep" / "made", build)
    second = built_folder(tmp_path / "deep" / "made", build)
    assert (first, second) == (True, False)
    assert len(build.calls) == 1
    assert (tmp_path / "deep" / "made" / "sub" / "file").read_text() == "content"


def test_a_build_that_fails_leaves_nothing_and_its_error_comes_through(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyError("tensor")

    with pytest.raises(KeyError, match="tensor"):
        built_folder(tmp_path / "made", fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert built_folder(tmp_path / "made", write("x"))


@pytest.mark.parametrize("damage", ["shorten", "remove", "lose the manifest", "garble the manifest", "empty manifest"])
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    target = tmp_path / "made"
    built_folder(target, write("content"))
    file, manifest = target / "sub" / "file", target / module.MANIFEST
    match damage:
        case "shorten":
            os.truncate(file, 3)
        case "remove":
            file.unlink()
        case "lose the manifest":
            manifest.unlink()
        case "garble the manifest":
            manifest.write_text('{"sizes": ')
        case "empty manifest":
            manifest.write_text('{"sizes": {}}')
    assert not is_whole(target)
    again = built_folder(target, write("content"))
    assert again
    assert is_whole(target)
    assert file.read_text() == "content"


def test_a_cache_that_may_only_be_read_serves_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "made"
    built_folder(target, write("content"))
    (tmp_path / "made.lock").unlink()
    (tmp_path / "made.lock").mkdir()  # no lock can be had, as in a folder that may only be read (tests run as root)
    assert not built_folder(target, write("other"))


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(ModelLoadingError, match=r"can't be written .*SERVE_APP_MODELS_DIR"):
        built_folder(tmp_path / "cache" / "made", write("x"))


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ModelLoadingError, match=r"No space left.*free space"):
        built_folder(tmp_path / "made", fill)


def test_another_error_of_the_system_is_the_builders_own(tmp_path: Path) -> None:
    def look(folder: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such object", "s3://bucket/key")

    with pytest.raises(FileNotFoundError):
        built_folder(tmp_path / "made", look)


def test_a_lock_that_is_never_released_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_WAIT_S", 0.05)
    with FileLock(tmp_path / "made.lock"), pytest.raises(ModelLoadingError, match="Another process has been making"):
        built_folder(tmp_path / "made", write("x"))


class Builders:
    """Processes that make the same folder."""

    def __init__(self, folder: Path) -> None:
        self.target, self.gates = folder / "cache" / "made", folder / "gates"
        self.gates.mkdir()
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(self.target), str(self.gates), name],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.wait_for(f"{name}-started")

    def wait_for(self, gate: str) -> None:
        deadline = time.monotonic() + 60
        while not (self.gates / gate).exists():
            assert time.monotonic() < deadline, f"{gate} never came"
            time.sleep(0.01)

    def release(self, name: str) -> None:
        (self.gates / f"{name}-go").touch()

    def result(self, name: str) -> str:
        return self.processes[name].communicate(timeout=60)[0].strip()


@pytest.fixture
def builders(tmp_path: Path):  # type: ignore[no-untyped-def]
    several = Builders(tmp_path)
    yield several
    for process in several.processes.values():
        process.kill()
        process.communicate()


def test_a_second_process_waits_and_takes_what_the_first_made(builders: Builders) -> None:
    builders.start("first")
    builders.wait_for("first-begun")
    builders.start("second")
    assert not is_whole(builders.target)  # what is half made has another name
    assert not builders.target.exists()
    builders.release("first")
    assert builders.result("first") == "True first"
    assert builders.result("second") == "False first"
    assert not (builders.gates / "second-begun").exists()


def test_what_a_killed_process_left_is_neither_taken_nor_kept(builders: Builders) -> None:
    builders.start("first")
    builders.wait_for("first-begun")
    builders.start("second")
    builders.processes["first"].send_signal(signal.SIGKILL)
    builders.processes["first"].wait(timeout=60)
    builders.wait_for("second-begun")  # the lock of the dead is free
    builders.release("second")
    assert builders.result("second") == "True second"
    assert sorted(path.name for path in builders.target.parent.iterdir()) == ["made", "made.lock"]
