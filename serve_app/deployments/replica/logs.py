"""Where our own loggers write inside a replica."""

from __future__ import annotations

import logging


def join_serve_log() -> None:
    """Send everything under the logger `serve_app` to where Serve's own log goes; access lines to its files alone.

    Serve sets handlers up for its own logger only; without this, INFO of any other logger is lost in a replica. What a
    replica writes to its terminal Ray carries line by line to the driver's: of a small picture's 9 ms of CPU, 1 went
    there.
    """
    ours, serve = logging.getLogger("serve_app"), logging.getLogger("ray.serve")
    ours.setLevel(logging.INFO)
    ours.handlers = list(serve.handlers)
    ours.propagate = False
    access = logging.getLogger("serve_app.access")
    # FileHandler is a StreamHandler, too: the terminal's is the plain one
    files = [handler for handler in serve.handlers if type(handler) is not logging.StreamHandler]
    access.handlers, access.propagate = (files, False) if files else ([], True)
