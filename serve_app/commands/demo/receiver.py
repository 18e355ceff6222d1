"""`CallbackReceiver` and `FileServer`: real HTTP servers, each on a free port of the loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

CALLBACK_PATH = "/api/upload-video/result"


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """One POST: its path, its headers by lower-case name, and the raw bytes that its signature covers."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def webhook_id(self) -> str:
        """The same when a callback is sent again."""
        return self.headers.get("webhook-id", "")


class _LoopbackServer:
    """An HTTP server on a free port of the loopback, in a thread, while it is entered."""

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class CallbackReceiver(_LoopbackServer):
    """Accepts callbacks and keeps them in order of arrival.

    Args:
        answer: returns the HTTP status of each answer. It may sleep, or raise to drop the connection without an
            answer: the callback is kept all the same, as a receiver's database would.
    """

    def __init__(self, answer: Callable[[ReceivedCallback], int] = lambda received: 200) -> None:
        self._answer = answer
        self._received: list[ReceivedCallback] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                received = ReceivedCallback(self.path, headers, body)
                status = receiver._keep(received)
                if status:
                    self.send_response(status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                else:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(Handler)

    def _keep(self, received: ReceivedCallback) -> int:
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()
        try:
            return self._answer(received)
        except Exception:
            return 0

    def received(self, job_id: str) -> list[ReceivedCallback]:
        """Return the callbacks of a job so far, in order."""
        return [received for received in list(self._received) if received.payload.get("job_id") == job_id]

    def wait_for(
        self, job_id: str, until: Callable[[list[ReceivedCallback]], bool], timeout_s: float
    ) -> list[ReceivedCallback]:
        """Return a job's callbacks once `until` holds for them; TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: until(self.received(job_id)), timeout_s):
                seen = [(each.payload.get("status"), each.payload.get("progress")) for each in self.received(job_id)]
                raise TimeoutError(f"job {job_id}: only {seen} came in {timeout_s:.0f} s")
        return self.received(job_id)

    def arriving(self, job_id: str, timeout_s: float) -> Iterator[ReceivedCallback]:
        """Yield a job's callbacks as they arrive, up to the last; TimeoutError."""
        num_seen = 0
        deadline = time.monotonic() + timeout_s
        while True:
            wanted = num_seen + 1
            found = self.wait_for(job_id, lambda found: len(found) >= wanted, deadline - time.monotonic())  # noqa: B023
            yield from found[num_seen:]
            num_seen = len(found)
            if is_final(found[-1].payload):
                return

    def wait_until_final(self, job_id: str, timeout_s: float) -> list[ReceivedCallback]:
        """Return all callbacks of a job, up to its last; TimeoutError."""
        return self.wait_for(job_id, lambda found: any(is_final(each.payload) for each in found), timeout_s)


def is_final(payload: dict[str, Any]) -> bool:
    """Return whether a callback is its job's last."""
    return payload.get("status") in ("completed", "failed", "cancelled")


class FileServer(_LoopbackServer):
    """Serves a folder over HTTP on the loopback."""

    def __init__(self, folder: Path) -> None:
        super().__init__(partial(_QuietFileHandler, directory=str(folder)))


class _QuietFileHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
