"""Forms as they come over the wire: byte by byte, hostile, large, and broken off."""

from __future__ import annotations

import asyncio
import io
import tracemalloc
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from serve_app.api.http.requests import limited
from serve_app.api.http.uploads import Upload, display_name, open_upload, open_uploads, url_display_name

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes | str, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    content = content.encode() if isinstance(content, str) else content
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", b"RIFF" * 10, "a.wav")


def request_of(chunks: Iterator[bytes], media_type: str = TYPE) -> Request:
    """Return a request whose body comes in these chunks; a client that has none left leaves."""
    upcoming = iter(chunks)

    async def receive() -> Any:
        chunk = next(upcoming, None)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    return Request({"type": "http", "headers": [(b"content-type", media_type.encode())]}, receive)


def read(*parts: bytes, step: int = 1 << 16, repeatable: tuple[str, ...] = (), media_type: str = TYPE) -> Any:
    """Return (bytes, filename, fields) of a form, and see that its file is closed afterwards."""
    body = b"".join(parts)
    chunks = [*(body[at : at + step] for at in range(0, len(body), step)), b""]

    async def run() -> Any:
        async with open_upload(request_of(iter(chunks), media_type), repeatable=repeatable) as upload:
            kept, content = upload.file, upload.file.read()
        assert kept.closed
        return content, upload.filename, upload.fields

    return asyncio.run(run())


def refusal(*parts: bytes, media_type: str = TYPE) -> tuple[tuple[Any, ...], str]:
    with pytest.raises(RequestValidationError) as raised:
        read(*parts, media_type=media_type)
    (problem,) = raised.value.errors()
    return problem["loc"], problem["msg"]


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_form_in_chunks_of_any_size(step: int) -> None:
    content, filename, fields = read(part("language", "ko"), FILE, part("prompt", "다니엘"), END, step=step)
    assert (content, filename) == (b"RIFF" * 10, "a.wav")
    assert fields == {"language": "ko", "prompt": "다니엘"}


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
@pytest.mark.parametrize("before", [b"\r\n", b"for readers without MIME\r\n", b"--b0\r\nx--b0undary\r\n\r\n"])
def test_what_stands_before_the_first_boundary_is_left_out(before: bytes, step: int) -> None:
    content, _, fields = read(before, part("language", "ko"), FILE, END, step=step)
    assert (content, fields) == (b"RIFF" * 10, {"language": "ko"})


def test_no_boundary_in_a_long_beginning() -> None:
    assert refusal(b"x" * 100_000, b"\r\n", FILE, END)[0] == ("body",)


def test_a_field_that_repeats_its_value() -> None:
    assert read(part("language", "ko"), part("language", "ko"), FILE, END)[2] == {"language": "ko"}


def test_empty_fields_count_as_not_given() -> None:
    assert read(FILE, part("language", ""), part("backend", ""), END)[2] == {}


def test_repeatable_fields_are_lists() -> None:
    assert read(FILE, part("g[]", "word"), END, repeatable=("g[]",))[2] == {"g[]": ["word"]}
    twice = (FILE, part("g[]", "word"), part("g[]", "segment"), END)
    assert read(*twice, repeatable=("g[]",))[2] == {"g[]": ["word", "segment"]}
    assert refusal(*twice)[0] == ("body", "g[]")


@pytest.mark.parametrize(
    ("parts", "location", "told"),
    [
        ([END], ("body", "file"), "is missing"),
        ([part("language", "ko"), END], ("body", "file"), "is missing"),
        ([part("file", b"RIFF"), END], ("body", "file"), "sent as text"),
        ([part("file", b"", "a.wav"), END], ("body", "file"), "empty"),
        ([part("file", b"", ""), END], ("body", "file"), "empty"),
        ([part("audio", b"RIFF", "a.wav"), END], ("body", "audio"), "name it file"),
        ([FILE, FILE, END], ("body",), "Send one file, named file"),
        ([FILE, part("language", "ko"), part("language", "en"), END], ("body", "language"), "once"),
        ([FILE, part("file", "text"), END], ("body", "file"), "as text, too"),
        ([FILE, *[part(f"f{n}", "x") for n in range(33)], END], ("body",), "Too many fields"),
        ([FILE, part("prompt", "x" * 70_000), END], ("body",), "exceeded maximum size"),
        ([b"no form at all"], ("body",), "Send one file"),
        ([FILE], ("body",), "cut off"),
        ([FILE, part("language", "ko")[:-4]], ("body",), "cut off"),
    ],
)
def test_wrong_form(parts: list[bytes], location: tuple[str, ...], told: str) -> None:
    found, sentence = refusal(*parts)
    assert found == location
    assert told in sentence


def test_a_charset_that_python_does_not_know() -> None:
    """Java's name of CP949; a form in UTF-8 may name it too."""
    for charset in ("cp949", "utf-8"):
        form = (part("file", b"RIFF", "다니엘.wav") + part("memo", "강남점") + END).decode().encode(charset)
        _, filename, fields = read(form, media_type=f"{TYPE}; charset=x-windows-949")
        assert (filename, fields) == ("다니엘.wav", {"memo": "강남점"})


def test_a_charset_that_javascript_did_not_define() -> None:
    _, filename, fields = read(
        part("language", "ko"), part("file", b"RIFF", "다니엘.wav"), END, media_type=f"{TYPE}; charset=undefined"
    )
    assert (filename, fields) == ("다니엘.wav", {"language": "ko"})


def test_form_without_boundary() -> None:
    assert "boundary" in refusal(FILE, END, media_type="multipart/form-data")[1]


def read_all(*parts: bytes, max_files: int = 3) -> list[tuple[str, bytes]]:
    """Return (filename, bytes) of a form's recordings, and see that they are closed afterwards."""

    async def run() -> list[tuple[str, bytes]]:
        async with open_uploads(request_of(iter([b"".join(parts), b""])), max_files=max_files) as form:
            sent = [(each.filename, each.file.read()) for each in form.files]
        assert all(each.file.closed for each in form.files)
        return sent

    return asyncio.run(run())


def test_several_files_in_the_order_of_the_form() -> None:
    second = part("file", b"second", "b.wav")
    assert read_all(FILE, part("bpm", "90"), second, FILE, END) == [
        ("a.wav", b"RIFF" * 10),
        ("b.wav", b"second"),
        ("a.wav", b"RIFF" * 10),
    ]


def test_an_empty_file_among_others_is_handed_on() -> None:
    assert read_all(FILE, part("file", b"", "b.wav"), END)[1] == ("b.wav", b"")
    with pytest.raises(RequestValidationError) as raised:
        read_all(part("file", b"", "b.wav"), END)
    assert raised.value.errors()[0]["msg"] == "The file is empty"


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([FILE] * 4, "Send up to 3 files, each named file"),
        ([FILE, part("audio", b"x", "b.wav")], "name it file"),
        ([part("bpm", "90")], "is missing"),
    ],
)
def test_wrong_files(parts: list[bytes], told: str) -> None:
    with pytest.raises(RequestValidationError) as raised:
        read_all(*parts, END)
    assert told in raised.value.errors()[0]["msg"]


def test_many_files_take_no_more_memory_than_one() -> None:
    files = [part("file", b"x" * 200_000, f"{number}.wav") for number in range(16)]

    async def run() -> list[bool]:
        async with open_uploads(request_of(iter([*files, END, b""])), max_files=16) as form:
            return [each.file._rolled for each in form.files]  # type: ignore[attr-defined]

    assert asyncio.run(run()) == [True] * 16


def test_large_upload_goes_to_disk_not_to_memory() -> None:
    num_chunks, chunk = 512, b"\0" * 65536  # 32 MB

    def body() -> Iterator[bytes]:
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
        for _ in range(num_chunks):
            yield chunk
        yield b"\r\n" + END
        yield b""

    async def run() -> int:
        async with open_upload(request_of(body())) as upload:
            return upload.file.seek(0, io.SEEK_END)

    tracemalloc.start()
    try:
        assert asyncio.run(run()) == num_chunks * len(chunk)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_limit_is_met_while_reading_and_the_file_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch_files(monkeypatch)
    chunks = iter([part("file", b"x" * 1000, "a.wav")[:-2], *[b"y" * 1000] * 50, b""])

    async def run() -> None:
        async with open_upload(limited(request_of(chunks), 5000)):
            raise AssertionError("not reached")

    with pytest.raises(HTTPException) as raised:
        asyncio.run(run())
    assert raised.value.status_code == 413
    assert len(list(chunks)) > 40  # the rest was never read
    assert [file.closed for file in made] == [True]


def read_bounded(chunks: Iterator[bytes], max_file_bytes: int, max_files: int = 3) -> list[int]:
    """Return the sizes of a form's files, each of which may have so many bytes."""

    async def run() -> list[int]:
        bounds = {"max_files": max_files, "max_file_bytes": max_file_bytes}
        async with open_uploads(request_of(chunks), **bounds) as form:  # type: ignore[arg-type]
            return [each.file.seek(0, io.SEEK_END) for each in form.files]

    return asyncio.run(run())


@pytest.mark.parametrize("step", [1, 64, 1 << 16])
def test_each_file_may_have_so_many_bytes(step: int) -> None:
    body = b"".join([part("file", b"x" * 1000, "a"), part("note", "y" * 5000), part("file", b"x" * 999, "b"), END])
    chunks = [*(body[at : at + step] for at in range(0, len(body), step)), b""]
    assert read_bounded(iter(chunks), 1000) == [1000, 999]


@pytest.mark.parametrize("before", [[], [part("file", b"z" * 3000, "a"), part("file", b"z" * 3000, "b")]])
def test_no_more_of_a_longer_file_is_read(before: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch_files(monkeypatch)
    chunks = iter([*before, part("file", b"x" * 1000, "c")[:-2], *[b"y" * 1000] * 50, b""])
    with pytest.raises(HTTPException) as raised:
        read_bounded(chunks, 5000)
    assert (raised.value.status_code, raised.value.detail) == (413, "A file exceeds 5000 bytes")
    assert raised.value.headers == {"Connection": "close"}
    assert len(list(chunks)) == 46  # the rest was never read
    assert [file.closed for file in made] == [True] * (len(before) + 1)


@pytest.mark.parametrize(("spool_bytes", "in_memory"), [(30_000, True), (29_999, False)])
def test_files_share_the_memory_that_a_form_may_take(spool_bytes: int, in_memory: bool) -> None:
    files = [part("file", b"x" * 10_000, f"{number}") for number in range(3)]

    async def run() -> list[bool]:
        request = request_of(iter([*files, END, b""]))
        async with open_uploads(request, max_files=3, spool_bytes=spool_bytes) as form:
            return [each.file._rolled for each in form.files]  # type: ignore[attr-defined]

    assert asyncio.run(run()) == [not in_memory] * 3


def test_client_that_leaves_half_way_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch_files(monkeypatch)

    async def run() -> None:
        async with open_upload(request_of(iter([FILE]))):
            raise AssertionError("not reached")

    with pytest.raises(ClientDisconnect):
        asyncio.run(run())
    assert [file.closed for file in made] == [True]


def test_failing_work_leaves_no_file() -> None:
    kept: list[Upload] = []

    async def run() -> None:
        async with open_upload(request_of(iter([FILE + END, b""]))) as upload:
            kept.append(upload)
            raise RuntimeError("model lost")

    with pytest.raises(RuntimeError, match="model lost"):
        asyncio.run(run())
    assert kept[0].file.closed


def watch_files(monkeypatch: pytest.MonkeyPatch) -> list[BinaryIO]:
    """Return the list that every temporary file of a form will be in."""
    from starlette import formparsers

    made: list[BinaryIO] = []
    original = formparsers.SpooledTemporaryFile

    def make(*args: Any, **kwargs: Any) -> Any:
        made.append(original(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(formparsers, "SpooledTemporaryFile", make)
    return made


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("talk.wav", "talk.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\talk.wav", "talk.wav"),
        ("안녕 하세요.mp4", "안녕 하세요.mp4"),
        ("a\r\nSet-Cookie: x.wav", "aSet-Cookie: x.wav"),
        ("\x1b[31mred.wav", "[31mred.wav"),
        ("evil\u202egpj.wav", "evilgpj.wav"),
        ("folder/", "folder"),
        ("", "media"),
        ("///", "media"),
        ("x" * 300 + ".wav", "x" * 255),
        ("e\u0301.wav", "é.wav"),
    ],
)
def test_shown_name(path: str, name: str) -> None:
    assert display_name(path) == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h.example/a/cup%201.jpg?X-Amz-Signature=secret#part", "cup 1.jpg"),
        ("s3://bucket/folder/%EB%B6%81.png", "북.png"),
        ("/srv/media/cup.png", "cup.png"),
        ("https://h.example/..%2f..%2fetc%2Fpasswd", "passwd"),
        ("https://h.example/a%0d%0aSet-Cookie:%20x", "aSet-Cookie: x"),
        ("https://h.example/%1b[31mred%e2%80%ae.png", "[31mred.png"),
        ("https://h.example/%ff%fe.png", "\ufffd\ufffd.png"),
        ("https://user:secret@h.example", "media"),
        ("https://h.example/?key=secret", "media"),
        ("https://[h/a.png", "a.png"),
    ],
)
def test_shown_name_of_an_address(url: str, name: str) -> None:
    assert url_display_name(url) == name
