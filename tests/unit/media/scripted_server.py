"""A real HTTP server on loopback whose every path is a function of the test."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = Callable[[BaseHTTPRequestHandler], None]


class ScriptedServer:
    """Answers a path by its list of replies, one per request; the last one repeats."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                scripted.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                queue = scripted.replies.get(path)
                if queue is None:
                    answer(404, b"no such page")(self)
                    return
                (queue.pop(0) if len(queue) > 1 else queue[0])(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def on(self, path: str, *replies: Reply) -> str:
        self.replies[path] = list(replies)
        return self.url + path


def answer(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> Reply:
    """Reply with a body, and perhaps with a Content-Length that is not its own."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        if length is not None and length > len(body):
            handler.close_connection = True

    return reply
