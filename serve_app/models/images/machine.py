"""The machine that engines are measured on: its processor, and how many cores a process may use."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def available_cores() -> int:
    """Return how many cores this process may keep busy: by its affinity, and by its container's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    quota = quota_cores()
    return cores if quota is None else max(1, min(cores, int(quota)))


def quota_cores(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many cores the container's control group allows; None: it sets no limit."""
    for paths in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # of cgroups 2, and 1
        try:
            quota, period = " ".join((root / path).read_text("ascii") for path in paths).split()
            if float(quota) > 0:
                return float(quota) / float(period)
        except (OSError, ValueError):  # not this version of cgroups; "max" is no limit
            continue
    return None


def machine(cores: int) -> dict[str, Any]:
    """Return everything beside the model that its times on at most so many cores depend on."""
    lines = _cpuinfo().splitlines()
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "cpu": [known.get(name, "") for name in ("model name", "cpu family", "model", "stepping", "flags")],
        "cores": [cores, available_cores(), os.cpu_count()],
        "quota": quota_cores(),
        "libraries": {name: _version(name) for name in ("onnxruntime", "openvino", "torch")},
    }


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
