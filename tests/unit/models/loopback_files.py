"""A file server on loopback that can cut answers off, and knows ranges if it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Files:
    """What is served: path → bytes.

    Attributes:
        files: by path, with the leading slash.
        cut: by path, where the bodies of the next answers end.
        with_ranges: whether it answers ranges with 206.
        requests: (path with query, Range or None), in order.
        url: without a trailing slash.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, list[int]] = {}
        self.with_ranges = True
        self.requests: list[tuple[str, str | None]] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *args: None  # type: ignore[method-assign]  # a client that had enough
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        asked = handler.headers.get("range")
        self.requests.append((handler.path, asked))
        body = self.files.get(path)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.with_ranges else 0
        status = 404 if body is None else 416 if begin and begin >= len(body) else 206 if begin else 200
        content = (body or b"")[begin:] if status in (200, 206) else b""
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        if path.endswith("/"):
            handler.send_header("Content-Type", "text/html")
        if status == 206:
            handler.send_header("Content-Range", f"bytes {begin}-{len(body or b'') - 1}/{len(body or b'')}")
        handler.end_headers()
        cut_at = self.cut[path].pop(0) if self.cut.get(path) else None
        handler.wfile.write(content[:cut_at])
        handler.close_connection = cut_at is not None


@contextmanager
def files_on_loopback() -> Iterator[Files]:
    """Serve files until the block ends."""
    served = Files()
    thread = threading.Thread(target=served.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.http.shutdown()
        served.http.server_close()
        thread.join()
