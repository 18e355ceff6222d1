"""Facts of a replica's process: its id, the device that Ray gave it, and its log."""

from __future__ import annotations

import ctypes
import logging
import os

import ray
from ray import serve

from serve_app.models.devices import AUTO

_M_MMAP_THRESHOLD = -3


def replica_id() -> str:
    """Return this replica's id; "" outside of Serve."""
    try:
        return serve.get_replica_context().replica_id.unique_id
    except Exception:  # outside of Serve there is no context, and Serve's exception for it has no public name
        return ""


def return_large_blocks() -> None:
    """Let glibc return each freed block above 1 MiB to the system; elsewhere, do nothing.

    glibc raises that bound to 32 MiB as such blocks are freed, and then keeps them: a replica that works on arrays of
    10 MB holds 70 MB more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def replica_device(name: str | None) -> str:
    """Return the device of this replica: `auto` is a GPU where Ray gave it one (`num_gpus`), else the CPU.

    Torch can't be asked: Ray hides no GPU from a replica without one.
    """
    if name not in (None, AUTO):
        return name
    if not (ray.is_initialized() and ray.get_runtime_context().get_accelerator_ids().get("GPU")):
        return "cpu"
    logging.getLogger("ray.serve").info("device auto: the GPU that Ray gave this replica")
    return "cuda"


def replica_cores() -> int | None:
    """Return how many cores Ray assigned to this replica (`num_cpus`); None: less than one, or outside of Ray."""
    if not ray.is_initialized():
        return None
    assigned = ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0)
    return int(assigned) if assigned >= 1 else None


def prepare_process() -> None:
    """Keep the files of this process for their owner alone, and join Serve's log."""
    os.umask(0o077)
    _join_serve_log()


def _join_serve_log() -> None:
    """Send the logger `serve_app` to the handlers of Serve's log; access lines only to its files.

    Serve adds handlers to its own logger only, so that a replica would lose INFO of any other. Ray copies a replica's
    terminal line by line to the driver's, which costs a small picture 1 of its 9 ms of CPU.
    """
    ours, serves = logging.getLogger("serve_app"), logging.getLogger("ray.serve")
    ours.setLevel(logging.INFO)
    ours.handlers = list(serves.handlers)
    ours.propagate = False
    access = logging.getLogger("serve_app.access")
    # FileHandler is a StreamHandler, too; the terminal's handler is a plain one
    files = [handler for handler in serves.handlers if type(handler) is not logging.StreamHandler]
    access.handlers, access.propagate = (files, False) if files else ([], True)
