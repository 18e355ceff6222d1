"""Tests that leave threads or processes behind fail, and are told what they left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import left_behind
from tests.left_behind import Running

ROOT = Path(__file__).parents[2]

TESTS = """
import subprocess, sys, threading
import pytest

def test_thread():
    threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()

def test_process():
    subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

@pytest.fixture
def ended():
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    yield
    event.set()
    thread.join()

def test_good(ended):
    subprocess.run([sys.executable, "-c", ""], check=True)

def test_failing(ended):
    assert False, "its own failure"
"""


def test_a_test_that_leaves_something_behind_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests import left_behind\nfrom tests.conftest import _ends_all_it_starts\nleft_behind.GRACE_S = 0.2\n"
    )
    (tmp_path / "test_some.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rEfp", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    told = done.stdout
    assert "1 failed, 3 passed, 2 errors" in told, told + done.stderr
    assert "ERROR test_some.py::test_thread" in told
    assert "ERROR test_some.py::test_process" in told
    assert "thread 'forgotten' of threading.Thread stands at:" in told
    assert "in wait" in told
    assert "-c input()" in told
    assert "FAILED test_some.py::test_failing - AssertionError: its own failure" in told


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server that keeps its connections open."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_connection_to_a_server_that_was_there_is_the_servers(server: ThreadingHTTPServer) -> None:
    before = Running.now()
    with socket.create_connection(server.server_address[:2]) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(1)
        assert len(threading.enumerate()) > len(before.threads)
        assert before.left_behind() == []


def test_a_thread_that_ends_in_time_is_waited_for() -> None:
    before = Running.now()
    event = threading.Event()
    threading.Thread(target=event.wait).start()
    threading.Timer(0.05, event.set).start()
    assert before.left_behind() == []


def test_an_executor_that_nobody_holds_has_ended() -> None:
    before = Running.now()
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    del pool
    assert before.left_behind() == []


def test_an_executor_that_is_held_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_behind, "GRACE_S", 0.05)
    before = Running.now()
    with ThreadPoolExecutor(1, thread_name_prefix="held") as pool:
        pool.submit(int).result()
        [told] = before.left_behind()
    assert told.startswith("thread 'held_0' ")
    assert before.left_behind() == []
