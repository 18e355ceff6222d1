"""s3:// against a real S3 server."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
from serve_app.media.fetch import FetchedFile, FetchSources, fetch
from serve_app.media.part_file import FetchLimits, PartFile
from tests.unit.media.scripted_server import ScriptedServer, answer

BODY = bytes(range(256)) * 12_000


async def no_wait(delay_s: float) -> None:
    return None


def get(url: str, folder: Path, limits: FetchLimits | None = None) -> FetchedFile:
    return asyncio.run(
        fetch(url, folder / "file", sources=FetchSources(), limits=limits or FetchLimits(), sleep=no_wait)
    )


def refusal(kind: type[ServeAppError], url: str, folder: Path, limits: FetchLimits | None = None) -> str:
    with pytest.raises(kind) as caught:
        get(url, folder, limits)
    assert type(caught.value) is kind
    assert list(folder.iterdir()) == []
    assert "very-secret" not in caught.value.detail
    return caught.value.detail


def test_object_arrives_whole(s3_bucket: Any, tmp_path: Path) -> None:
    for key in ("talk.mp4", "a folder/회의 (1)?#.mp4"):
        s3_bucket.put_object(Key=key, Body=BODY, ContentType="video/mp4")
        fetched = get(f"s3://bucket/{key}", tmp_path)
        assert fetched.path.read_bytes() == BODY
        assert fetched.content_type == "video/mp4"
    assert get("s3://bucket/talk.mp4", tmp_path).filename == "talk.mp4"


@pytest.mark.parametrize("url", ["s3://bucket/none.mp4", "s3://no-such-bucket/a.mp4", "s3://bucket/folder"])
def test_what_is_not_there_is_a_404(s3_bucket: Any, tmp_path: Path, url: str) -> None:
    s3_bucket.put_object(Key="folder/inside", Body=b"x")
    assert refusal(DownloadError, url, tmp_path) == "404 Not Found"


def test_object_over_the_limit_is_refused_before_it_is_read(s3_bucket: Any, tmp_path: Path) -> None:
    s3_bucket.put_object(Key="large", Body=BODY)
    assert "limit of 1 MiB" in refusal(MediaTooLarge, "s3://bucket/large", tmp_path, FetchLimits(max_bytes=1 << 20))


def test_web_page_in_a_bucket_is_refused(s3_bucket: Any, tmp_path: Path) -> None:
    s3_bucket.put_object(Key="page", Body=b"<html>expired</html>")
    assert "web page" in refusal(DownloadError, "s3://bucket/page", tmp_path)


@pytest.mark.parametrize(
    "url", ["s3://", "s3://bucket", "s3://bucket/", "s3://b/x", "s3://a@b/c", "s3://169.254.169.254:80/x", "s3:///key"]
)
def test_malformed_url_is_refused(tmp_path: Path, url: str) -> None:
    assert "s3://bucket/key" in refusal(AddressRefused, url, tmp_path)


def test_missing_credentials_are_named(s3_bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_ACCESS_KEY_ID" in refusal(DownloadError, "s3://bucket/a", tmp_path)


def test_forbidden_object_is_named(
    s3_bucket: Any, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.http.RequestHandlerClass.do_HEAD = lambda handler: answer(403)(handler)  # type: ignore[attr-defined]
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.on("/bucket", answer(403, b"<Error><Code>AccessDenied</Code></Error>"))
    assert refusal(DownloadError, "s3://bucket/a.mp4", tmp_path).startswith("403 Forbidden")


def test_dead_endpoint_is_a_passing_fault(
    s3_bucket: Any, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.http.server_close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    assert "can't be reached" in refusal(DownloadInterrupted, "s3://bucket/a", tmp_path)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    assert "pip install 'serve_app[s3]'" in refusal(DownloadError, "s3://bucket/a", tmp_path)


def test_full_disk_here_is_no_fault_of_s3(s3_bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DownloadError would end the job for good; the storage's fault hands it back."""
    s3_bucket.put_object(Key="large", Body=BODY)

    def full(self: PartFile, data: bytearray) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(PartFile, "_append", full)
        assert "No space is left" in refusal(StorageUnavailable, "s3://bucket/large", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=1 << 40, free=1 << 20))
    refusal(StorageUnavailable, "s3://bucket/large", tmp_path)
    monkeypatch.setattr("serve_app.media.part_file.FULL_BYTES", 1)
    refusal(NoRoomYet, "s3://bucket/large", tmp_path)
