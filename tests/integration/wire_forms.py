"""Forms as other languages' clients write them, byte by byte, and one exchange of bytes over a socket."""

from __future__ import annotations

import base64
import json
import socket
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any, Self
from urllib.parse import quote, urlsplit

BOUNDARY = "8b2f6c0e-5f0d-4b1e-9c57-3c1d2b7a9e44"
KOREAN = "컵 사진.jpg"


@dataclass(frozen=True)
class Dialect:
    """How a client writes a form.

    Args:
        name: the client, with its versions where they differ.
        head: a file's part up to its bytes. `{raw}` is its name, `{percent}`, `{base64}`, `{ascii}` are encodings of
            it, `{size}` the number of its bytes; `\\n` stands for the end of a line.
        field: the part of a text up to its value; `{size}` as above.
        media_type: of the whole form.
        start, end: around all parts.
        charset: of the names.
        filename: of the file.
        shown: the name that the server has to make of it.
    """

    name: str
    head: str
    field: str = 'Content-Disposition: form-data; name="{name}"\n\n'
    media_type: str = "multipart/form-data; boundary={boundary}"
    start: str = ""
    end: str = "\n--{boundary}--\n"
    charset: str = "utf-8"
    filename: str = KOREAN
    shown: str = KOREAN
    boundary: str = BOUNDARY

    @property
    def content_type(self) -> str:
        return self.media_type.format(boundary=self.boundary)

    def body(self, fields: Sequence[tuple[str, str]], files: Sequence[bytes]) -> bytes:
        """Return a form with these fields and files, each in a field named `file`."""
        parts = [self._bytes(self.field, name, value.encode()) + value.encode() for name, value in fields]
        parts += [self._bytes(self.head, "file", content) + content for content in files]
        line = f"--{self.boundary}\r\n".encode()
        return self._bytes(self.start) + line + (b"\r\n" + line).join(parts) + self._bytes(self.end)

    def _bytes(self, template: str, name: str = "", content: bytes = b"") -> bytes:
        encoded = self.filename.encode(self.charset)
        text = template.replace("\n", "\r\n").format(
            name=name,
            size=len(content),
            raw=self.filename,
            percent=quote(encoded, safe=""),
            base64=base64.b64encode(encoded).decode(),
            ascii=self.filename.encode("ascii", "replace").decode(),
            boundary=self.boundary,
        )
        return text.encode(self.charset)


_RAW = 'Content-Disposition: form-data; name="{name}"; filename="{raw}"\nContent-Type: image/jpeg\n\n'
_DOTNET = "Content-Type: text/plain; charset=utf-8\nContent-Disposition: form-data; name={name}\n\n"
_QUOTED = 'multipart/form-data; boundary="{boundary}"'
_STRICT = '"\nContent-Type: image/jpeg\nContent-Transfer-Encoding: binary\n\n'
_STRICT_FIELD = (
    'Content-Disposition: form-data; name="{name}"\nContent-Type: text/plain; charset=UTF-8\n'
    "Content-Transfer-Encoding: 8bit\n\n"
)

DIALECTS = [
    # dotnet/runtime: System.Net.Http, MultipartContent.cs and Headers/ContentDispositionHeaderValue.cs
    Dialect(
        ".NET HttpClient",
        head="Content-Disposition: form-data; name={name}; "
        "filename=\"=?utf-8?B?{base64}?=\"; filename*=utf-8''{percent}\n\n",
        field=_DOTNET,
        media_type=_QUOTED,
    ),
    Dialect(
        ".NET HttpClient, an ASCII name",
        head="Content-Type: image/jpeg\nContent-Disposition: form-data; name={name}; "
        "filename={raw}; filename*=utf-8''{percent}\n\n",
        field=_DOTNET,
        media_type=_QUOTED,
        filename="cup.jpg",
        shown="cup.jpg",
    ),
    # a header made by hand has no filename*
    Dialect(
        ".NET ContentDispositionHeaderValue",
        head='Content-Disposition: form-data; name="{name}"; filename="=?utf-8?B?{base64}?="\n'
        "Content-Type: image/jpeg\n\n",
        field=_DOTNET,
        media_type=_QUOTED,
    ),
    # apache/httpcomponents-client 4: HttpStrictMultipart, HttpBrowserCompatibleMultipart, HttpRFC6532Multipart
    Dialect(
        "Apache HttpClient 4 STRICT",
        head='Content-Disposition: form-data; name="{name}"; filename="{ascii}' + _STRICT,
        field=_STRICT_FIELD,
        shown="? ??.jpg",
    ),
    Dialect("Apache HttpClient 4 BROWSER_COMPATIBLE, UTF-8", head=_RAW),
    Dialect(
        "Apache HttpClient 4 BROWSER_COMPATIBLE, MS949",
        head=_RAW,
        charset="cp949",
        media_type="multipart/form-data; boundary={boundary}; charset=x-windows-949",
    ),
    Dialect(
        "Apache HttpClient 4 RFC6532",
        head='Content-Disposition: form-data; name="{name}"; filename="{raw}' + _STRICT,
        field=_STRICT_FIELD,
        media_type="multipart/form-data; boundary={boundary}; charset=UTF-8",
    ),
    # apache/httpcomponents-client 5: HttpRFC7578Multipart
    Dialect(
        "Apache HttpClient 5 EXTENDED",
        head='Content-Disposition: form-data; name="{name}"; filename="{percent}"\nContent-Type: image/jpeg\n\n',
    ),
    Dialect(
        "Apache HttpClient 5.5 EXTENDED",
        head='Content-Disposition: form-data; name="{name}"; filename="{percent}"; '
        "filename*=\"UTF-8''{percent}\"\nContent-Type: image/jpeg\n\n",
    ),
    # square/okhttp: MultipartBody.kt; Content-Length of a part up to 4.x
    Dialect(
        "OkHttp 4",
        head='Content-Disposition: form-data; name="{name}"; filename="{raw}"\nContent-Type: image/jpeg\n'
        "Content-Length: {size}\n\n",
        field='Content-Disposition: form-data; name="{name}"\nContent-Length: {size}\n\n',
    ),
    # spring-projects/spring-framework: FormHttpMessageConverter.java, HttpHeaders.setContentDispositionFormData
    Dialect(
        "Spring RestTemplate 5",
        head='Content-Disposition: form-data; name="{name}"; filename="{raw}"\nContent-Type: image/jpeg\n'
        "Content-Length: {size}\n\n",
        field='Content-Disposition: form-data; name="{name}"\nContent-Type: text/plain;charset=UTF-8\n'
        "Content-Length: {size}\n\n",
        media_type="multipart/form-data;charset=UTF-8;boundary={boundary}",
    ),
    Dialect(
        "Spring RestTemplate, multipartCharset",
        head='Content-Disposition: form-data; name="{name}"; filename="=?UTF-8?B?{base64}?="\n'
        "Content-Type: image/jpeg\n\n",
    ),
    # golang/go: mime/multipart/writer.go, CreateFormFile
    Dialect(
        "Go mime/multipart",
        head='Content-Disposition: form-data; name="{name}"; filename="{raw}"\n'
        "Content-Type: application/octet-stream\n\n",
    ),
    # urllib3 1.x: fields.py, format_header_param_rfc2231
    Dialect(
        "requests with urllib3 1",
        head="Content-Disposition: form-data; name=\"{name}\"; filename*=utf-8''{percent}\n\n",
        field='Content-Disposition: form-data; name="{name}"\n\n',
    ),
    # aio-libs/aiohttp: helpers.py, content_disposition_header
    Dialect(
        "aiohttp 3",
        head='Content-Type: image/jpeg\nContent-Disposition: form-data; name="{name}"; filename="{percent}"; '
        "filename*=utf-8''{percent}\n\n",
        field='Content-Type: text/plain; charset=utf-8\nContent-Disposition: form-data; name="{name}"\n\n',
    ),
    # facebook/react-native: Libraries/Network/FormData.js
    Dialect(
        "React Native",
        head='content-disposition: form-data; name="{name}"; filename="{raw}"; '
        "filename*=utf-8''{percent}\ncontent-type: image/jpeg\n\n",
        field='content-disposition: form-data; name="{name}"\n\n',
    ),
    # dart-lang/http: multipart_request.dart
    Dialect(
        "Dart http",
        head='content-type: image/jpeg\ncontent-disposition: form-data; name="{name}"; filename="{raw}"\n\n',
        field='content-disposition: form-data; name="{name}"\ncontent-type: text/plain; charset=utf-8\n'
        "content-transfer-encoding: binary\n\n",
        boundary="dart-http-boundary-+_J5wX.k2A0v-bQ",
    ),
    Dialect("browser", head=_RAW),
    Dialect("browser on macOS", head=_RAW, filename=unicodedata.normalize("NFD", KOREAN)),
    Dialect("Internet Explorer", head=_RAW, filename=r"C:\Users\me\컵 사진.jpg"),
    Dialect("Korean Windows, a whole path", head=_RAW, filename=r"C:\새 폴더\컵 사진.jpg", charset="cp949"),
    Dialect("curl in a Korean Windows console", head=_RAW, charset="cp949"),
    Dialect(
        "RFC 5987 in EUC-KR",
        head="Content-Disposition: form-data; name=\"{name}\"; filename*=euc-kr'ko'{percent}\n\n",
        charset="euc-kr",
    ),
    Dialect("by hand, no line end at the end", head=_RAW, end="\n--{boundary}--"),
    Dialect("by hand, a line end at the start", head=_RAW, start="\n"),
    Dialect("by hand, a signed boundary", head=_RAW, media_type=_QUOTED, boundary="a b:c/d=e?(f)'g,h"),
]


@dataclass(frozen=True)
class Answer:
    """An answer over a socket; `told_to_continue`: 100 came before it."""

    status: int
    headers: dict[str, str]
    body: bytes
    told_to_continue: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection on which requests are written byte by byte."""

    def __init__(self, base_url: str, timeout_s: float = 120.0) -> None:
        parts = urlsplit(base_url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout_s)
        self.host = parts.netloc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def head(self, line: str, *headers: str) -> bytes:
        return "\r\n".join([line, f"Host: {self.host}", *headers, "", ""]).encode()

    def post(self, path: str, body: bytes, *headers: str, version: str = "1.1") -> Answer:
        """Send a body whose length is told."""
        self.send(self.head(f"POST {path} HTTP/{version}", *headers, f"Content-Length: {len(body)}"), body)
        return self.answer("POST")

    def post_chunks(self, path: str, chunks: Sequence[bytes], *headers: str) -> Answer:
        """Send a body of which no length is told."""
        self.send(self.head(f"POST {path} HTTP/1.1", *headers, "Transfer-Encoding: chunked"))
        self.send(*(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks), b"0\r\n\r\n")
        return self.answer("POST")

    def read_until_continue(self) -> bytes:
        """Return what the server sends before it has read a body."""
        found = b""
        while b"\r\n\r\n" not in found:
            piece = self._socket.recv(1)  # and nothing of the answer behind it
            if not piece:
                break
            found += piece
        return found

    def answer(self, method: str) -> Answer:
        response = HTTPResponse(self._socket, method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def is_closed(self) -> bool:
        """Return whether the server has ended the connection."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True
