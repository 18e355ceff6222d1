"""What a replica tells of the model that it serves."""

from __future__ import annotations

import os
import socket

from ray import serve

from serve_app.services import ReplicaModel


def replica_facts(
    *,
    spec: str,
    model_version: str | None,
    engine: str,
    device: str,
    loaded_at: float,
    notes: tuple[str, ...] = (),
    failure: str | None = None,
) -> ReplicaModel:
    """Return what this replica serves, for a model that is loaded once and not exchanged while it serves.

    Args:
        spec: what names its weights in the configuration.
        model_version: None where none could be loaded.
        engine: library that runs it.
        device: that it computes on.
        loaded_at: seconds since the epoch.
        notes: about the model.
        failure: why none could be loaded.
    """
    return ReplicaModel(
        replica=replica_id(),
        node=socket.gethostname(),
        pid=os.getpid(),
        spec=spec,
        model_version=model_version,
        sha256=None,
        architecture=None,
        engine=engine if model_version else None,
        device=device,
        warm=model_version is not None,
        loaded_at=loaded_at if model_version else None,
        max_difference=None,
        notes=notes,
        failure=failure,
    )


def replica_id() -> str:
    """Return this replica's id; "" outside of Serve."""
    try:
        return serve.get_replica_context().replica_id.unique_id
    except Exception:  # outside of Serve there is no context, and Serve's exception for it has no public name
        return ""
