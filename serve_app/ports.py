"""Free TCP ports. Imports nothing heavy."""

from __future__ import annotations

import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections (32768 to 60999 on Linux), above Ray's
# worker ports (10002 to 19999), below those of Serve's replicas (30000 up): what is free now stays free.
_FIRST, _LAST = 20_000, 29_999


def free_ports(count: int) -> list[int]:
    """Return different ports on which nothing listens now, on any interface; OSError if there are none."""
    held: list[socket.socket] = []
    try:
        for port in random.sample(range(_FIRST, _LAST + 1), 200 + count):
            if len(held) == count:
                break
            probe = socket.socket()
            try:
                probe.bind(("", port))
                held.append(probe)
            except OSError:
                probe.close()
        if len(held) < count:
            raise OSError(f"no free TCP port between {_FIRST} and {_LAST}")
        return [probe.getsockname()[1] for probe in held]
    finally:
        for probe in held:
            probe.close()
