"""The graph's processes during the burst: their peaks of memory, and which replicas ended."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loadtests.images.process_tree import tree

_EVERY_S = 0.5
_REPLICA = re.compile(r"ray::ServeReplica:serve_app:(\w+)")


@dataclass(slots=True)
class Seen:
    """One process.

    Attributes:
        pid: of it.
        name: a replica's deployment, whose child it is, or its command.
        is_replica: whether it is one.
        first_s, last_s: when it was seen, seconds of `time.monotonic`.
        peak_mb: of its resident memory, as the kernel has it, in megabytes.
    """

    pid: int
    name: str
    is_replica: bool
    first_s: float
    last_s: float
    peak_mb: float


class ProcessWatch:
    """Looks at every process of the graph twice a second.

    Args:
        root_pid: of the graph.
    """

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._seen: dict[int, Seen] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def seen(self) -> list[Seen]:
        """Return all processes that there were, the largest first."""
        return sorted(self._seen.values(), key=lambda each: -each.peak_mb)

    def peaks_mb(self) -> dict[str, float]:
        """Return the largest peak of each deployment's replicas."""
        peaks: dict[str, float] = {}
        for each in list(self._seen.values()):
            if each.is_replica:
                peaks[each.name] = max(peaks.get(each.name, 0.0), each.peak_mb)
        return peaks

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            for pid in tree(self._root_pid):
                self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has ended meanwhile
            return
        peak_kb = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
        if not peak_kb:  # it is ending
            return
        now_s = time.monotonic()
        parent = self._seen.get(next((int(line.split()[1]) for line in status.splitlines() if line[:5] == "PPid:"), 0))
        title = _REPLICA.search(command)
        # a process that a replica forked keeps its title
        is_replica = title is not None and not (parent is not None and parent.is_replica)
        seen = self._seen.get(pid)
        if seen is None or (is_replica and not seen.is_replica):  # Ray gives a waiting worker its title later
            name = title.group(1) if title is not None else command[:120]
            if not is_replica and parent is not None and parent.is_replica:
                name = f"child of {parent.name}"
            seen = self._seen[pid] = Seen(pid, name, is_replica, now_s, now_s, 0.0)
        seen.last_s = now_s
        seen.peak_mb = max(seen.peak_mb, peak_kb * 1024 / 1e6)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
