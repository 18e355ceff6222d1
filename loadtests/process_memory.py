"""Memory and CPU of a graph's processes, by kind."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import psutil

_KINDS = [
    (r"ray::ServeReplica:serve_app:(\w+)", None),
    (r"ray::ServeController", "Serve controller"),
    (r"ray::ProxyActor", "Serve proxy (fall-back)"),
    (r"ray::HAProxyManager", "HAProxy manager"),
    (r"haproxy", "HAProxy"),
    (r"ray::DashboardAgent", "Ray dashboard agent"),
    (r"ray::RuntimeEnvAgent", "Ray runtime-env agent"),
    (r"gcs_server", "Ray GCS"),
    (r"raylet", "Ray raylet"),
    (r"dashboard\.py", "Ray dashboard"),
    (r"monitor\.py", "Ray monitors"),
    (r"ray::IDLE|default_worker", "Ray idle workers"),
    (r"serve_app run", "driver"),
]


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """All processes of one kind.

    Attributes:
        name: of the kind.
        rss_mb: resident memory; pages shared between processes count in each.
        pss_mb: proportional: shared pages count once over all.
        peak_mb: sum of the peaks of resident memory since each process started.
        cpu_s: CPU seconds since each process started.
    """

    name: str
    rss_mb: float
    pss_mb: float
    peak_mb: float
    cpu_s: float


def process_groups(root_pid: int) -> list[ProcessGroup]:
    """Return the kinds of processes below `root_pid`, itself included, largest first."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    root = psutil.Process(root_pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
            times = process.cpu_times()
            with open(f"/proc/{process.pid}/status") as status:
                peak_kb = next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
            values = (memory.rss / 1e6, memory.pss / 1e6, peak_kb / 1e3, times.user + times.system)
            name = _kind(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
        sums[name] = [total + value for total, value in zip(sums[name], values, strict=True)]
    return sorted((ProcessGroup(name, *values) for name, values in sums.items()), key=lambda group: -group.pss_mb)


def _kind(command: str) -> str:
    for pattern, name in _KINDS:
        if match := re.search(pattern, command):
            return name or match.group(1)
    return command[:40]
