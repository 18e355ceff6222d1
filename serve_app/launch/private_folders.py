"""Folders that only this user may enter: the state, and a cluster's folder with its token and sockets."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serve_app.errors import InvalidRequest

OWN_FILES = 0o077  # umask: files and folders are for their owner alone
_STATE_NAMES = ("jobs.sqlite3*", "artifacts", "incoming", "models", "demo", "run")
_INSTEAD = "name one of your own, or, in a container that no other user enters, set SERVE_APP_CHECK_FOLDERS=off"
_GROUP_WRITES, _OTHERS_WRITE = stat.S_IWGRP, stat.S_IWOTH


def private_folder(path: Path, what: str, *, checked: bool = True) -> Path:
    """Return the absolute path of a folder that is this user's alone; it is made if it is not there.

    A folder that others could only read is closed to them.

    Args:
        what: for errors, as "The state folder".
        checked: False where the operator says that no other user reaches it, as in a container with a mounted volume.

    Raises:
        InvalidRequest: it, or a folder above it, belongs to another user, can be written by others, or it is a link.
    """
    path = Path(os.path.abspath(path))  # not resolved: a link in its place must be seen
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise InvalidRequest(f"{what} {path} can't be made: {error.strerror or error}") from error
    if not checked:
        return path
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise InvalidRequest(f"{what} {path} is a link or no folder, and may lead to another user's: name a folder")
    if found.st_uid != os.geteuid():
        raise InvalidRequest(f"{what} {path} belongs to another user (uid {found.st_uid}): {_INSTEAD}")
    if _is_written_by_others(found):
        raise InvalidRequest(
            f"{what} {path} can be written by other users (mode {stat.S_IMODE(found.st_mode):o}): remove it or name "
            "another one; after a look at what is in it, `chmod 700` makes it yours alone; in a container that no "
            "other user enters, set SERVE_APP_CHECK_FOLDERS=off"
        )
    for above in path.resolve().parents:
        _check_above(above, what, path)
    if found.st_mode & OWN_FILES:
        path.chmod(0o700)
    return path


def _check_above(folder: Path, what: str, path: Path) -> None:
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise InvalidRequest(
            f"{what} {path} lies in {folder}, which belongs to another user (uid {found.st_uid}): {_INSTEAD}"
        )
    if _is_written_by_others(found) and not found.st_mode & stat.S_ISVTX:
        raise InvalidRequest(
            f"{what} {path} lies in {folder}, where other users can replace it (mode "
            f"{stat.S_IMODE(found.st_mode):o}): {_INSTEAD}"
        )


def _is_written_by_others(found: os.stat_result) -> bool:
    # many systems give each user a group of their own, and let it write
    is_own_group = found.st_gid in (0, os.getegid())
    return bool(found.st_mode & _OTHERS_WRITE or (found.st_mode & _GROUP_WRITES and not is_own_group))


def close_to_others(state: Path) -> int:
    """Take all rights of other users from what this service made in its state folder; return how many were changed.

    Links are not followed. Files that vanish meanwhile, or belong to another user, are passed over.
    """
    changed = 0
    for path in (each for pattern in _STATE_NAMES for top in state.glob(pattern) for each in _from(top)):
        try:
            found = path.lstat()
            if found.st_uid == os.geteuid() and found.st_mode & OWN_FILES and not stat.S_ISLNK(found.st_mode):
                path.chmod(stat.S_IMODE(found.st_mode) & ~OWN_FILES)
                changed += 1
        except FileNotFoundError:
            continue
    return changed


def _from(top: Path) -> Iterator[Path]:
    yield top
    for parent, folders, files in os.walk(top):
        for name in (*folders, *files):
            yield Path(parent, name)


def cluster_folder(state: Path, port: int, *, checked: bool = True) -> Path:
    """Return the folder of the cluster on a port: one with a random name, which `state`/run/PORT links to.

    A running cluster's sockets need a short path, and a name that nobody can guess in a folder of everybody.

    Args:
        state: the state folder, which is private.
        checked: as of `private_folder`.

    Raises:
        InvalidRequest: as `private_folder`.
    """
    link = private_folder(state / "run", "The folder of running clusters", checked=checked) / str(port)
    if link.is_symlink() and link.is_dir():
        return private_folder(Path(os.readlink(link)), "The cluster's folder", checked=checked)
    link.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="serve_app-"))
    link.symlink_to(folder)
    return private_folder(folder, "The cluster's folder")


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read, in a private folder; what is there is replaced."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
