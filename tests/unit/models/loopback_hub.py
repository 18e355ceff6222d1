"""A hub of our own on loopback, for the real client."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

COMMITS = {"main": "a" * 40, "v2": "b" * 40}


class Hub:
    """Serves one repository, `org/model`, as the hub does."""

    def __init__(self) -> None:
        self.files = {"config.json": b"{}", "model.safetensors": b"weights", "onnx/model.onnx": b"other"}
        self.sent: dict[str, bytes] = {}  # instead of what the hub tells
        self.cut: dict[str, int] = {}  # the next answer's body ends there
        self.ranges: list[tuple[str, int]] = []
        self.refusal: tuple[int, str] | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # no connection, and no thread, is kept for the next request

            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = handler.path.partition("?")[0]
        self.requests.append((handler.command, path, handler.headers.get("authorization")))
        if self.refusal is not None:
            self.send(handler, self.refusal[0], b"", with_body, {"X-Error-Code": self.refusal[1]})
        elif path.startswith("/api/models/org/model"):
            revision = path.partition("/revision/")[2] or "main"
            if revision not in {*COMMITS, *COMMITS.values()}:
                self.send(handler, 404, b"", with_body, {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = [self.sibling(name) for name in self.files]
            about = {"id": "org/model", "sha": COMMITS.get(revision, revision), "siblings": siblings}
            self.send(handler, 200, json.dumps(about).encode(), with_body, {"Content-Type": "application/json"})
        elif path.startswith("/org/model/resolve/"):
            commit, _, name = path.removeprefix("/org/model/resolve/").partition("/")
            if name not in self.files:
                self.send(handler, 404, b"", with_body, {"X-Error-Code": "EntryNotFound"})
                return
            told = self.sibling(name)
            headers = {
                "ETag": f'"{told["lfs"]["sha256"] if "lfs" in told else told["blobId"]}"',
                "X-Repo-Commit": commit,
            }
            body = self.sent.get(name, self.files[name])
            begin = int((handler.headers.get("range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            if begin:
                headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
                self.ranges.append((name, begin))
            cut_at = self.cut.pop(name, None) if with_body else None
            self.send(handler, 206 if begin else 200, body[begin:], with_body, headers, cut_at)
        else:
            self.send(handler, 404, b"", with_body, {"X-Error-Code": "RepoNotFound"})

    def sibling(self, name: str) -> dict[str, object]:
        """Tell of a file what the hub tells: the SHA-256 of weights, git's blob id of the rest."""
        body = self.files[name]
        told: dict[str, object] = {"rfilename": name, "size": len(body)}
        told["blobId"] = hashlib.sha1(b"blob %d\0%b" % (len(body), body)).hexdigest()
        if not name.endswith((".json", ".txt", ".md")):
            told["lfs"] = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
        return told

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        with_body: bool,
        headers: dict[str, str],
        cut_at: int | None = None,
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if with_body:
            handler.wfile.write(body[:cut_at])
        handler.close_connection = cut_at is not None

    def downloads(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for verb, path, _ in self.requests if verb == "GET" and "resolve" in path)


@contextmanager
def hub_on_loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve a hub that the client in this process asks instead of the real one."""
    serving = Hub()
    thread = threading.Thread(target=serving.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", serving.url)
    template = serving.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "users-own"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    try:
        yield serving
    finally:
        serving.http.shutdown()
        serving.http.server_close()
        thread.join()
