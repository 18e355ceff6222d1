"""What decoders do in the tests of the cage: functions that run in its workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import struct
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def length(file: BinaryIO) -> int:
    return len(file.read())


def process_id(file: BinaryIO) -> int:
    return os.getpid()


def limits_and_secrets(file: BinaryIO) -> dict[str, Any]:
    """Say what a worker can see."""
    status = Path("/proc/self/status").read_text()
    return {
        "environment": sorted(os.environ),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
        "no_new_privileges": "NoNewPrivs:\t1" in status,
        "threads": int(status.partition("Threads:")[2].split()[0]),
    }


def ends(file: BinaryIO, *, how: str) -> None:
    {"abort": os.abort, "exit": lambda: os._exit(7), "kill": lambda: os.kill(os.getpid(), signal.SIGKILL)}[how]()


def is_killed_the_first_time(file: BinaryIO, *, mark: str) -> int:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return len(file.read())
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def allocates(file: BinaryIO, *, num_bytes: int) -> int:
    return len(bytearray(num_bytes))


def spins(file: BinaryIO) -> None:
    while True:
        pass


def sleeps(file: BinaryIO) -> None:
    time.sleep(1000)


def ignores_its_alarm(file: BinaryIO) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(1000)


def raises(file: BinaryIO, *, error: str) -> None:
    from serve_app import errors

    raise (getattr(errors, error, None) or getattr(__builtins__, error, ValueError))("as told")


def counts(file: BinaryIO, *, num_blocks: int) -> Generator[np.ndarray, None, str]:
    for index in range(num_blocks):
        yield np.full(1 << 18, index, np.float32)
    return "counted"


def reads_backwards(file: BinaryIO) -> str:
    end = file.seek(0, os.SEEK_END)
    parts = []
    for start in range(max(0, end - 1000), -1, -50_000):
        file.seek(start)
        parts.append(file.read(1000))
    return b"".join(parts)[:100].hex()


def says(file: BinaryIO, *, what: str) -> None:
    """Break the protocol, as a decoder that a stranger has taken over could."""
    connection = next(
        socket.socket(fileno=os.dup(int(name))) for name in os.listdir("/proc/self/fd") if _is_socket(int(name))
    )

    def send(header: Any, numbers: bytes = b"", length: int | None = None) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        connection.sendall(struct.pack("!II", len(text), len(numbers) if length is None else length) + text + numbers)

    block = {"kind": "block", "dtype": "<f4", "shape": [4]}
    {
        "noise": lambda: connection.sendall(os.urandom(64).replace(b"\0", b"\1")),
        "too much": lambda: send(block, length=1 << 31),
        "long header": lambda: connection.sendall(struct.pack("!II", 1 << 20, 0)),
        "no JSON": lambda: send(b"\xff\xfe{"),
        "deep JSON": lambda: send(b"[" * 60_000),
        "a list": lambda: send([1]),
        "another kind": lambda: send({"kind": "pickle", "value": "c"}),
        "another error": lambda: send({"kind": "error", "error": "SystemExit", "detail": "x"}),
        "no sentence": lambda: send(_fault({"sentence": "{a.__class__}", "values": {"a": "x"}})),
        "no sentence of its kind": lambda: send(_fault({"sentence": "{a:c}", "values": {"a": 1 << 40}})),
        "a sentence of gigabytes": lambda: send(_fault({"sentence": "{a:9999999999}", "values": {"a": 1}})),
        "no text": lambda: send(_fault(None)),
        "objects": lambda: send({**block, "dtype": "|O", "shape": [2]}, b"\1" * 16),
        "negative shape": lambda: send({**block, "shape": [-1, -4]}, b"\0" * 16),
        "wrong shape": lambda: send({**block, "shape": [5]}, b"\0" * 16),
        "overflowing shape": lambda: send({**block, "shape": [1 << 24, 1 << 24, 1 << 24]}, b""),
        "a read without a file": lambda: send({"kind": "read", "offset": 0, "num_bytes": 10}),
        "half": lambda: (connection.sendall(struct.pack("!II", 100, 0) + b"{"), os._exit(0)),
    }[what]()
    time.sleep(1000)


def _fault(detail: Any) -> dict[str, Any]:
    return {"kind": "error", "error": "AudioExtractionError", "detail": detail}


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
