"""The media files of a folder, and how a changed one is known."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# What PyAV's FFmpeg commonly opens. The service decides by content; this only leaves out what lies beside recordings.
_AUDIO = "aac ac3 aif aiff amr au caf flac m4a mka mp2 mp3 oga ogg opus wav weba wma"
_VIDEO = "3gp avi flv m4v mkv mov mp4 mpeg mpg ogv ts webm wmv"
MEDIA_SUFFIXES = frozenset(f".{kind}" for kind in f"{_AUDIO} {_VIDEO}".split())


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One file of a run.

    Attributes:
        path: where it lies, absolute.
        name: its path below the folder, with slashes. Bytes that are no UTF-8 are surrogate escapes (PEP 383).
    """

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file's state. Size and time are looked at first: the content is read only where they differ."""

    num_bytes: int
    mtime_ns: int
    sha256: str


def find_media(folder: Path, *, recursive: bool, pattern: str | None, leave_out: frozenset[Path]) -> list[MediaFile]:
    """Return a folder's media files, sorted by name.

    Hidden files and folders are left out (macOS leaves `._talk.wav` beside `talk.wav` on foreign disks), and so is what
    is no regular file. Links to files are followed, links to folders are not.

    Args:
        folder: absolute.
        recursive: whether its folders are searched too.
        pattern: e.g. `*.wav` or `calls/*.ogg`, matched from the right; None: every common media suffix.
        leave_out: paths of the run's own files.

    Raises:
        OSError: a folder can't be read.
    """
    found = []
    for path in _walk(folder, recursive):
        name = path.relative_to(folder).as_posix()
        wanted = path.suffix.lower() in MEDIA_SUFFIXES if pattern is None else PurePosixPath(name).match(pattern)
        if wanted and path not in leave_out and path.is_file():
            found.append(MediaFile(path, name))
    return sorted(found, key=lambda file: file.name)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield Path(parent, name)


def take_fingerprint(path: Path) -> Fingerprint:
    """Read a file and return its state; OSError if it can't be read."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        return Fingerprint(status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())


def compare(path: Path, known: Fingerprint) -> Fingerprint | None:
    """Return a file's state if its content is what it was (with its new time, if it was only touched), else None.

    Raises:
        OSError: the file can't be read.
    """
    status = path.stat()
    if status.st_size != known.num_bytes:
        return None
    if status.st_mtime_ns == known.mtime_ns:
        return known
    now = take_fingerprint(path)
    return now if now.sha256 == known.sha256 else None


def readable_name(name: str) -> str:
    """Return a name that is valid UTF-8: bytes that are not become `\\xNN`, so that two names stay two names."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown(text: str) -> str:
    """Return a text that can do a terminal no harm: control, direction and other invisible characters are replaced."""
    return "".join("\ufffd" if unicodedata.category(char)[0] == "C" else char for char in text)
