"""Real servers on the loopback, and waiting without sleeping."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

DEADLINE_S = 20.0


def until(condition: Callable[[], bool], what: str, *, within_s: float = DEADLINE_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        threading.Event().wait(0.005)


@contextmanager
def serving(app: Any, port: int = 0) -> Iterator[int]:
    """Serve an app on loopback; yields the port."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started, "server up")
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
