"""CPU and memory of a server with everything that it started, read from /proc (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Stat:
    ppid: int
    session: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Of several processes together, in megabytes.

    Attributes:
        rss_mb: resident; pages shared between them count in each.
        pss_mb: proportional: shared pages count once.
    """

    rss_mb: float
    pss_mb: float


def tree(root_pid: int) -> tuple[int, ...]:
    """Return the ids of a process, its descendants, and all of its session: daemons outlive their parents."""
    return _tree(root_pid, _stats())


def tree_cpu_s(root_pid: int) -> float:
    """Return the CPU seconds of a tree, with what its ended children took."""
    stats = _stats()
    return sum(stats[pid].cpu_s for pid in _tree(root_pid, stats))


def memory(pids: Iterable[int]) -> Memory:
    """Return what those of the processes that still run take."""
    rss_kb = pss_kb = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:  # it has ended meanwhile, or has no memory of its own
            continue
        values = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
        rss_kb += int(values["Rss"])
        pss_kb += int(values["Pss"])
    return Memory(rss_kb * 1024 / 1e6, pss_kb * 1024 / 1e6)


def machine_cpu_s() -> float:
    """Return the CPU seconds that all processes of the machine have had."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq = (int(value) for value in file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


def _tree(root_pid: int, stats: dict[int, _Stat]) -> tuple[int, ...]:
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.ppid, []).append(pid)
    # a process that leads no session has that of whoever started it, and us with it
    leads = root_pid in stats and stats[root_pid].session == root_pid
    found = {pid for pid, stat in stats.items() if leads and stat.session == root_pid}
    waiting = [root_pid, *found]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += [child for child in children.get(pid, ()) if child not in found]
    return tuple(sorted(found & stats.keys()))


def _stats() -> dict[int, _Stat]:
    stats = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                # the command's name is in brackets and may hold anything
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        cpu_s = sum(int(value) for value in fields[11:15]) / _TICKS_PER_S
        stats[int(name)] = _Stat(int(fields[1]), int(fields[3]), cpu_s)
    return stats
