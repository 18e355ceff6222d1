"""What a browser tells of a request, and a page can't change: the site whose page sent it, and the name it went to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from serve_app.errors import NotAllowed
from serve_app.sentences import Sentence

_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^\s:@/\\\[\]?#,]+))(?::\d*)?", re.IGNORECASE)


def check_site(headers: Headers, cors_origins: Collection[str]) -> None:
    """Refuse what a page of another site sends, unless the operator has named its origin: NotAllowed.

    Clients that are no browsers send neither `Origin` nor `Sec-Fetch-Site`.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if "*" in cors_origins or origin in cors_origins or site in ("same-origin", "none"):
        return
    # a browser that says nothing of the site: an old one, or one that asks without TLS
    host = headers.get("host", "").lower()
    if site is None and (origin is None or origin.lower().partition("://")[2] == host):
        return
    raise NotAllowed(
        Sentence(
            "This request comes from a page of another site, which may change nothing here; the operator can name its "
            "origin in SERVE_APP_CORS_ORIGINS"
        )
    )


def check_host(headers: Headers, names: tuple[str, ...] | None) -> None:
    """Refuse what was sent to another name than a loopback one or one of `names` (None: any name): 421.

    A page whose name leads to this machine (DNS rebinding) is of the same site as its answers, but its name stays.
    """
    if names is None or (sent := headers.get("host")) is None:
        return
    if not _is_name(sent, names):
        unknown = Sentence(
            "This server does not go by the name in `Host`; the operator can add the name to SERVE_APP_HOSTS"
        )
        raise HTTPException(421, unknown)


@lru_cache(maxsize=256)
def _is_name(host: str, names: tuple[str, ...]) -> bool:
    parsed = _HOST.fullmatch(host)
    if parsed is None:
        return False
    name = (parsed["ipv6"] or parsed["name"]).lower().removesuffix(".")
    return is_loopback(name) or name in names


def is_loopback(host: str) -> bool:
    """Return whether a name or address is this machine's own, which no other can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
