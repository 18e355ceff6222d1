"""Pictures inside the request: `data:` addresses (RFC 2397). They are as short as the limit of a JSON body asks."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Annotated, BinaryIO
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator, BeforeValidator, Field
from starlette.exceptions import HTTPException

from serve_app.api.http.requests import MAX_URL_CHARS, check_text, refusal, without_blanks
from serve_app.errors import ImageUnreadable
from serve_app.sentences import Sentence


def is_data(url: str) -> bool:
    """Return whether an address has the scheme `data:`, in any case."""
    return url[:5].lower() == "data:"


def _check_address(url: str) -> str:
    if is_data(url):
        return url
    if len(url) > MAX_URL_CHARS:
        sentence = Sentence("String should have at most {most} characters", most=MAX_URL_CHARS)
        raise refusal("string_too_long", sentence)
    return check_text(url)


ImageAddress = Annotated[str, Field(min_length=1), AfterValidator(_check_address), BeforeValidator(without_blanks)]


def picture_in(url: str, max_bytes: int) -> BinaryIO | None:
    """Return the file that a `data:` address holds; None: it is another address.

    Raises:
        ImageUnreadable: the address is malformed.
        HTTPException: 413, the picture has more than `max_bytes`.
    """
    if not is_data(url):
        return None
    kind, comma, text = url[5:].partition(",")
    content = unquote_to_bytes(text)
    if kind.strip().lower().endswith(";base64"):
        content = b"".join(content.split()).translate(bytes.maketrans(b"-_", b"+/"))
        try:
            content = base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
        except binascii.Error:
            content = b""
    if not comma or not content:
        raise ImageUnreadable(Sentence("The data: address holds no picture, or is not base64"))
    if len(content) > max_bytes:
        raise HTTPException(413, Sentence("A file exceeds {num} bytes", num=max_bytes))
    return io.BytesIO(content)
