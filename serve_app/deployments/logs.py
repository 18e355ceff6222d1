"""Where our own loggers write inside a replica."""

from __future__ import annotations

import logging


def join_serve_log() -> None:
    """Send everything under the logger `serve_app`, access lines included, to where Serve's own log goes.

    Serve sets handlers up for its own logger only; without this, INFO of any other logger is lost in a replica.
    """
    ours, serve = logging.getLogger("serve_app"), logging.getLogger("ray.serve")
    ours.setLevel(logging.INFO)
    ours.handlers = list(serve.handlers)
    ours.propagate = False
