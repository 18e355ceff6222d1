"""Fetching over real sockets: what arrives, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import shutil
import threading
import time
import unicodedata
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from serve_app.errors import (
    AddressRefused,
    DownloadError,
    DownloadInterrupted,
    MediaTooLarge,
    NoRoomYet,
    ServeAppError,
    StorageUnavailable,
)
from serve_app.media import fetch as fetch_module
from serve_app.media.address_guard import AddressPolicy
from serve_app.media.fetch import FetchedFile, FetchSources, display_name, fetch
from serve_app.media.part_file import FetchLimits, PartFile
from tests.unit.media.scripted_server import ScriptedServer, answer

BODY = bytes(range(256)) * 12_000  # 3 MB, no two aligned MiB alike at their ends
LIMITS = FetchLimits(max_bytes=10 << 20, total_s=60.0, stall_s=10.0, connect_s=10.0)
IMPATIENT = replace(LIMITS, stall_s=0.3)
LOOPBACK = FetchSources(policy=AddressPolicy(("127.0.0.0/8",)))


class Waits(list[float]):
    """Stands in for asyncio.sleep and remembers how long it should have slept."""

    async def __call__(self, delay_s: float) -> None:
        self.append(delay_s)


def get(
    url: str,
    folder: Path,
    *,
    sources: FetchSources = LOOPBACK,
    limits: FetchLimits = LIMITS,
    waits: Waits | None = None,
    progress: list[tuple[int, int | None]] | None = None,
) -> FetchedFile:
    on_progress = None if progress is None else lambda done, total: progress.append((done, total))
    sleep = Waits() if waits is None else waits
    return asyncio.run(
        fetch(url, folder / "file", sources=sources, limits=limits, on_progress=on_progress, sleep=sleep)
    )


def refusal(kind: type[ServeAppError], url: str, folder: Path, **options: object) -> str:
    """Return the words in which a URL is refused; nothing may be left of the download."""
    with pytest.raises(kind) as caught:
        get(url, folder, **options)  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []
    assert type(caught.value) is kind
    return caught.value.detail


def test_file_arrives_whole_with_name_type_and_progress(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/a/my%20video.mp4", answer(200, BODY, Content_Type="video/mp4; x=y"))
    progress: list[tuple[int, int | None]] = []
    fetched = get(url + "?X-Amz-Signature=secret", tmp_path, progress=progress)
    assert fetched == FetchedFile(tmp_path / "file", len(BODY), "my video.mp4", "video/mp4")
    assert fetched.path.read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert progress[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert server.requests[0][1]["accept-encoding"] == "identity"


def test_signature_of_a_presigned_url_is_not_logged(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.on("/v", answer(302, Location="/w?X-Amz-Signature=secret"))
    server.on("/w", answer(200, BODY))
    with caplog.at_level("INFO"):
        get(url + "?X-Amz-Signature=secret", tmp_path)
    assert "/w" in caplog.text
    assert "secret" not in caplog.text


def test_404_reads_as_the_contract_says(server: ScriptedServer, tmp_path: Path) -> None:
    assert refusal(DownloadError, server.url + "/none.mp4?token=secret", tmp_path) == "404 Not Found"
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "words"), [(401, "401 Unauthorized"), (403, "403 Forbidden"), (410, "410 Gone")])
def test_client_error_is_final(server: ScriptedServer, tmp_path: Path, status: int, words: str) -> None:
    assert refusal(DownloadError, server.on("/x", answer(status)), tmp_path) == words
    assert len(server.requests) == 1


def test_passing_fault_is_retried_and_retry_after_respected(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/v", answer(503, Retry_After="7"), answer(429, Retry_After="0"), answer(200, BODY))
    waits = Waits()
    assert get(url, tmp_path, waits=waits).num_bytes == len(BODY)
    assert waits[0] == 7.0
    assert 2.0 <= waits[1] <= 3.0  # 1 s doubled, with up to 1 s of jitter


def test_three_tries_and_no_more(server: ScriptedServer, tmp_path: Path) -> None:
    waits = Waits()
    assert refusal(DownloadInterrupted, server.on("/v", answer(502)), tmp_path, waits=waits) == "502 Bad Gateway"
    assert (len(server.requests), len(waits)) == (3, 2)


def test_server_that_wants_an_hour_is_not_tried_again(server: ScriptedServer, tmp_path: Path) -> None:
    refusal(DownloadInterrupted, server.on("/v", answer(503, Retry_After="3600")), tmp_path)
    assert len(server.requests) == 1


def ranged(body: bytes, etag: str) -> object:
    """Serve what a Range and If-Range header ask for, as a static file server does."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        if asked and handler.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            answer(206, body[start:], Content_Range=span, ETag=etag)(handler)
        else:
            answer(200, body, ETag=etag)(handler)

    return reply


def test_drop_in_the_middle_is_resumed(server: ScriptedServer, tmp_path: Path) -> None:
    broken = answer(200, BODY[:1_500_000], length=len(BODY), ETag='"v1"')
    url = server.on("/v", broken, ranged(BODY, '"v1"'))
    assert get(url, tmp_path).path.read_bytes() == BODY
    assert server.requests[1][1]["range"] == "bytes=1500000-"
    assert server.requests[1][1]["if-range"] == '"v1"'


def test_changed_file_is_not_joined_to_its_old_half(server: ScriptedServer, tmp_path: Path) -> None:
    other = bytes(reversed(BODY))
    url = server.on("/v", answer(200, BODY[:1_500_000], length=len(BODY), ETag='"v1"'), ranged(other, '"v2"'))
    assert get(url, tmp_path).path.read_bytes() == other


REST = {"Content_Range": f"bytes 9000-{len(BODY) - 1}/{len(BODY)}"}


def ago(seconds: float) -> str:
    return formatdate(time.time() - seconds, usegmt=True)


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ({"ETag": '"v1"'}, {**REST, "ETag": '"v2"'}),
        ({"ETag": '"v1"'}, {**REST, "ETag": 'W/"v1"'}),
        ({"ETag": '"v1"'}, REST),
        ({"ETag": '"v1"'}, {**REST, "ETag": '"v1"', "Content_Range": f"bytes 9000-{len(BODY) - 1}/{len(BODY) + 1}"}),
        ({"ETag": '"v1"'}, {**REST, "ETag": '"v1"', "Content_Range": f"bytes 9001-{len(BODY)}/{len(BODY)}"}),
        ({"ETag": '"v1"'}, {**REST, "ETag": '"v1"', "Content_Range": f"bytes 9000-{len(BODY)}/{len(BODY)}"}),
        ({"ETag": '"v1"'}, {**REST, "ETag": '"v1"', "Content_Range": "bytes 9000-8999/*"}),
        ({"ETag": '"v1"'}, {**REST, "ETag": '"v1"', "Content_Range": f"bytes 9000-9999/{'9' * 5000}"}),
        ({"ETag": '"v1"'}, {**REST, "ETag": '"v1"', "Content_Encoding": "gzip"}),
        (
            {"Last_Modified": ago(3600)},
            {"Last_Modified": ago(3500), **REST},
        ),
    ],
    ids=["other etag", "weak etag", "no etag", "other size", "other start", "end after the size", "no size",
         "size of 5000 digits", "compressed", "other time"],
)  # fmt: skip
def test_rest_of_another_file_is_not_joined(
    server: ScriptedServer, tmp_path: Path, first: dict[str, str], rest: dict[str, str]
) -> None:
    other = bytes(reversed(BODY))
    replies = [answer(200, BODY[:9000], length=len(BODY), **first), answer(206, other[9000:], **rest)]
    assert get(server.on("/v", *replies, answer(200, other)), tmp_path).path.read_bytes() == other
    assert [request.get("if-range") for _, request in server.requests] == [None, *list(first.values())[:1], None]


def test_file_of_a_known_age_is_resumed_by_its_time(server: ScriptedServer, tmp_path: Path) -> None:
    headers = {"Last_Modified": ago(3600)}
    url = server.on(
        "/v", answer(200, BODY[:9000], length=len(BODY), **headers), answer(206, BODY[9000:], **headers, **REST)
    )
    assert get(url, tmp_path).path.read_bytes() == BODY
    assert server.requests[1][1]["if-range"] == headers["Last_Modified"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Last_Modified": ago(-3600)},  # also where this runs long after it was written down
        {"Last_Modified": "yesterday"},
        {"Last_Modified": ago(3600), "ETag": 'W/"v1"'},
        {"ETag": '"\xe9"'},
    ],
    ids=["too young", "no time", "weak etag", "not ASCII"],
)  # fmt: skip
def test_drop_with_a_weak_validator_starts_again(
    server: ScriptedServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    url = server.on("/v", answer(200, BODY[:9000], length=len(BODY), **headers), answer(200, BODY))
    assert get(url, tmp_path).path.read_bytes() == BODY
    assert "range" not in server.requests[1][1]


def test_validator_is_not_sent_to_another_address(server: ScriptedServer, tmp_path: Path) -> None:
    server.on("/one", answer(200, BODY[:9000], length=len(BODY), ETag='"1"'))
    server.on("/two", answer(200, BODY, ETag='"1"'))
    url = server.on("/v", answer(302, Location="/one"), answer(302, Location="/two"))
    assert get(url, tmp_path).path.read_bytes() == BODY
    assert all("range" not in headers for _, headers in server.requests)


def test_part_that_was_not_asked_for_is_no_whole_file(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/v", answer(206, BODY[:9000], Content_Range=f"bytes 0-8999/{len(BODY)}"), answer(200, BODY))
    assert get(url, tmp_path).path.read_bytes() == BODY


def test_rest_in_two_parts_is_joined(server: ScriptedServer, tmp_path: Path) -> None:
    size = len(BODY)
    url = server.on(
        "/v",
        answer(200, BODY[:9000], length=size, ETag='"v1"'),
        answer(206, BODY[9000:9999], Content_Range=f"bytes 9000-9998/{size}", ETag='"v1"'),
        answer(206, BODY[9999:], Content_Range=f"bytes 9999-{size - 1}/{size}", ETag='"v1"'),
    )
    assert get(url, tmp_path).path.read_bytes() == BODY


def test_rest_that_is_longer_than_its_range_starts_again(server: ScriptedServer, tmp_path: Path) -> None:
    long = answer(206, BODY[9000:] + b"more", Content_Range=f"bytes 9000-{len(BODY) - 1}/{len(BODY)}", ETag='"v1"')
    url = server.on("/v", answer(200, BODY[:9000], length=len(BODY), ETag='"v1"'), long, answer(200, BODY))
    assert get(url, tmp_path).path.read_bytes() == BODY


def test_drop_without_validator_starts_again(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/v", answer(200, BODY[:9000], length=len(BODY), ETag='W/"weak"'), answer(200, BODY))
    assert get(url, tmp_path).path.read_bytes() == BODY
    assert "range" not in server.requests[1][1]


@pytest.mark.parametrize("second", [answer(416), answer(206, b"x" * 10, Content_Range="bytes 5-14/15")])
def test_useless_range_answer_starts_again(server: ScriptedServer, tmp_path: Path, second: object) -> None:
    first = answer(200, BODY[:9000], length=len(BODY), ETag='"v1"')
    assert get(server.on("/v", first, second, answer(200, BODY)), tmp_path).path.read_bytes() == BODY


def test_declared_size_over_the_limit_is_refused_before_the_body(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/v", answer(200, b"x", length=11 << 20))
    assert refusal(MediaTooLarge, url, tmp_path) == "The file is larger than the limit of 10 MiB"


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Declare no length and never stop by itself."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    try:
        for _ in range(64):
            handler.wfile.write(b"\0" * (1 << 20))
    except OSError:
        pass
    handler.close_connection = True


def test_undeclared_size_over_the_limit_is_refused(server: ScriptedServer, tmp_path: Path) -> None:
    assert "limit of 10 MiB" in refusal(MediaTooLarge, server.on("/v", endless), tmp_path)


def test_decompression_bomb_is_stopped_at_the_limit(server: ScriptedServer, tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * (200 << 20), compresslevel=1)
    url = server.on("/v", answer(200, bomb, Content_Encoding="gzip"))
    assert "limit of 10 MiB" in refusal(MediaTooLarge, url, tmp_path)


def test_compressed_bytes_count_too(server: ScriptedServer, tmp_path: Path) -> None:
    empty = gzip.compress(b"")
    url = server.on("/v", answer(200, empty * ((11 << 20) // len(empty)), Content_Encoding="gzip"))
    assert "limit of 10 MiB" in refusal(MediaTooLarge, url, tmp_path)


def test_gzip_in_members_is_whole(server: ScriptedServer, tmp_path: Path) -> None:
    members = gzip.compress(BODY[:1_000_000]) + gzip.compress(BODY[1_000_000:])
    url = server.on("/v", answer(200, members, Content_Encoding="gzip"))
    assert get(url, tmp_path).path.read_bytes() == BODY


def test_gzip_that_was_not_asked_for_is_undone(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/v", answer(200, gzip.compress(BODY), Content_Encoding="gzip"))
    assert get(url, tmp_path).path.read_bytes() == BODY


def test_other_encodings_are_refused(server: ScriptedServer, tmp_path: Path) -> None:
    assert "compressed the file (br)" in refusal(
        DownloadError, server.on("/v", answer(200, b"?", Content_Encoding="br")), tmp_path
    )


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\n  <!DOCTYPE html><html>log in</html>", "video/mp4"),
        (b"\xef\xbb\xbf<HTML lang='ko'>", ""),
        (b"please log in", "text/html; charset=utf-8"),
    ],
)
def test_web_page_is_refused(server: ScriptedServer, tmp_path: Path, body: bytes, content_type: str) -> None:
    url = server.on("/v", answer(200, body, Content_Type=content_type))
    assert "web page (HTML)" in refusal(DownloadError, url, tmp_path)


def test_media_under_the_wrong_type_is_accepted(server: ScriptedServer, tmp_path: Path) -> None:
    assert get(server.on("/v", answer(200, BODY, Content_Type="text/html")), tmp_path).num_bytes == len(BODY)


def silent(release: threading.Event) -> object:
    """Send the head of an answer and then nothing."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        release.wait(10)
        handler.close_connection = True

    return reply


def test_stalled_server_is_given_up(server: ScriptedServer, tmp_path: Path) -> None:
    release = threading.Event()
    try:
        words = refusal(DownloadInterrupted, server.on("/v", silent(release)), tmp_path, limits=IMPATIENT)
    finally:
        release.set()
    assert words == "The server did not answer in time (waiting for data)"
    assert len(server.requests) == 3


def test_dripping_server_is_given_up_after_the_total_time(server: ScriptedServer, tmp_path: Path) -> None:
    release = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        try:
            while not release.wait(0.05):
                handler.wfile.write(b"x")
        except OSError:
            pass
        handler.close_connection = True

    limits = FetchLimits(total_s=0.6, stall_s=0.3)
    try:
        words = refusal(DownloadError, server.on("/v", drip), tmp_path, limits=limits)
    finally:
        release.set()
    assert words == "The download did not finish within 0.6 s"


def test_redirect_is_followed_and_names_stay(server: ScriptedServer, tmp_path: Path) -> None:
    server.on("/b/c", answer(200, BODY))
    url = server.on("/a/talk.mp4", answer(302, Location="../b/c"))
    assert get(url, tmp_path).filename == "talk.mp4"


def test_redirect_to_a_private_address_is_refused(server: ScriptedServer, tmp_path: Path) -> None:
    for target in ("http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://0x7f.1/"):
        refusal(AddressRefused, server.on("/v", answer(302, Location=target)), tmp_path)
    assert len(server.requests) == 3


def test_redirect_to_another_scheme_is_refused(server: ScriptedServer, tmp_path: Path) -> None:
    words = refusal(AddressRefused, server.on("/v", answer(302, Location="file:///etc/passwd")), tmp_path)
    assert words.startswith("URL scheme 'file' is not allowed")
    for target in ("data:audio/wav;base64,UklGRg==", "mailto:a@b", "javascript:1"):
        words = refusal(DownloadError, server.on("/v", answer(302, Location=target)), tmp_path)
        assert words == "The server redirects to a malformed address"


def test_redirect_loop_ends(server: ScriptedServer, tmp_path: Path) -> None:
    assert refusal(DownloadError, server.on("/v", answer(302, Location="/v")), tmp_path) == "More than 5 redirects"
    assert len(server.requests) == 6


def test_refused_address_is_never_connected(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/v", answer(200, BODY))
    words = refusal(AddressRefused, url, tmp_path, sources=FetchSources())
    assert "SERVE_APP_ALLOWED_HOSTS" in words
    assert server.requests == []


def test_nobody_listening_is_a_passing_fault(server: ScriptedServer, tmp_path: Path) -> None:
    server.http.server_close()
    assert "can't be reached" in refusal(DownloadInterrupted, server.url + "/v", tmp_path)


def test_full_disk_is_named_and_leaves_nothing(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: PartFile, data: bytearray) -> None:
        self._opened().write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartFile, "_append", full)
    assert "No space is left" in refusal(StorageUnavailable, server.on("/v", answer(200, BODY)), tmp_path)


@pytest.mark.parametrize(
    ("total", "free", "kind", "words"),
    [
        (1 << 40, 1 << 20, StorageUnavailable, "No space is left"),
        (1 << 40, 1 << 30, NoRoomYet, "1024 MiB free, and the file has 2048 MiB"),
        (1 << 30, 1 << 29, MediaTooLarge, "larger than the disk of 1024 MiB"),
    ],
)
def test_file_that_does_not_fit_is_refused_first(
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    total: int,
    free: int,
    kind: type[ServeAppError],
    words: str,
) -> None:
    """A full disk stops the queue; a file that is too large for a disk that is not full stops no other."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=total, free=free))
    url = server.on("/v", answer(200, b"x", length=2 << 30))
    assert words in refusal(kind, url, tmp_path, limits=FetchLimits(max_bytes=4 << 30))


def test_cancelling_leaves_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    release = threading.Event()
    url = server.on("/v", silent(release))

    async def cancelled() -> None:
        task = asyncio.create_task(fetch(url, tmp_path / "file", sources=LOOPBACK))
        async with asyncio.timeout(5):
            while not server.requests:
                await asyncio.sleep(0.005)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    release.set()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def media_root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a b.wav").write_bytes(BODY)
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    return root


def test_local_file_under_the_media_root_is_copied(media_root: Path, tmp_path: Path) -> None:
    sources = FetchSources(media_root=media_root)
    folder = tmp_path / "out"
    folder.mkdir()
    for url in (f"{media_root}/sub/a b.wav", f"file://{media_root}/sub/a%20b.wav", "sub/a b.wav"):
        fetched = get(url, folder, sources=sources)
        assert fetched.path.read_bytes() == BODY
        assert fetched.filename == "a b.wav"
        assert fetched.content_type == "audio/x-wav"
    assert (media_root / "sub" / "a b.wav").exists()


@pytest.mark.parametrize(
    "url",
    ["../secret.wav", "link.wav", "up/secret.wav", "/etc/passwd", "file:///etc/passwd", "file://host/a", "a\0b",
     "sub/../../secret.wav", "/no/such/file"],
)  # fmt: skip
def test_local_path_outside_the_media_root_is_refused(media_root: Path, tmp_path: Path, url: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    refusal(AddressRefused, url, folder, sources=FetchSources(media_root=media_root))
    refusal(AddressRefused, url, folder, sources=FetchSources())


@pytest.mark.parametrize(
    ("url", "withheld"),
    [
        ("sub/a b.wav", "{root}/sub"),
        ("{root}/sub/../sub/a b.wav", "{root}/sub/"),
        ("s3://bucket/own/jobs/1-1/media", "s3://bucket/own"),
        ("S3://bucket//own/jobs/1-1/media", "s3://bucket/own/"),
        ("s3://bucket/anything", "s3://bucket"),
    ],
)
def test_the_services_own_store_is_no_source(media_root: Path, tmp_path: Path, url: str, withheld: str) -> None:
    sources = FetchSources(media_root=media_root, withheld=withheld.format(root=media_root))
    folder = tmp_path / "out"
    folder.mkdir()
    words = refusal(AddressRefused, url.format(root=media_root), folder, sources=sources)
    assert "service's own store" in words


def test_what_lies_beside_the_services_own_store_is_a_source(media_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    get("sub/a b.wav", folder, sources=FetchSources(media_root=media_root, withheld=f"{media_root}/su"))


@pytest.mark.parametrize("swapped", ["sub", "sub/a b.wav"])
def test_link_that_is_put_in_place_of_a_checked_path_is_not_followed(
    media_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a b.wav").write_bytes(b"secret")
    folder = tmp_path / "out"
    folder.mkdir()
    resolve = fetch_module._resolve_local

    def swap_after(url: str, root: Path | None, form: None) -> object:
        resolved = resolve(url, root, form)
        place = media_root / swapped
        place.rename(tmp_path / "moved")
        place.symlink_to(outside if swapped == "sub" else outside / "a b.wav")
        return resolved

    monkeypatch.setattr(fetch_module, "_resolve_local", swap_after)
    words = refusal(DownloadError, "sub/a b.wav", folder, sources=FetchSources(media_root=media_root))
    assert words.startswith("The local file can't be read")


def test_link_inside_the_media_root_is_followed(media_root: Path, tmp_path: Path) -> None:
    (media_root / "inner").symlink_to(media_root / "sub")
    folder = tmp_path / "out"
    folder.mkdir()
    assert get("inner/a b.wav", folder, sources=FetchSources(media_root=media_root)).path.read_bytes() == BODY


@pytest.mark.parametrize(("url", "words"), [("nothing.wav", "404"), ("fifo", "regular file"), ("sub", "regular file")])
def test_local_path_that_is_no_file(media_root: Path, tmp_path: Path, url: str, words: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert words in refusal(DownloadError, url, folder, sources=FetchSources(media_root=media_root))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/b.mp4?sig=x#y", "b.mp4"),
        ("https://h/%EC%98%81%EC%83%81.mp4", "영상.mp4"),
        ("https://h/", "media"),
        ("https://h/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://h/a%00%0a%1b[31m.mp4", "a[31m.mp4"),
        ("https://h/%E2%80%AEgpj.mp4", "gpj.mp4"),
        ("https://h/..", "media"),
        ("https://h/" + "x" * 300 + ".mp4", "x" * 116 + ".mp4"),
        ("s3://bucket/folder/a.wav", "a.wav"),
        ("http://[::1", "media"),
    ],
)
def test_display_name_is_safe(url: str, name: str) -> None:
    assert display_name(url) == name


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EMFILE, StorageUnavailable), (errno.ESTALE, StorageUnavailable), (errno.ENXIO, DownloadError)],
)
def test_process_without_file_handles_is_not_the_files_fault(
    media_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[ServeAppError]
) -> None:
    """ENXIO is what opening a socket in the media root gives: that is the caller's choice."""

    def fails(root: Path, path: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("serve_app.media.fetch._open_beneath", fails)
    folder = tmp_path / "out"
    folder.mkdir()
    refusal(kind, "sub/a b.wav", folder, sources=FetchSources(media_root=media_root))


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_a_local_name_is_found_however_it_is_composed(
    media_root: Path, tmp_path: Path, on_disk: Any, asked: Any
) -> None:
    name = "회의/한글 é.wav"
    path = media_root / unicodedata.normalize(on_disk, name)
    path.parent.mkdir()
    path.write_bytes(BODY)
    folder = tmp_path / "out"
    folder.mkdir()
    url = unicodedata.normalize(asked, name)
    for address in (url, f"file://{media_root}/{quote(url)}", f"file:{media_root}/{quote(url)}"):
        fetched = get(address, folder, sources=FetchSources(media_root=media_root))
        assert fetched.path.read_bytes() == BODY
        fetched.path.unlink()


@pytest.mark.parametrize("takes_paths", [False, True])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("data:audio/wav;base64,UklGRg==", "The scheme data: is not taken; use https://, http://"),
        ("DATA:,x", "The scheme data: is not taken"),
        ("ftp://example.org/a.wav", "The scheme ftp: is not taken"),
        ("blob:https://example.org/5e3a", "The scheme blob: is not taken"),
        ("gs://bucket/a.wav", "The scheme gs: is not taken"),
        ("rtsp://camera/1", "The scheme rtsp: is not taken"),
        ("s3a://bucket/a.wav", "The scheme s3a: is not taken"),
        ("urn:isbn:1", "The scheme urn: is not taken"),
        ("javascript:alert(1)", "The scheme javascript: is not taken"),
        ("magnet:?xt=urn:btih:1", "The scheme magnet: is not taken"),
        ("C:\\Users\\me\\a.wav", "a path of Windows"),
        ("c:/a.wav", "a path of Windows"),
        ("\\\\server\\share\\a.wav", "a path of Windows"),
        (f"{'x' * 50}://a", f"The scheme {'x' * 20}: is not taken"),
    ],
)
def test_a_foreign_scheme_is_refused_by_name(
    media_root: Path, tmp_path: Path, takes_paths: bool, url: str, told: str
) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    words = refusal(AddressRefused, url, folder, sources=FetchSources(media_root=media_root if takes_paths else None))
    assert told in words
    assert "no such file" not in words
    assert ("media root" in words) is (takes_paths and "Windows" not in words)


def test_a_local_name_with_a_colon_is_a_name(media_root: Path, tmp_path: Path) -> None:
    (media_root / "take:one.wav").write_bytes(BODY)
    fetched = get("take:one.wav", tmp_path, sources=FetchSources(media_root=media_root))
    assert fetched.path.read_bytes() == BODY
