"""The growing file by itself."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from serve_app.errors import MediaTooLarge, NoRoomYet, StorageUnavailable
from serve_app.media.part_file import PartFile


def test_destination_keeps_its_old_content_until_the_new_one_is_whole(tmp_path: Path) -> None:
    destination = tmp_path / "file"
    destination.write_bytes(b"old")

    async def download() -> None:
        part = PartFile(destination, 100)
        await part.write(b"first try")
        await part.restart()
        await part.write(b"new")
        await part.flush()
        assert destination.read_bytes() == b"old"
        assert (tmp_path / "file.part").read_bytes() == b"new"
        await part.finish()
        part.discard()

    asyncio.run(download())
    assert destination.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_limit_holds_for_what_is_declared_and_for_what_comes(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "file", 10)
    part.expect(10)
    with pytest.raises(MediaTooLarge):
        part.expect(11)
    asyncio.run(part.write(b"x" * 10))
    with pytest.raises(MediaTooLarge):
        asyncio.run(part.write(b"x"))
    part.discard()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_missing_is_the_storages_fault(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "none" / "file", 10)
    with pytest.raises(StorageUnavailable, match="could not be written: No such file"):
        asyncio.run(part.finish())
    part.discard()


@pytest.mark.parametrize(("room", "kind"), [(1 << 20, StorageUnavailable), (300 << 20, NoRoomYet)])
def test_file_that_fills_the_disk_itself_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, kind: type[StorageUnavailable]
) -> None:
    """A server that does not say how long its file is could else pause all claims with one address."""
    written = 0

    def append(self: PartFile, data: bytearray) -> None:
        nonlocal written
        written += len(data)
        if written > room:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(PartFile, "_append", append)

    async def download() -> None:
        part = PartFile(tmp_path / "file", 4 << 30)
        part.expect(None)
        while True:
            await part.write(bytes(1 << 22))

    with pytest.raises(StorageUnavailable) as caught:
        asyncio.run(download())
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("head", "content_type", "expected"),
    [
        (b"<!DOCTYPE HTML>", "", True),
        (b"\r\n\t<html>", "application/octet-stream", True),
        (b"hello", "text/html;charset=utf-8", True),
        (b"hello", "text/plain", False),
        (b"\0\0\0\x20ftypisom", "text/html", False),
        (b"", "video/mp4", False),
    ],
)
def test_web_pages_are_told_from_media(tmp_path: Path, head: bytes, content_type: str, expected: bool) -> None:
    part = PartFile(tmp_path / "file", 100)
    part.head = head
    assert part.looks_like_html(content_type) is expected
