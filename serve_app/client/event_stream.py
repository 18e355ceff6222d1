"""`ClientEvent`: an event of a job; and the parser of the stream of server-sent events that it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

STREAM_SILENCE_S = 60.0  # four heartbeats: a connection that is silent for longer is dead


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """One event of a job.

    Attributes:
        seq: its number within the job; `after_seq` takes it, to go on after this event.
        name: `progress`, `completed`, `failed` or `cancelled`.
        payload: the body of the job's callback.
    """

    seq: int
    name: str
    payload: dict[str, Any]


def parse_blocks(chunks: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """Parse a stream of server-sent events into blocks of fields.

    Lines end at LF or CRLF only: `str.splitlines` knows more line ends, which are legal inside the data.
    """
    block: dict[str, str] = {}
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.removesuffix(b"\r").decode().partition(":")
            value = value.removeprefix(" ")
            if not name and not value:
                if block:
                    yield block
                block = {}
            elif name:  # a nameless line is a comment: a heartbeat
                block[name] = f"{block[name]}\n{value}" if name == "data" and name in block else value
