"""Names of a form's parts and files, in all the ways in which clients write them.

curl, browsers, OkHttp    filename="한글.wav"                         bytes of UTF-8, with %22 or \\" for a quote
requests of 2018, .NET    filename*=utf-8''%ED%95%9C%EA%B8%80.wav     RFC 5987, alone or beside `filename`
aiohttp                   filename="%ED%95%9C%EA%B8%80.wav"
.NET, Spring              filename="=?utf-8?B?7ZWc6riALndhdg==?="     RFC 2047
old Korean Windows        filename="…"                                bytes of CP949
"""

from __future__ import annotations

import email.header
import email.utils
import re
from email.errors import HeaderParseError
from email.message import Message
from urllib.parse import unquote_to_bytes

_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bq]\?[^?]*\?=", re.IGNORECASE)
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")


def names_of_part(disposition: bytes, charset: str) -> tuple[str | None, str | None]:
    """Return the name and the filename that a part's Content-Disposition gives, each None where it does not.

    Args:
        disposition: the header's value.
        charset: of the form; names that are not in it may be in another.
    """
    header = Message()
    header["content-disposition"] = disposition.decode("latin-1")
    plain: dict[str, str] = {}
    extended: dict[str, str] = {}
    doubtful: dict[str, str] = {}
    for key, value in (header.get_params(header="content-disposition") or [])[1:]:
        if isinstance(value, tuple):  # `key*`
            try:
                extended[key.lower()] = value[2].encode("latin-1").decode(value[0] or charset)
            except (UnicodeError, LookupError):
                doubtful[key.lower()] = decoded(value[2].encode("latin-1", "replace"), charset)
        else:
            plain.setdefault(key.lower(), _plain_name(decoded(value.encode("latin-1"), charset)))
    found = {key: _encodable(value) for key, value in (doubtful | plain | extended).items()}
    return found.get("name"), found.get("filename")


def _encodable(name: str) -> str:
    """Return a name that an answer can hold: some charsets, such as UTF-7, can give half a surrogate pair."""
    return name.encode("utf-8", "replace").decode()


def decoded(text: bytes, charset: str) -> str:
    """Return text in the charset, else in Korean Windows' own, else in Latin-1, which fits all bytes."""
    if charset == "latin-1":  # Starlette's, for a charset that Python does not know, as Java's x-windows-949
        charset = "utf-8"
    try:
        return text.decode(charset)
    except (UnicodeError, LookupError):
        pass
    try:
        korean = text.decode("cp949")
    except UnicodeError:
        return text.decode("latin-1")
    # Latin-1 text may be CP949 by chance, but hardly with one of the syllables that most words are made of
    return korean if any(_is_common_syllable(char) for char in korean) else text.decode("latin-1")


def _is_common_syllable(char: str) -> bool:
    """Return whether a character is one of the 2350 syllables of KS X 1001; EUC-KR spells others in eight bytes."""
    return "가" <= char <= "힣" and len(char.encode("euc_kr")) == 2


def _plain_name(name: str) -> str:
    if _ENCODED_WORD.search(name):
        try:
            return str(email.header.make_header(email.header.decode_header(name)))
        except (HeaderParseError, UnicodeError, LookupError, ValueError):
            return name
    if name.isascii() and len(_PERCENT.findall(name)) == name.count("%") > 0:
        try:
            return unquote_to_bytes(name).decode("utf-8")
        except UnicodeError:
            return name
    # as browsers write these three; they leave the percent sign itself as it is
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
