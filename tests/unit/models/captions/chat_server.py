"""A real HTTP server that speaks OpenAI's chat completions, and says what a test tells it to say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CAPTION = {"caption_ko": "고요한 바다입니다.", "caption_en": "A quiet sea.", "valence": 0.5, "arousal": -0.5}


@dataclass(frozen=True)
class Answer:
    """What the server says to one request."""

    status: int = 200
    body: Any = None  # JSON, or bytes as they are
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    trickle_s: float = 0.0  # between the bytes of the body
    hang_up: bool = False


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def says(content: Any, finish_reason: str = "stop", **message: Any) -> Answer:
    """Return a completion."""
    message = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Answer(body={"id": "x", "object": "chat.completion", "choices": [choice], "usage": {}})


def fails(status: int, code: str = "", message: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """Return an error as OpenAI writes it."""
    error = {"message": message or code, "type": code, "param": None, "code": code}
    return Answer(status, {"error": error}, headers or {})


GOOD = says(json.dumps(CAPTION))


class ChatServer:
    """Gives the answers of `script` one by one, and the last of them for ever.

    Attributes:
        requests: that came.
        most_at_once: requests that were open at the same time.
    """

    def __init__(self) -> None:
        self.script: list[Answer] = [GOOD]
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.requests.append(Request(handler.path, headers, body))
            answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        try:
            time.sleep(answer.after_s)
            if answer.hang_up:
                handler.close_connection = True
                return
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            handler.send_response(answer.status)
            handler.send_header("content-length", str(len(content)))
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            step = 1 if answer.trickle_s else max(1, len(content))
            for start in range(0, len(content), step):
                handler.wfile.write(content[start : start + step])
                time.sleep(answer.trickle_s)
        except OSError:
            pass  # the client has left
        finally:
            with self._lock:
                self._open -= 1

    @contextmanager
    def running(self) -> Iterator[ChatServer]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
