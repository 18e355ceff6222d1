"""HTTP/1.1 as a load generator needs it: form uploads built once, answers found in a buffer."""

from __future__ import annotations

from dataclasses import dataclass

_BOUNDARY = b"----serve-app-load-b7c4d2e9"
_HEAD_END = b"\r\n\r\n"


class BadResponse(Exception):
    """Raised when what came back is no answer that this reader knows."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer.

    Attributes:
        status: code.
        head: status line and headers, as they came.
        body: of Content-Length bytes.
    """

    status: int
    head: bytes
    body: bytes

    @property
    def stays_open(self) -> bool:
        """Whether the connection can be used again."""
        return (self.header(b"connection") or b"").lower() != b"close"

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, or None; `name` in lower case."""
        return _header(self.head, name)


def upload_request(host: str, path: str, filename: str, content: bytes, media_type: str = "image/jpeg") -> bytes:
    """Return the bytes of a form upload, with the file in the field `file`."""
    disposition = f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\n'
    part = f"{disposition}Content-Type: {media_type}".encode()
    body = b"".join(
        (b"--", _BOUNDARY, b"\r\n", part, _HEAD_END, content, b"\r\n--", _BOUNDARY, b"--\r\n"),
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\nContent-Length: {len(body)}"
    ).encode()
    return head + _HEAD_END + body


def read_response(buffer: bytes | bytearray) -> tuple[Response, int] | None:
    """Return the answer at a buffer's start and its length; None while it is incomplete.

    Raises:
        BadResponse: no HTTP/1.1, or no Content-Length.
    """
    end = buffer.find(_HEAD_END)
    if end < 0:
        return None
    head = bytes(buffer[:end])
    if not head.startswith(b"HTTP/1.1 ") or not head[9:12].isdigit():
        raise BadResponse(f"no HTTP/1.1: {head[:40]!r}")
    length = _header(head, b"content-length")
    if length is None or not length.isdigit():
        raise BadResponse(f"no length of the body: {head[:200]!r}")
    start = end + len(_HEAD_END)
    if len(buffer) < start + int(length):
        return None
    size = start + int(length)
    return Response(int(head[9:12]), head, bytes(buffer[start:size])), size


def _header(head: bytes, name: bytes) -> bytes | None:
    # most heads are 100-200 bytes: to lower the whole is cheaper than to split it
    lowered = head.lower()
    at = lowered.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    start = at + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()
