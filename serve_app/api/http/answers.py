"""Times, version headers, names of downloads and stored JSON, which answers of several systems share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import quote

from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from serve_app import json_text


def timestamp(posix_s: float) -> str:
    """Return ISO 8601 in UTC with whole seconds, e.g. 2024-01-15T10:30:00Z."""
    return datetime.fromtimestamp(posix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def version_headers(*versions: str) -> dict[str, str]:
    """Return the header that names the models that answered; nothing where none did."""
    different = dict.fromkeys(versions)
    # a comma separates several
    safe = " /:;+=@()" if len(different) > 1 else " /:;,+=@()"
    return {"X-Model-Version": ", ".join(quote(version, safe=safe) for version in different)} if different else {}


def attachment(filename: str) -> str:
    """Return the Content-Disposition of a file to download (RFC 6266): in ASCII, and exactly for those who read it."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in filename)
    if plain == filename:
        return f'attachment; filename="{plain}"'
    encoded = filename.encode("utf-8", "replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(encoded, safe='')}"


async def answer_with_stored(view: BaseModel, name: str, stored: str) -> Response:
    """Answer with the fields of a view that are set, and one more, whose JSON text is sent as it is stored."""

    def encode() -> bytes:
        return json_text.splice(view.model_dump_json(exclude_unset=True), name, stored).encode("utf-8", "replace")

    content = await asyncio.to_thread(encode)
    headers = {"Content-Length": str(len(content))}
    return StreamingResponse(json_text.stream(content), headers=headers, media_type="application/json")


class StoredJson:
    """A stored JSON text as a `services.StoredFile`; its `etag` is the SHA-256 of the bytes, in hexadecimal."""

    def __init__(self, text: str) -> None:
        self._content = text.encode("utf-8", "replace")
        self.num_bytes = len(self._content)
        self.etag = hashlib.sha256(self._content).hexdigest()

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a part of the text, in pieces."""
        async for piece in json_text.stream(self._content[start:end]):
            yield piece

    async def signed_url(self, name: str) -> str | None:
        """Return None: no object store has it."""
        return None
