"""Times, version headers and names of downloads, which answers of several systems share."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote


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
