"""Names of files in forms, byte by byte as each client writes them."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from serve_app.api.http.part_names import decoded, names_of_part
from tests.unit.api.http.test_uploads import BOUNDARY, END, read, refusal

KOREAN = "한글 파일.wav"
UTF8 = KOREAN.encode()
EXTENDED = f"UTF-8''{quote(KOREAN)}".encode()
MIME = b"=?utf-8?B?" + base64.b64encode(UTF8) + b"?="
DECOMPOSED = "\u1112\u1161\u11ab\u1100\u1173\u11af.wav"  # 한글, as macOS writes it


def form(disposition: bytes, content: bytes = b"RIFF", extra: bytes = b"") -> bytes:
    return f"--{BOUNDARY}\r\n".encode() + disposition + b"\r\n" + extra + b"\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b'name="file"; filename="' + UTF8 + b'"', KOREAN),  # curl, browsers, OkHttp
        (b'name="file"; filename*=' + EXTENDED, KOREAN),  # urllib3 before 1.25
        (b"name=file; filename=plain.wav; filename*=" + EXTENDED, KOREAN),
        (b"name=file; filename*=" + EXTENDED + b"; filename=plain.wav", KOREAN),
        (b'name=file; filename=""; filename*=' + EXTENDED, KOREAN),
        (b"name=file; filename=" + MIME + b"; filename*=" + EXTENDED, KOREAN),  # .NET
        (b'name="file"; filename="' + MIME + b'"', KOREAN),
        (b'name="file"; filename="=?UTF-8?Q?=ED=95=9C=EA=B8=80_a.wav?="', "한글 a.wav"),  # Spring
        (b'name="file"; filename="=?utf-8?B?7ZWc?= =?utf-8?B?6riALndhdg==?="', "한글.wav"),
        (b'name="file"; filename="' + quote(KOREAN).encode() + b'"', KOREAN),  # aiohttp
        (b'name="file"; filename="' + KOREAN.encode("cp949") + b'"', KOREAN),
        (b'name="file"; filename="' + "똠방각하.wav".encode("cp949") + b'"', "똠방각하.wav"),
        (b'name="file"; filename="%22' + UTF8 + b'%22 100%25"', f'"{KOREAN}" 100%25'),  # browsers
        (b"name=file; filename*=utf-7''a+2AA-.wav", "a?.wav"),  # half a surrogate pair
        (b'name="file"; filename="=?unicode_escape?Q?a=5Cud800?="', "a?"),
        (b'name="file"; filename="50% %22off%22.wav"', '50% "off".wav'),
        (b"name=file; filename*=EUC-KR''%C7%D1%B1%DB.wav", "한글.wav"),
        (b"name=file; filename*=bogus''%ED%95%9C.wav", "한.wav"),
        (b"name=file; filename*=UTF-8''%ff%fe.wav; filename=plain.wav", "plain.wav"),
        (b"name=file; filename*0*=UTF-8''%ED%95%9C; filename*1=b.wav", "한b.wav"),
        (b'name="file"; filename="' + "café.wav".encode("latin-1") + b'"', "café.wav"),
        (b'name="file"; filename="' + "Ärger.wav".encode("latin-1") + b'"', "Ärger.wav"),
        (b'name="file"; filename="' + DECOMPOSED.encode() + b'"', "한글.wav"),
        (b'name="file"; filename="C:\\Users\\me\\' + UTF8 + b'"', KOREAN),  # Internet Explorer
        (b'name="file"; filename="a\\"b;c.wav"', 'a"b;c.wav'),
        (b'name="file"; filename="a%22b;c.wav"', 'a"b;c.wav'),
        (b'name="file"; filename="100%.wav"', "100%.wav"),
        (b'name="file"; filename="..%2f..%2fpasswd"', "passwd"),
        (b'name="file"; filename="=?bogus?B?7ZWc?="', "=?bogus?B?7ZWc?="),
        (b'NAME="file";FileName=x.wav', "x.wav"),
        (b"name*=UTF-8''file; filename=x.wav", "x.wav"),
        (b'name="file"; filename=""', "media"),
    ],
)
def test_name_of_a_file(parameters: bytes, name: str) -> None:
    sent = form(b"Content-Disposition: form-data; " + parameters)
    assert read(sent, END) == (b"RIFF", name, {})


def test_a_quoted_boundary_and_headers_in_any_case() -> None:
    sent = form(b"content-disposition:form-data; name=file; filename=a.wav", extra=b"Content-Type: audio/wav\r\n")
    assert read(sent, END, media_type=f'Multipart/Form-Data; charset=utf-8; Boundary="{BOUNDARY}"')[1] == "a.wav"


def test_a_form_names_its_charset() -> None:
    sent = form(b'Content-Disposition: form-data; name="file"; filename="' + "日本語.wav".encode("shift_jis") + b'"')
    assert read(sent, END, media_type=f"multipart/form-data; charset=shift_jis; boundary={BOUNDARY}")[1] == "日本語.wav"


def test_text_in_korean_windows_charset() -> None:
    prompt = form(b'Content-Disposition: form-data; name="prompt"', "회의 기록".encode("cp949"))
    sent = form(b'Content-Disposition: form-data; name="file"; filename="a.wav"')
    assert read(prompt, sent, END)[2] == {"prompt": "회의 기록"}


@pytest.mark.parametrize("num_bytes", [1, 64 << 10, (64 << 10) + 1, 3_000_000])
@pytest.mark.parametrize("extra", [b"", b"Content-Type: audio/wav\r\n"])
def test_a_file_without_a_filename_is_told_so_whatever_its_size(num_bytes: int, extra: bytes) -> None:
    sent = form(b'Content-Disposition: form-data; name="file"', b"\xff" * num_bytes, extra)
    assert refusal(sent, END) == (
        ("body", "file"),
        "The file was sent as text: send it as a part with a filename",
    )


@pytest.mark.parametrize(
    ("disposition", "names"),
    [
        (b"", (None, None)),
        (b"form-data", (None, None)),
        (b"form-data; name", ("", None)),
        (b"form-data; filename=a", (None, "a")),
        (b'form-data; name="a"; name="b"', ("a", None)),
        (b"form-data; name=file; filename*" + b"9" * 4000 + b"=a", ("file", "a")),
    ],
)
def test_odd_dispositions(disposition: bytes, names: tuple[str | None, str | None]) -> None:
    assert names_of_part(disposition, "utf-8") == names


def test_bytes_of_no_charset() -> None:
    assert decoded(b"\x80\x81.wav", "no-such-charset") == "\x80\x81.wav"
