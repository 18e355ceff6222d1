"""`start_ray`: `ray.init` that waits longer for a slow machine, tries a second time, and fails with one sentence."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import ray
import ray._private.node as ray_node
from ray._private import services

from serve_app.errors import Unavailable

# Ray gives its node 30 s, and has no option for it (ray/_private/node.py); `launch` sets those of its processes
WAIT_S = 120.0
_TRIES = 2
_POLL_S = 0.2


class _TooSlow(Exception):
    """Ray's node did not answer in time."""


class _Died(Exception):
    """A process of Ray ended while the others were starting."""


def start_ray(wait_s: float = WAIT_S, **options: Any) -> None:
    """Start Ray on this machine, as `ray.init(**options)`.

    Args:
        wait_s: for the node to register, each time; after the first time it is started anew.

    Raises:
        Unavailable: it can't be started; the message says why and what to do.
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        nodes: list[ray_node.Node] = []
        try:
            _init(nodes, wait_s, options)
            return
        except Exception as error:  # Ray raises its own, Exception itself, and those of the system
            for node in nodes:
                with contextlib.suppress(Exception):
                    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            ray.shutdown()
            if last or not _is_slowness(error):
                raise Unavailable(_sentence(error, nodes, wait_s, options)) from error
            for node in nodes:
                shutil.rmtree(node.get_session_dir_path(), ignore_errors=True)
            sys.stderr.write(f"serve-app: Ray did not start within {wait_s:g} s; trying once more\n")


def _init(nodes: list[ray_node.Node], wait_s: float, options: dict[str, Any]) -> None:
    class PatientNode(ray_node.Node):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            nodes.append(self)
            super().__init__(*args, **kwargs)

        def start_ray_processes(self) -> None:
            super().start_ray_processes()
            give_up = time.monotonic() + wait_s
            while time.monotonic() < give_up:
                if dead := self.dead_processes():
                    if _waited_in_vain(self):
                        raise _TooSlow
                    raise _Died(", ".join(sorted({str(kind) for kind, _ in dead})))
                with contextlib.suppress(RuntimeError):  # it has not registered yet
                    services.get_node(self.gcs_address, self.node_id)
                    return
                time.sleep(_POLL_S)
            raise _TooSlow

    original = ray_node.Node
    ray_node.Node = PatientNode  # type: ignore[misc]
    try:
        ray.init(**options)
    finally:
        ray_node.Node = original  # type: ignore[misc]


def _waited_in_vain(node: ray_node.Node) -> bool:
    """Return whether the raylet ended because its agents were not there in time (`agent_register_timeout_ms`)."""
    logs = Path(node.get_logs_dir_path()).glob("raylet*.err")
    return any("Timed out waiting for" in log.read_text(encoding="utf-8", errors="replace") for log in logs)


def _is_slowness(error: Exception) -> bool:
    return isinstance(error, _TooSlow) or "timed out" in str(error).lower()


def _sentence(error: Exception, nodes: list[ray_node.Node], wait_s: float, options: dict[str, Any]) -> str:
    folder = options.get("_temp_dir", "its folder")
    logs = ""
    with contextlib.suppress(Exception):  # a node that ended early has no folder yet
        logs = f" Its logs are in {nodes[-1].get_logs_dir_path()}."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"Ray can't start: no space is left for its files in {folder}. Free some, or name another --ray-dir."
    if _is_slowness(error):
        return (
            f"Ray did not start within {wait_s:g} s, {_TRIES} times: this machine is too busy, or has too little "
            f"memory. End other programs, or give fewer cores (--num-cpus), and start again.{logs}"
        )
    if isinstance(error, _Died):
        return (
            f"Ray can't start: its process {error} ended at once. Look for the reason in its log, and make sure that "
            f"{folder} and /dev/shm have room.{logs}"
        )
    first_line = (str(error).strip().splitlines() or [""])[0][:300]
    return f"Ray can't start ({type(error).__name__}: {first_line}).{logs}"
