"""Answers that a server compressed, in every form and cut anywhere."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from serve_app.errors import DownloadError, DownloadInterrupted
from serve_app.media.content_encoding import inflated

BODY = bytes(range(256)) * 40
MEMBERS = gzip.compress(BODY[:4000]) + gzip.compress(b"") + gzip.compress(BODY[4000:])


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def inflate(answer: bytes, encoding: str, chunk_bytes: int = 1 << 16) -> bytes:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(answer), chunk_bytes):
            yield answer[start : start + chunk_bytes]

    async def collect() -> bytes:
        return b"".join([step async for step in inflated(chunks(), encoding)])

    return asyncio.run(collect())


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    ("answer", "encoding"),
    [
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY), "x-gzip"),
        (MEMBERS, "gzip"),
        (gzip.compress(BODY) + b"\0" * 1000, "gzip"),
        (gzip.compress(BODY[:9]) + b"\0" * 500 + gzip.compress(BODY[9:]), "gzip"),
        (zlib.compress(BODY), "deflate"),
        (raw_deflate(BODY), "deflate"),
    ],
    ids=["gzip", "x-gzip", "members", "padding", "padded members", "zlib", "raw deflate"],
)
def test_content_is_whole(answer: bytes, encoding: str, chunk_bytes: int) -> None:
    assert inflate(answer, encoding, chunk_bytes) == BODY


@pytest.mark.parametrize(
    ("answer", "encoding"),
    [
        (gzip.compress(BODY) + b"more", "gzip"),
        (zlib.compress(BODY) + b"more", "deflate"),
        (zlib.compress(BODY), "gzip"),
        (gzip.compress(BODY)[:-8] + b"\0" * 8, "gzip"),
        (b"plain text", "gzip"),
    ],
    ids=["goes on", "zlib goes on", "zlib as gzip", "wrong checksum", "not compressed"],
)
def test_damage_is_told(answer: bytes, encoding: str) -> None:
    for chunk_bytes in (1, 1 << 16):
        with pytest.raises(DownloadError, match="compressed answer is damaged"):
            inflate(answer, encoding, chunk_bytes)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_answer_that_is_cut_off_is_told(encoding: str) -> None:
    whole = MEMBERS if encoding == "gzip" else zlib.compress(BODY)
    ends = {len(gzip.compress(BODY[:4000])), len(gzip.compress(BODY[:4000]) + gzip.compress(b""))}
    for length in set(range(0, len(whole), 11)) - (ends if encoding == "gzip" else set()):
        with pytest.raises(DownloadInterrupted, match="before the file was complete"):
            inflate(whole[:length], encoding)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip,identity", "compress"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(DownloadError, match="though asked not to"):
        inflate(gzip.compress(gzip.compress(BODY)), encoding)


def test_no_step_is_larger_than_a_mebibyte() -> None:
    bomb = gzip.compress(b"\0" * (8 << 20)) * 2

    async def chunks() -> AsyncIterator[bytes]:
        yield bomb

    async def sizes() -> list[int]:
        return [len(step) async for step in inflated(chunks(), "gzip")]

    found = asyncio.run(sizes())
    assert max(found) <= 1 << 20
    assert sum(found) == 16 << 20
