"""What a peer is told, over the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

_PREFIX = "SERVE_APP_PEER_"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a peer serves, and how.

    Attributes:
        weights: state_dict with the names of `build_network`.
        architecture: of the network.
        task: name; gives the classes.
        path: of the route.
        port: on 127.0.0.1.
        workers: processes with a model.
        threads: of torch in each; 0: torch's default, one per core.
        batch: images at once, at most.
        wait_ms: for a batch to fill.
        fast_queue: LitServe's ZeroMQ transport.
    """

    weights: str
    architecture: str
    task: str
    path: str
    port: int
    workers: int = 1
    threads: int = 0
    batch: int = 8
    wait_ms: float = 5.0
    fast_queue: bool = False

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads."""
        return {f"{_PREFIX}{name.upper()}": str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read what `to_environment` said."""

        def value(name: str) -> str:
            return environment[f"{_PREFIX}{name.upper()}"]

        return cls(
            *(value(name) for name in ("weights", "architecture", "task", "path")),
            port=int(value("port")),
            workers=int(value("workers")),
            threads=int(value("threads")),
            batch=int(value("batch")),
            wait_ms=float(value("wait_ms")),
            fast_queue=value("fast_queue") == "True",
        )
