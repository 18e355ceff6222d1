"""A small disk in memory that can be filled up."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
from pathlib import Path
from typing import Self

_AGAIN_S = 0.05  # what others free is taken at once
_FULL_S = 60.0


class MountRefused(RuntimeError):
    """Raised when this user may not mount; says why."""


class SmallDisk:
    """A tmpfs.

    Args:
        path: an empty folder to mount it on.
        size_mb: of it.
    """

    def __init__(self, path: Path, size_mb: int) -> None:
        self._path = path
        self._size_mb = size_mb
        self._filler = path / "filler"
        self._stop = threading.Event()
        self._is_full = threading.Event()
        self._thread: threading.Thread | None = None

    def fill(self) -> None:
        """Fill it up, and keep it full until `empty` is called."""
        self._stop.clear()
        self._is_full.clear()
        self._thread = threading.Thread(target=self._keep_full, daemon=True)
        self._thread.start()
        if not self._is_full.wait(_FULL_S):
            raise TimeoutError(f"{self._path} was not full within {_FULL_S:.0f} s")

    def empty(self) -> None:
        """Remove what filled it."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self._filler.unlink(missing_ok=True)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self._path)
        return found.f_bavail * found.f_frsize

    def _keep_full(self) -> None:
        with self._filler.open("ab", buffering=0) as file:
            while not self._stop.is_set():
                for num_bytes in (1 << 20, 1 << 12):
                    try:
                        while file.write(bytes(num_bytes)) == num_bytes:
                            pass
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                self._is_full.set()
                self._stop.wait(_AGAIN_S)

    def __enter__(self) -> Self:
        self._path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size_mb}m,mode=0700", "tmpfs", str(self._path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        except FileNotFoundError as error:
            raise MountRefused("there is no `mount` here") from error
        if done.returncode:
            raise MountRefused(done.stderr.strip() or f"mount ended with {done.returncode}")
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(OSError):
            self.empty()
        # lazily: a process that is ending may still have a file open
        subprocess.run(["umount", "-l", str(self._path)], capture_output=True, timeout=30)
