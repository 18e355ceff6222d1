"""The processes of `media.cage`: a first one with the decoders' libraries loaded, and workers, which are its copies.

A worker decodes one file at a time within limits of memory, processor time and time. It ends when its connection closes
or the first process ends, which ends when the process that started it does. It has no secrets: not the environment of
that process, and no open files but the one to decode. Its answers are JSON and numbers, never pickles.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import math
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from serve_app.errors import ServeAppError
from serve_app.sentences import to_json

if TYPE_CHECKING:
    import numpy as np

LENGTHS = struct.Struct("!II")  # of the JSON header and of the numbers that follow it
MAX_BLOCK_BYTES = 16 << 20
MAX_READ_BYTES = 1 << 20
_READ_AHEAD_BYTES = 1 << 18
_MAX_DETAIL = 2000  # characters
_NUM_OPEN_FILES = 64  # the interpreter's own, the file, and modules that a decoder imports late
_RETAINED_BYTES = 64 << 20  # of freed memory that the C library keeps: more, and the worker ends after its file
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_PAGE_BYTES = resource.getpagesize()


def main() -> None:
    """Load the modules that are named, then fork a worker, or end one, for each command; end with the connection."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: whoever started this process decides
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()  # so that the workers' collections leave the shared pages alone
    control.send(b"ready")
    while command := control.recv(64).split():
        if command[0] == b"fork":
            _fork(control)
        else:
            pid = int(command[1])
            os.kill(pid, signal.SIGKILL)  # not yet waited for: the id is still its own; no effect on one that has ended
            control.send(b"%d" % os.waitpid(pid, 0)[1])


def _fork(control: socket.socket) -> None:
    try:
        ours, theirs = socket.socketpair()
        parent, pid = os.getpid(), os.fork()
    except OSError as error:
        control.send(b"error %d" % (error.errno or 0))
        return
    if pid == 0:
        control.close()
        theirs.close()
        _work(ours, parent)
    ours.close()
    socket.send_fds(control, [b"%d" % pid], [theirs.fileno()])
    theirs.close()


def _work(connection: socket.socket, parent: int) -> NoReturn:
    status = 1
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # as in a process that has decoded much; else each file's memory is given back and faulted in again
        libc.mallopt(_M_TRIM_THRESHOLD, _RETAINED_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _RETAINED_BYTES // 2)
        if os.getppid() != parent:
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):  # libraries print about broken files
            os.dup2(null, standard)
        os.close(null)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # where the machine runs out of memory, the decoder goes, not the replica
        for kind, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, _NUM_OPEN_FILES),
        ):
            resource.setrlimit(kind, (most, most))
        worker = Worker(connection, _address_space(), libc)
        while worker.serve_one():
            pass
        status = 0
    finally:
        os._exit(status)  # no clean-up of what belongs to the process that this one is a copy of


class Worker:
    """Answers one request after the other.

    Args:
        connection: to the process that asks.
        base_bytes: of address space that the worker has before its first file.
        libc: of this process.
    """

    def __init__(self, connection: socket.socket, base_bytes: int, libc: Any) -> None:
        self._connection = connection
        self._base_bytes = base_bytes
        self._libc = libc
        self._limits: dict[str, float] = {}
        self._cpu_before_s = 0.0
        self._num_values = 0

    def serve_one(self) -> bool:
        """Answer the next request; return whether another may follow."""
        head, descriptors, _, _ = socket.recv_fds(self._connection, 4, 1)
        if not head:
            return False
        head += self._receive(4 - len(head))
        request = pickle.loads(self._receive(int.from_bytes(head, "big")))  # noqa: S301 - of the parent
        self._limits, self._num_values = request["limits"], 0
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu_before_s = used.ru_utime + used.ru_stime
        file: BinaryIO = (
            os.fdopen(descriptors[0], "rb")
            if descriptors
            else io.BufferedReader(_AskedFile(self, request["num_bytes"]), _READ_AHEAD_BYTES)
        )
        memory = self._base_bytes + int(self._limits["memory_bytes"])
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.RLIM_INFINITY))
        self._allow_time()
        reply = self._outcome(request, file)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        del request
        with suppress(Exception):
            file.close()
        is_last = reply["kind"] in ("memory", "unexpected") or self._retains_much()
        self._send({**reply, "last": is_last})
        return not is_last

    def _outcome(self, request: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
        try:
            module, _, name = request["function"].partition(":")
            value = getattr(importlib.import_module(module), name)(file, **request["arguments"])
            if isinstance(value, Generator):
                value = yield_all(value, self._send_array)
            elif hasattr(value, "dtype"):
                self._send_array(value)
                value = None
            return {"kind": "done", "value": value}
        except MemoryError:
            return {"kind": "memory"}
        except ServeAppError as error:
            return {"kind": "error", "error": type(error).__name__, "detail": _shortened(error.detail)}
        except OSError as error:
            return {"kind": "error", "error": "OSError", "detail": str(error)[:2000]}
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__} in {where.name}, line {where.lineno} of {os.path.basename(where.filename)}"
            return {"kind": "unexpected", "detail": text}

    def ask(self, offset: int, num_bytes: int) -> bytes:
        """Return a part of the file, read by the process that has access to it."""
        self._send({"kind": "read", "offset": offset, "num_bytes": num_bytes})
        with self._stopped_clock():
            return self._receive(int.from_bytes(self._receive(4), "big"))

    def _send_array(self, array: np.ndarray) -> None:
        step = MAX_BLOCK_BYTES // array.itemsize if array.ndim == 1 else max(1, len(array))
        for start in range(0, max(1, len(array)), step):
            part = array[start : start + step]
            self._num_values += part.size
            header = {"kind": "block", "dtype": part.dtype.str, "shape": list(part.shape)}
            self._send(header, part.tobytes() if not part.flags.c_contiguous else part.data.cast("B"))
            self._allow_time()

    def _send(self, header: dict[str, Any], numbers: Any = b"") -> None:
        text = json.dumps(header).encode()
        with self._stopped_clock():
            self._connection.sendall(LENGTHS.pack(len(text), len(numbers)) + text)
            if len(numbers):
                self._connection.sendall(numbers)

    def _receive(self, num_bytes: int) -> bytes:
        parts = bytearray(num_bytes)
        view = memoryview(parts)
        while view:
            received = self._connection.recv_into(view)
            if not received:
                os._exit(0)
            view = view[received:]
        return bytes(parts)

    def _allow_time(self) -> None:
        """Grant the processor time and the time that the file may take, so far as it has been decoded."""
        cpu_s = self._limits["cpu_s"] + self._num_values * self._limits["cpu_s_per_value"]
        wall_s = self._limits["wall_s"] + self._num_values * self._limits["wall_s_per_value"]
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(self._cpu_before_s + cpu_s), resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_REAL, wall_s)

    @contextmanager
    def _stopped_clock(self) -> Iterator[None]:
        """Keep the time in which the other side is awaited out of the file's."""
        left_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        yield
        if left_s:
            signal.setitimer(signal.ITIMER_REAL, left_s)

    def _retains_much(self) -> bool:
        if _address_space() - self._base_bytes > _RETAINED_BYTES:
            self._libc.malloc_trim(0)
        return _address_space() - self._base_bytes > _RETAINED_BYTES


class _AskedFile(io.RawIOBase):
    """A file that only the other process can read."""

    def __init__(self, worker: Worker, num_bytes: int) -> None:
        self._worker = worker
        self._num_bytes = num_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._num_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), MAX_READ_BYTES, max(0, self._num_bytes - self._position))
        if not wanted:
            return 0
        data = self._worker.ask(self._position, wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def yield_all(generator: Generator[np.ndarray, None, Any], send: Any) -> Any:
    """Send each array of a generator; return the generator's value."""
    while True:
        try:
            array = next(generator)
        except StopIteration as stop:
            return stop.value
        send(array)


def _shortened(detail: str) -> str | dict[str, Any]:
    """Return a sentence as JSON; its text's beginning where it is long."""
    return to_json(detail) if len(detail) <= _MAX_DETAIL else detail[:_MAX_DETAIL]


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * _PAGE_BYTES


if __name__ == "__main__":
    main()
