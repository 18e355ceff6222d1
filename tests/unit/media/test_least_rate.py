"""Servers that send too little, by a simulated clock; and over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import DownloadError, DownloadInterrupted
from serve_app.media.address_policy import AddressPolicy
from serve_app.media.fetch import FetchedFile, FetchSources, fetch
from serve_app.media.least_rate import LeastRate
from serve_app.media.part_file import FetchLimits
from tests.unit.media.scripted_server import Reply, ScriptedServer, answer

LIMITS = FetchLimits()
TOO_SLOW = "The server sends less than 24 kB/s"


class SteppingClock:
    """Each reading is `step_s` later than the last one, so each wait takes that long."""

    def __init__(self, step_s: float) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def receive(num_bytes: int, step_s: float, most_s: float, first_bytes: int = 1) -> None:
    """Receive some bytes every `step_s`, for `most_s` seconds."""
    rate = LeastRate(LIMITS.least_bytes_per_s, LIMITS.rate_window_s, SteppingClock(step_s))
    rate.add(first_bytes)

    async def wait() -> None:
        spent_s = 0.0
        while spent_s < most_s:
            spent_s += step_s
            async with rate.waiting():
                pass
            rate.add(num_bytes)

    asyncio.run(wait())


def test_slow_mobile_link_passes() -> None:
    receive(30_000, 1.0, most_s=3600.0)  # what 256 kbit/s carry
    receive(29 * 24_000, 29.0, most_s=3600.0)  # in bursts


@pytest.mark.parametrize("first_bytes", [1, 4 << 30], ids=["slow from the start", "after a fast start"])
@pytest.mark.parametrize(("num_bytes", "step_s"), [(1, 1.0), (1, 29.0), (1000, 1.0), (0, 20.0)])
def test_dripping_server_is_given_up_after_the_window(num_bytes: int, step_s: float, first_bytes: int) -> None:
    window_s = LIMITS.rate_window_s / (1 - num_bytes / step_s / LIMITS.least_bytes_per_s)
    receive(num_bytes, step_s, most_s=window_s - 2 * step_s, first_bytes=first_bytes)
    with pytest.raises(DownloadError, match=TOO_SLOW):
        receive(num_bytes, step_s, most_s=window_s + step_s, first_bytes=first_bytes)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def get(url: str, folder: Path, limits: FetchLimits = LIMITS, **options: Any) -> FetchedFile:
    async def no_wait(_: float) -> None:
        return None

    sources = FetchSources(AddressPolicy(("127.0.0.1",)))
    return asyncio.run(fetch(url, folder / "file", sources=sources, limits=limits, sleep=no_wait, **options))


def refusal(url: str, folder: Path, limits: FetchLimits = LIMITS, **options: Any) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        get(url, folder, limits, **options)
    assert list(folder.iterdir()) == []
    return caught.value


def dripping(release: threading.Event, *, fast: bytes = b"", drops_after: int = 1 << 30) -> Reply:
    """Send `fast`, and then single bytes, until the client leaves or so many of them were sent."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 30))
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        try:
            handler.wfile.write(fast)
            for _ in range(drops_after):
                if release.wait(0.01):
                    return
                handler.wfile.write(b"x")
        except OSError:
            pass

    return reply


@pytest.mark.parametrize("fast", [b"", b"f" * (3 << 20)])
def test_dripping_body_is_given_up(
    server: ScriptedServer, tmp_path: Path, release: threading.Event, fast: bytes
) -> None:
    clock = SteppingClock(29.0)
    error = refusal(server.on("/v", dripping(release, fast=fast)), tmp_path, clock=clock)
    assert (type(error), error.detail) == (DownloadError, TOO_SLOW)
    assert len(server.requests) == 1


def test_drops_do_not_begin_the_window_anew(server: ScriptedServer, tmp_path: Path, release: threading.Event) -> None:
    clock = SteppingClock(10.0)  # each wait; a try has one for the head of the answer and at least one for its body
    limits = replace(LIMITS, num_tries=1000)
    error = refusal(server.on("/v", dripping(release, drops_after=1)), tmp_path, limits, clock=clock)
    assert (type(error), error.detail) == (DownloadError, TOO_SLOW)
    assert len(server.requests) <= 4


def test_dripping_head_is_given_up(server: ScriptedServer, tmp_path: Path, release: threading.Event) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        try:
            while not release.wait(0.01):
                handler.wfile.write(b"x")
        except OSError:
            pass

    limits = replace(LIMITS, rate_window_s=0.5)
    error = refusal(server.on("/v", reply), tmp_path, limits)
    assert (type(error), error.detail) == (
        DownloadInterrupted,
        "The server did not answer in time (waiting for data)",
    )
    assert len(server.requests) == 1


def test_waits_between_tries_do_not_count(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/v", answer(503, Retry_After="30"), answer(503, Retry_After="30"), answer(200, b"RIFF"))
    assert get(url, tmp_path, clock=SteppingClock(0.001)).num_bytes == 4


def test_dripping_s3_is_given_up(
    s3_bucket: Any,
    server: ScriptedServer,
    tmp_path: Path,
    release: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def head(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 30))
        handler.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        handler.end_headers()

    server.http.RequestHandlerClass.do_HEAD = head  # type: ignore[attr-defined]
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.on("/bucket/a.mp4", dripping(release))
    error = refusal("s3://bucket/a.mp4", tmp_path, clock=SteppingClock(15.0))
    assert (type(error), error.detail) == (DownloadError, TOO_SLOW)
    assert len(server.requests) == 1
