"""What of addresses and paths may leave the process: addresses without user, password, query and fragment, local paths
by their last part alone."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
# urllib3 names what it asked for without the host: "with url: /key?X-Amz-Signature=…"
_QUERY = re.compile(r"(/[^\s?'\"]*)\?[^\s'\"]*=[^\s'\"]*")
_AFTER_URL = "'\"`.,;:!?)]}>"
_QUOTED_PATH = re.compile(r"(?P<quote>['\"])(?:~[^/'\"]*)?/(?:(?!(?P=quote)).)*/?(?P=quote)")
# two parts at least: one alone is a route, or an "and/or"
_PATH = re.compile(r"(?<![\w.:/~'\"-])(?!/v1/)(?:~[^\s/]*)?(?:/[^\s/'\"`,;:()]+)+/[^\s/'\"`,;:()]+/?")


def shown_url(url: str) -> str:
    """Return an address without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return f"{url.partition('://')[0]}://…"
    path = _name(parts.path) if parts.scheme == "file" else parts.path
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


def shown_spec(spec: str) -> str:
    """Return a spec of weights (`models.weights.fetch_weights`): its address as `shown_url`, its local path by name."""
    if _SCHEME.match(spec):
        return shown_url(spec)  # of all of it: a key may have blanks
    if "://" in spec:
        return without_secrets(spec)
    return _name(spec) if spec.startswith(("/", "~", ".")) else spec


def without_secrets(text: str) -> str:
    """Return a text with its addresses as `shown_url`, for the log."""

    def shown(found: re.Match[str]) -> str:
        url = found[0].rstrip(_AFTER_URL)
        return shown_url(url) + found[0][len(url) :]

    return _QUERY.sub(r"\1", _URL.sub(shown, text))


def without_places(text: str) -> str:
    """Return a text without secrets, and with absolute local paths by name, for callers."""

    def named(found: re.Match[str]) -> str:
        quote = found.groupdict().get("quote", "")
        return f"{quote}{_name(found[0].strip(quote) if quote else found[0])}{quote}"

    return _PATH.sub(named, _QUOTED_PATH.sub(named, without_secrets(text)))


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
