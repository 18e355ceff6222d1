"""`listening_host`: the address on which Serve takes HTTP requests, as a replica learns it."""

from __future__ import annotations

import logging

import ray
from ray.serve.context import _get_global_client

logger = logging.getLogger("ray.serve")


def listening_host() -> str | None:
    """Return `http_options.host` of the running Serve; None: it can't be known.

    Only the controller knows it: `serve run`, `serve deploy` and KubeRay hand it the options, and fill in defaults that
    differ. HAProxy, the proxies behind it and the replicas that HAProxy reaches directly all listen there. Ray 2.60 has
    no public way to ask.
    """
    try:
        if not ray.is_initialized():
            return None
        client = _get_global_client()
        host: str | None = client.http_config.host if client is not None else None
    except Exception:
        logger.exception("Serve did not tell on which address it listens")
        return None
    return host
