"""Free TCP ports."""

from __future__ import annotations

import itertools
import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections (32768 to 60999 on Linux), above Ray's
# worker ports (10002 to 19999), below those of Serve's replicas (30000 up): what is free now stays free.
_FIRST, _LAST = 20_000, 29_999
_TRIES = 200


def free_ports(count: int) -> list[int]:
    """Return different ports on which nothing listens now, on any interface; OSError if there are none."""
    candidates = random.sample(range(_FIRST, _LAST + 1), _TRIES + count)
    found = list(itertools.islice((port for port in candidates if are_free(port, 1)), count))
    if len(found) < count:
        raise OSError(f"no free TCP port between {_FIRST} and {_LAST}")
    return found


def free_port_block(size: int) -> int:
    """Return the first of `size` ports in a row on which nothing listens now; OSError if there are none."""
    for first in random.sample(range(_FIRST, _LAST + 2 - size), _TRIES):
        if are_free(first, size):
            return first
    raise OSError(f"no {size} free TCP ports in a row between {_FIRST} and {_LAST}")


def are_free(first: int, count: int) -> bool:
    """Return whether nothing listens on any of `count` ports in a row."""
    for port in range(first, first + count):
        # without SO_REUSEPORT: a listener that would share the port is found too
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True
