"""Servers of the burst, each on an address of its own in 127.0.0.0/8: silent ones, dripping ones, a receiver.

Addresses of their own, because the service may share out its places by resolved address.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from serve_app.commands.demo.receiver import CallbackReceiver, ReceivedCallback

_DRIP_S = 1.0


class SilentServer:
    """Accepts connections and never reads nor answers.

    Args:
        host: address to listen on.
    """

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0), backlog=128)
        self._accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def base_url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    @property
    def num_connections(self) -> int:
        """Connections that were made so far."""
        return len(self._accepted)

    def _accept(self) -> None:
        while True:
            try:
                self._accepted.append(self._listener.accept()[0])
            except OSError:  # closed
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in (self._listener, *self._accepted):
            each.close()


class DrippingServer:
    """Serves a video of a megabyte at one byte a second.

    Args:
        host: address to listen on.
    """

    def __init__(self, host: str) -> None:
        stopped = self._stopped = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "video/mp4")
                self.send_header("content-length", str(1 << 20))
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not stopped.wait(_DRIP_S):
                        self.wfile.write(b"R")
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One callback.

    Attributes:
        at_s: seconds of `time.monotonic`.
        webhook_id: of the event; the same when it comes again.
        sequence: the event's number in its job; 0 where the header is missing.
        status: of the payload.
        progress: of the payload.
    """

    at_s: float
    webhook_id: str
    sequence: int
    status: str
    progress: int | None


class NotedCallbacks(CallbackReceiver):
    """The demonstration's receiver; notes when each callback came."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self._arrivals: dict[str, list[Arrival]] = defaultdict(list)

    def _note(self, received: ReceivedCallback) -> int:
        payload = received.payload
        arrival = Arrival(
            time.monotonic(),
            received.webhook_id,
            int(received.headers.get("webhook-sequence", 0)),
            payload["status"],
            payload.get("progress"),
        )
        self._arrivals[payload["job_id"]].append(arrival)
        return 200

    def of(self, job_id: str) -> list[Arrival]:
        """Return a job's callbacks so far, in order of arrival."""
        return list(self._arrivals.get(job_id, ()))

    def ended_at_s(self, job_id: str) -> float | None:
        """Return when a job's last event came first; None: it has not come."""
        return next((each.at_s for each in self.of(job_id) if each.status != "processing"), None)
