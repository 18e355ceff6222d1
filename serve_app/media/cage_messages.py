"""`Answers`: what a worker of `media.cage` says, read without trust; and what it is sent.

A worker may be out of order: a stranger's file has been decoded in it.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from serve_app.media.artifacts import store_faults
from serve_app.media.cage_worker import LENGTHS, MAX_BLOCK_BYTES, MAX_READ_BYTES
from serve_app.sentences import from_json

POLL_S = 0.05  # a caller that has left is noticed within it
SEND_S = 30.0  # a worker reads what it is sent at once, unless something is wrong
_MAX_HEADER_BYTES = 1 << 16
_DTYPES = frozenset({"<f4", "|u1"})
# What `from_json` raises for what a worker in order does not send.
NO_SENTENCE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)


class Malformed(Exception):
    """Raised for an answer that a worker in order does not give."""


class Gone(Exception):
    """Raised where a worker's connection has ended."""


class Late(Exception):
    """Raised where a worker has taken too long."""


def sentence_of(answered: Any) -> str:
    """Return a sentence that a worker sent.

    Raises:
        Malformed: it is none.
    """
    try:
        return from_json(answered)
    except NO_SENTENCE:
        raise Malformed("no sentence") from None


class Answers:
    """What a worker says, within the time that it has.

    Args:
        connection: to the worker, with a timeout of POLL_S.
        wall_s: seconds that the worker is awaited, all answers together.
        wall_s_per_value: more seconds, for each number that it has sent.
        should_stop: asked at each wait; true raises asyncio.CancelledError.
    """

    def __init__(
        self, connection: socket.socket, wall_s: float, wall_s_per_value: float, should_stop: Callable[[], bool]
    ) -> None:
        self._connection = connection
        self._wall_s, self._wall_s_per_value = wall_s, wall_s_per_value
        self._should_stop = should_stop
        self._waited_s = 0.0
        self._num_values = 0

    def next(self) -> tuple[dict[str, Any], bytearray]:
        """Return the next header and its numbers.

        Raises:
            Gone, Late, Malformed: the worker is gone, has taken too long, or is out of order.
        """
        header_bytes, num_bytes = LENGTHS.unpack(self._receive(LENGTHS.size))
        if header_bytes > _MAX_HEADER_BYTES or num_bytes > MAX_BLOCK_BYTES:
            raise Malformed("too long")
        try:
            header = json.loads(self._receive(header_bytes))
        except (ValueError, RecursionError):
            raise Malformed("no JSON") from None
        if not isinstance(header, dict):
            raise Malformed("no object")
        numbers = self._receive(num_bytes)
        self._num_values += num_bytes // 4
        return header, numbers

    def _receive(self, num_bytes: int) -> bytearray:
        received = bytearray(num_bytes)
        view = memoryview(received)
        while view:
            started = time.monotonic()
            try:
                count = self._connection.recv_into(view)
            except TimeoutError:
                count = None
            except OSError:
                count = 0
            self._waited_s += time.monotonic() - started
            if count == 0:
                raise Gone
            if self._should_stop():
                raise asyncio.CancelledError
            if self._waited_s > self._wall_s + self._num_values * self._wall_s_per_value:
                raise Late
            view = view[count or 0 :]
        return received


def array_of(header: dict[str, Any], numbers: bytearray) -> np.ndarray:
    """Return the array of float32 or uint8, of one to three dimensions, that a header describes; Malformed."""
    dtype, shape = header.get("dtype"), header.get("shape")
    if dtype not in _DTYPES or not isinstance(shape, list) or not 1 <= len(shape) <= 3:
        raise Malformed("no array")
    if not all(type(side) is int and 0 <= side <= MAX_BLOCK_BYTES for side in shape):
        raise Malformed("no shape")
    wanted = np.dtype(dtype)
    if math.prod(shape) * wanted.itemsize != len(numbers):
        raise Malformed("another size")
    return np.frombuffer(numbers, dtype=wanted).reshape(shape)


def send_request(connection: socket.socket, request: bytes, descriptor: int | None) -> None:
    """Send a request, and the descriptor of its file where it has one; OSError where the worker is gone."""
    head = len(request).to_bytes(4, "big")
    if descriptor is None:
        connection.sendall(head + request)
    else:
        socket.send_fds(connection, [head], [descriptor])
        connection.sendall(request)


def send_part(connection: socket.socket, file: BinaryIO, header: dict[str, Any]) -> None:
    """Send the part of a file that a header asks for.

    Raises:
        Gone, Malformed: the worker is gone, or asks for what is no part of a file.
        OSError: the file can't be read.
        StorageUnavailable: the store fails.
    """
    offset, num_bytes = header.get("offset"), header.get("num_bytes")
    if type(offset) is not int or type(num_bytes) is not int or offset < 0 or not 0 < num_bytes <= MAX_READ_BYTES:
        raise Malformed("no part of a file")
    with store_faults():  # not of the file: the libraries of stores raise kinds of their own
        file.seek(offset)
        data = file.read(num_bytes)
    try:
        connection.settimeout(SEND_S)
        connection.sendall(len(data).to_bytes(4, "big") + data)
        connection.settimeout(POLL_S)
    except OSError:
        raise Gone from None
