"""`registered_name`: the part of a host name that its owner registered, as far as the name tells."""

from __future__ import annotations

_SECOND_LEVEL_CHARS = 3  # `co`, `com`, `ac`, `go`, `org`, `net`, … before a country


def registered_name(host: str) -> str:
    """Return the last two labels of a host name, or three under a country's second level (`shop.co.kr`).

    Where names are registered under two labels is guessed, so that no list of them has to be kept. Two owners may be
    taken for one: this serves to share places, never to trust.
    """
    labels = host.rstrip(".").split(".")
    is_second_level = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= _SECOND_LEVEL_CHARS
    return ".".join(labels[-3 if is_second_level else -2 :])
