"""Finding and ending a graph's processes, as an out-of-memory killer or a power cut would."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil

from serve_app.commands.demo.local_graph import LocalGraph


def replicas(graph: LocalGraph, deployment: str) -> list[int]:
    """Return the process ids of a deployment's replicas."""
    title = f"ray::ServeReplica:serve_app:{deployment}"
    found = []
    for process in psutil.Process(graph.pid).children(recursive=True):
        try:
            command = " ".join(process.cmdline()).strip()
        except psutil.Error:
            continue
        # a replica that runs a method shows it behind the name
        if command == title or command.startswith((f"{title} ", f"{title}.", f"{title}:")):
            found.append(process.pid)
    return found


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)


def wait_until(what: str, holds: Callable[[], object], timeout_s: float, every_s: float = 0.02) -> None:
    """Poll until `holds()` is true; TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(every_s)
