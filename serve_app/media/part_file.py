"""`PartFile`: a growing download; `FetchLimits`: its size, time and number of tries."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from serve_app.errors import MediaTooLarge, NoRoomYet, StorageUnavailable, errno_text
from serve_app.sentences import Sentence
from serve_app.threads import FILES

Progress = Callable[[int, int | None], None]

_FLUSH_BYTES = 1 << 20  # one hop to a thread per MiB, not per network packet
_HEAD_BYTES = 512
FULL_BYTES = 64 << 20  # a disk with less free is full: other downloads will not fit either
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_RETRY_AFTER_S = 30.0
_MARKUP = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of one download."""

    max_bytes: int = 4 << 30
    total_s: float = 3600.0  # for one file, tries and waits included
    stall_s: float = 30.0  # without a byte
    connect_s: float = 10.0
    least_bytes_per_s: float = 24_000.0  # a link of 256 kbit/s carries about 30 kB/s
    rate_window_s: float = 60.0  # a server may be this much behind the least rate
    num_tries: int = 3
    backoff_s: float = 1.0  # wait before the second try; doubles then, with a jitter of up to the first wait
    max_wait_s: float = 30.0  # a server that asks for a longer wait (Retry-After) is not tried again
    max_redirects: int = 5


class PartFile:
    """`<destination>.part`, which becomes the destination when it is complete. For one writer.

    Disk errors become StorageUnavailable: the disk is ours; NoRoomYet where the file itself fills it. More than
    `max_bytes` raise MediaTooLarge.

    Args:
        on_progress: called with (bytes so far, expected bytes or None) about once per MiB.
    """

    def __init__(self, destination: Path, max_bytes: int, on_progress: Progress | None = None) -> None:
        self._destination = destination
        self._path = destination.with_name(destination.name + ".part")
        self._max_bytes = max_bytes
        self._on_progress = on_progress
        self._file: BinaryIO | None = None
        self._pending = bytearray()
        self.num_bytes = 0
        self.expected_bytes: int | None = None
        self.head = b""

    def expect(self, num_bytes: int | None) -> None:
        """Note the size that the source declares; refuse a file at once that can't fit.

        Raises:
            MediaTooLarge: it exceeds the limit, or would not fit on the whole disk.
            NoRoomYet: the disk is not full, and has not enough room for it now.
            StorageUnavailable: the disk is full.
        """
        self.expected_bytes = num_bytes
        if num_bytes is None:
            return
        self.check_size(num_bytes)
        try:
            disk = shutil.disk_usage(self._destination.parent)
        except OSError as error:
            raise _disk_failed(error) from error
        if num_bytes - self.num_bytes <= disk.free:
            return
        if num_bytes > disk.total:
            raise MediaTooLarge(
                Sentence(
                    "The file is larger than the disk of {megabytes:.0f} MiB for downloads",
                    megabytes=disk.total / 2**20,
                )
            )
        if disk.free >= FULL_BYTES:
            raise NoRoomYet(
                Sentence(
                    "The disk that takes downloads has {free:.0f} MiB free, and the file has {size:.0f} MiB",
                    free=disk.free / 2**20,
                    size=num_bytes / 2**20,
                ),
                _RETRY_AFTER_S,
            )
        raise StorageUnavailable(_DISK_FULL, _RETRY_AFTER_S)

    async def write(self, chunk: bytes) -> None:
        self.num_bytes += len(chunk)
        self.check_size(self.num_bytes)
        if len(self.head) < _HEAD_BYTES:
            self.head += chunk[: _HEAD_BYTES - len(self.head)]
        self._pending += chunk
        if len(self._pending) >= _FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        await self._to_disk(self._append, pending)
        if self._on_progress is not None:
            self._on_progress(self.num_bytes, self.expected_bytes)

    async def restart(self) -> None:
        """Begin the file anew."""
        self._pending.clear()
        self.num_bytes, self.head = 0, b""
        await self._to_disk(self._truncate)

    async def finish(self) -> None:
        """Rename the file to the destination."""
        await self.flush()
        await self._to_disk(self._publish)

    def discard(self) -> None:
        """Remove the partial file, if there is one."""
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)

    def looks_like_html(self, content_type: str) -> bool:
        """Return whether the file is a web page, by its markup, or by its declared type if it is text."""
        start = self.head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        declared = content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")
        return start.startswith(_MARKUP) or (declared and b"\0" not in self.head)

    def check_size(self, num_bytes: int) -> None:
        """Raise MediaTooLarge where so many bytes are too many."""
        if num_bytes > self._max_bytes:
            raise MediaTooLarge(
                Sentence("The file is larger than the limit of {megabytes:.0f} MiB", megabytes=self._max_bytes / 2**20)
            )

    async def _to_disk(self, action: Callable[..., None], *args: object) -> None:
        try:
            await FILES.run(action, *args)
        except OSError as error:
            if error.errno in _NO_SPACE and self.num_bytes >= FULL_BYTES:
                # of unknown length, and itself what fills the disk, which has room again once it is removed
                raise NoRoomYet(
                    Sentence(
                        "The disk that takes downloads has no room for a file of more than {megabytes} MiB",
                        megabytes=self.num_bytes >> 20,
                    ),
                    _RETRY_AFTER_S,
                ) from error
            raise _disk_failed(error) from error

    def _append(self, data: bytearray) -> None:
        self._opened().write(data)

    def _publish(self) -> None:
        self._opened().close()
        os.replace(self._path, self._destination)

    def _truncate(self) -> None:
        file = self._opened()
        file.seek(0)
        file.truncate()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = self._path.open("wb", buffering=0)
        return self._file


_DISK_FULL = Sentence("No space is left on the disk that takes downloads; free some, or lower the size limit")


def _disk_failed(error: OSError) -> StorageUnavailable:
    full = error.errno in _NO_SPACE
    sentence = _DISK_FULL if full else Sentence("The download could not be written: {reason}", reason=errno_text(error))
    return StorageUnavailable(sentence, _RETRY_AFTER_S)
