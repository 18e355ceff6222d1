"""`inflated`: undoes a Content-Encoding of gzip or deflate, in steps of bounded size."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from serve_app.errors import DownloadError, DownloadInterrupted
from serve_app.sentences import Sentence

_STEP_BYTES = 1 << 20  # what a step returns at most, so that the byte limit stops a bomb
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


async def inflated(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Yield the content of an encoded answer.

    gzip may have several members (RFC 1952, section 2.2), with zero bytes after each. deflate is the zlib format
    (RFC 9110, section 8.4.1.2), or the raw one that some servers send instead.

    Raises:
        DownloadError: another encoding, several encodings, or an answer that is damaged or goes on after its end.
        DownloadInterrupted: the answer is cut off.
    """
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise DownloadError(
            Sentence("The server compressed the file ({encoding}) though asked not to", encoding=encoding[:20])
        )
    inflater = _Inflater(is_gzip=encoding != "deflate")
    try:
        async for chunk in chunks:
            inflater.feed(chunk)
            # in a thread: many small members take far longer than their bytes to arrive
            while step := await asyncio.to_thread(inflater.step):
                yield step
        yield inflater.flush()
    except zlib.error:
        raise DownloadError(Sentence("The server's compressed answer is damaged")) from None
    if not inflater.has_ended:
        raise DownloadInterrupted(Sentence("The connection broke before the file was complete"))


class _Inflater:
    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._rest = b""
        self._member: zlib._Decompress | None = None

    @property
    def has_ended(self) -> bool:
        return self._member is not None and self._member.eof

    def feed(self, chunk: bytes) -> None:
        self._rest += chunk

    def step(self) -> bytes:
        """Return the next bytes, at most 1 MiB; b"" where more must be fed first."""
        while self._rest:
            if self.has_ended:
                self._rest = self._rest.lstrip(b"\0")
                if not self._rest:
                    break
                if not self._is_gzip:
                    raise zlib.error("the answer goes on after its end")
            if self._member is None or self._member.eof:
                if not self._is_gzip and len(self._rest) < 2:
                    break
                self._member = zlib.decompressobj(_GZIP if self._is_gzip else _deflate_form(self._rest))
            found = self._member.decompress(self._rest, _STEP_BYTES)
            self._rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if found:
                return found
        return b""

    def flush(self) -> bytes:
        """Return what zlib still holds back of the last member."""
        return b"" if self._member is None else self._member.flush()


def _deflate_form(head: bytes) -> int:
    is_zlib = head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head[:2], "big") % 31 == 0
    return _ZLIB if is_zlib else _RAW
