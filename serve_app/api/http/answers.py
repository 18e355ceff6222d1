"""Times and version headers, which answers of several systems share."""

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
