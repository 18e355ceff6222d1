"""`built_folder`: makes a folder once for all processes of a machine, whole or not at all.

The folder is built under another name and renamed when it is complete, under a lock that the operating system releases
when a process dies. Its manifest, written last, names every file with its size. A folder that has lost a file, or part
of one, is therefore built again.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from serve_app.errors import ModelLoadingError
from serve_app.sentences import Sentence

MANIFEST = ".manifest.json"
# longer than downloading or converting a large model takes on a slow machine
_LONGEST_WAIT_S = 3600.0
_BUILDING = ".building"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # or the user's quota is used up


def built_folder(target: Path, build: Callable[[Path], None]) -> bool:
    """Fill the folder by `build` unless it is there whole; return whether this call did.

    Args:
        target: the folder; its name must depend on everything that its content depends on.
        build: fills an empty folder; its errors are raised here, and leave nothing behind.

    Raises:
        ModelLoadingError: the cache can't be written or is full, or another process has held the lock for an hour.
    """
    if is_whole(target):  # without a lock, so that a cache that may only be read serves too
        return False
    with _locked(target):
        if is_whole(target):
            return False
        building = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}{_BUILDING}")
        try:
            with _disk_errors(target.parent):
                _clear(target)
                building.mkdir()
            with _disk_errors(target.parent, only=DISK_FULL):
                build(building)
            with _disk_errors(target.parent):
                _seal(building)
                os.replace(building, target)
                _sync(target.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return True


def is_whole(target: Path) -> bool:
    """Return whether the folder has every file that its manifest names, in the size that it had."""
    try:
        sizes = json.loads((target / MANIFEST).read_text("utf-8"))["sizes"]
        return bool(sizes) and all((target / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of a folder. The lock's file stays: removing it could give two processes a lock each."""
    with _disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{target.name}.lock"))
        try:
            lock.acquire(timeout=_LONGEST_WAIT_S)
        except Timeout as error:
            raise ModelLoadingError(
                Sentence(
                    "Another process has been making {target} for {longest_wait_s:.0f} minutes; end it and try again",
                    target=target,
                    longest_wait_s=_LONGEST_WAIT_S / 60,
                )
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(folder: Path, only: Collection[int] | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        raise ModelLoadingError(
            Sentence(
                "{folder} can't be written ({reason}); free space there, or let SERVE_APP_MODELS_DIR name a folder "
                "that this user may write",
                folder=folder,
                reason=error.strerror or error,
            )
        ) from error


def _clear(target: Path) -> None:
    """Remove a damaged folder and the remains of processes that died; the lock keeps other builders out."""
    for left in target.parent.glob(f"{glob.escape(target.name)}.*{_BUILDING}"):
        shutil.rmtree(left, ignore_errors=True)
    if target.exists():
        aside = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}{_BUILDING}")
        os.replace(target, aside)  # at once: no reader may meet a half removed folder
        shutil.rmtree(aside, ignore_errors=True)


def _seal(folder: Path) -> None:
    """Write everything to the disk, then the manifest: after a power cut no empty file may look whole."""
    sizes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            sizes[str(path.relative_to(folder))] = path.stat().st_size
            if not path.is_symlink():
                _sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"sizes": sizes}, indent=2), "utf-8")
    _sync(manifest)
    _sync(folder)


def _sync(path: Path) -> None:
    with suppress(OSError):  # some file systems can't, e.g. for folders; the sizes are checked all the same
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
