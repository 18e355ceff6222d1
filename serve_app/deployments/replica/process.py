"""A replica's process: its id, the device that Ray gave it, and its log."""

from __future__ import annotations

import logging

import ray
from ray import serve

from serve_app.models.devices import AUTO


def replica_id() -> str:
    """Return this replica's id; "" outside of Serve."""
    try:
        return serve.get_replica_context().replica_id.unique_id
    except Exception:  # outside of Serve there is no context, and Serve's exception for it has no public name
        return ""


def replica_device(name: str | None) -> str:
    """Return where this replica computes: `auto` is a GPU where Ray gave it one (`num_gpus`), else the CPU.

    What torch sees does not tell: Ray hides no GPU from a replica that was given none.
    """
    if name not in (None, AUTO):
        return name
    if not (ray.is_initialized() and ray.get_runtime_context().get_accelerator_ids().get("GPU")):
        return "cpu"
    logging.getLogger("ray.serve").info("device auto: the GPU that Ray gave this replica")
    return "cuda"


def join_serve_log() -> None:
    """Send everything under the logger `serve_app` to where Serve's own log goes; access lines to its files alone.

    Serve sets handlers up for its own logger only; without this, INFO of any other logger is lost in a replica. What a
    replica writes to its terminal Ray carries line by line to the driver's: of a small picture's 9 ms of CPU, 1 went
    there.
    """
    ours, serves = logging.getLogger("serve_app"), logging.getLogger("ray.serve")
    ours.setLevel(logging.INFO)
    ours.handlers = list(serves.handlers)
    ours.propagate = False
    access = logging.getLogger("serve_app.access")
    # FileHandler is a StreamHandler, too: the terminal's is the plain one
    files = [handler for handler in serves.handlers if type(handler) is not logging.StreamHandler]
    access.handlers, access.propagate = (files, False) if files else ([], True)
