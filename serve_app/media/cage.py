"""`Cage`: decodes strangers' files in processes of their own, with limits of memory, processor time and time.

FFmpeg, libtiff and the like parse what strangers send. A file can make them crash, allocate gigabytes or run for hours;
in a replica it would take everybody else's work along. Here it ends its decoder only, and its error names the limit.
The cage bounds what a file costs; it is no protection against a decoder that is made to run a stranger's code.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np

from serve_app import errors
from serve_app.errors import MediaError, ServeAppError
from serve_app.media.artifacts import store_faults
from serve_app.media.cage_messages import (
    POLL_S,
    SEND_S,
    Answers,
    Gone,
    Late,
    Malformed,
    array_of,
    send_part,
    send_request,
    sentence_of,
)
from serve_app.media.cage_zygote import WorkerProcess, Zygote
from serve_app.sentences import Sentence

logger = logging.getLogger("ray.serve")

_IDLE_S = 300.0  # then the processes' memory is given back
_FILES_PER_WORKER = 200  # what one file leaves behind in a process reaches few others
_REMOTE_BLOCK_BYTES = 1 << 22
T = TypeVar("T")

_ERRORS: dict[str, type[Exception]] = {
    name: getattr(errors, name)
    for name in ("AudioExtractionError", "ImageUnreadable", "ImageTooLarge", "ProcessingError")
} | {"OSError": OSError}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What decoding one file may take.

    Attributes:
        memory_bytes: of address space, beside the libraries'.
        cpu_s: seconds of processor time.
        wall_s: seconds, without those in which the worker waits for its caller.
        cpu_s_per_value: more, for each number that the worker has sent.
        wall_s_per_value: more, for each number that the worker has sent.
    """

    memory_bytes: int
    cpu_s: float
    wall_s: float
    cpu_s_per_value: float = 0.0
    wall_s_per_value: float = 0.0


class _Killed(Exception):
    """The cause of a fault where the worker was ended by SIGKILL."""


class Cage:
    """Runs functions on strangers' files in worker processes; for any thread.

    The processes start with the first file (0.3 s) and end after five minutes without one. As many workers live as
    calls came at once.

    Args:
        fault: raised for a file that ends its decoder, or takes more than its limits.
        noun: of the file in such an error.
        preload: modules that every worker has loaded.
    """

    def __init__(self, fault: type[MediaError], noun: str, preload: Sequence[str]) -> None:
        self._fault = fault
        self._noun = noun
        self._zygote = Zygote(preload)
        self._idle: list[WorkerProcess] = []
        self._num_busy = 0
        self._last_used = 0.0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process that forks the workers, where it runs."""
        return self._zygote.pid

    def call(
        self,
        function: str,
        source: str | bytes,
        arguments: Mapping[str, Any],
        limits: Limits,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> tuple[np.ndarray | None, Any]:
        """Return the one array that a function gave, if it gave one, and its value; as of `blocks`."""

        def attempt() -> tuple[np.ndarray | None, Any]:
            generator = self.blocks(function, source, arguments, limits, should_stop)
            array = None
            try:
                while True:
                    array = next(generator)
            except StopIteration as stop:
                return array, stop.value

        return again_if_killed(attempt)

    def blocks(
        self,
        function: str,
        source: str | bytes,
        arguments: Mapping[str, Any],
        limits: Limits,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Generator[np.ndarray, None, Any]:
        """Yield the arrays that a function makes of a file, as it makes them; return its value.

        Args:
            function: "module:name". It takes the file as a seekable binary file, and the arguments by name. It returns
                an array, a value of JSON, or a generator of arrays that returns such a value. Arrays are float32 or
                uint8; long ones of one dimension arrive in parts.
            source: local path, fsspec URL or a file's bytes.
            limits: of this file.
            should_stop: asked several times a second while the worker is awaited.

        Raises:
            MediaError: as the function raises it; `fault` where the file ended its decoder or took too much.
            OSError: the file can't be read.
            Unavailable: the machine has no process or memory for a worker; StorageUnavailable: the store fails.
            asyncio.CancelledError: `should_stop` returned true; the worker is gone.
        """
        with self._use(), _opened(source) as (descriptor, remote, num_bytes):
            request = pickle.dumps(
                {"function": function, "arguments": dict(arguments), "limits": asdict(limits), "num_bytes": num_bytes}
            )
            worker = self._asked(request, descriptor)
            is_last = True
            try:
                answers = Answers(worker.connection, limits.wall_s, limits.wall_s_per_value, should_stop)
                while True:
                    header, numbers = answers.next()
                    kind = header.get("kind")
                    if kind == "block":
                        yield array_of(header, numbers)
                    elif kind == "read" and remote is not None:
                        send_part(worker.connection, remote, header)
                    else:
                        is_last = header.get("last") is not False
                        return self._value(header, limits)
            except Gone:
                status = self._zygote.end(worker)
                raise self._why(status, limits) from (_Killed() if _signal(status) == signal.SIGKILL else None)
            except Late:
                raise self._fault(self._too_slow(limits.wall_s)) from None
            except Malformed as error:
                logger.warning("A decoder's answer is malformed (%s); its file is refused", error)
                raise self._fault(Sentence("The {noun} can't be decoded: its decoder fails", noun=self._noun)) from None
            finally:
                self._put_back(worker, is_last)

    def close(self) -> None:
        """End all processes; a later call starts them again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        for worker in self._idle:
            self._zygote.end(worker)
        self._idle = []
        self._zygote.close()

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._lock:
            self._num_busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_busy -= 1
                self._last_used = time.monotonic()
                if self._timer is None:
                    self._close_later(_IDLE_S)

    def _close_later(self, wait_s: float) -> None:
        self._timer = threading.Timer(wait_s, self._close_if_idle)
        self._timer.name, self._timer.daemon = "serve_app-idle-decoders", True
        self._timer.start()

    def _close_if_idle(self) -> None:
        with self._lock:
            self._timer = None
            left_s = self._last_used + _IDLE_S - time.monotonic()
            if not self._num_busy and left_s <= 0:
                self._close()
            else:
                self._close_later(max(left_s, 1.0))

    def _asked(self, request: bytes, descriptor: int | None) -> WorkerProcess:
        """Return a worker that has got the request; an idle one may have died meanwhile."""
        while True:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            worker = idle or self._zygote.fork()
            worker.num_files += 1
            worker.connection.settimeout(SEND_S)
            try:
                send_request(worker.connection, request, descriptor)
            except OSError:
                self._zygote.end(worker)
                if idle is None:
                    raise errors.Unavailable(Sentence("A decoder's process died as it started")) from None
            except BaseException:
                self._zygote.end(worker)
                raise
            else:
                worker.connection.settimeout(POLL_S)
                return worker

    def _put_back(self, worker: WorkerProcess, is_last: bool) -> None:
        if is_last or worker.num_files >= _FILES_PER_WORKER:
            self._zygote.end(worker)
            return
        with self._lock:
            self._idle.append(worker)

    def _value(self, header: dict[str, Any], limits: Limits) -> Any:
        kind, detail = header.get("kind"), header.get("detail")
        if kind == "done":
            return header.get("value")
        if kind == "memory":
            raise self._fault(self._too_large(limits))
        if kind == "error":
            kind_of_error = _ERRORS.get(str(header.get("error")))
            if kind_of_error is not None:
                raise kind_of_error(sentence_of(detail))
        if kind == "unexpected" and isinstance(detail, str):
            logger.error("A decoder fails on a file: %s", detail[:500])
            raise self._fault(
                Sentence(
                    "The {noun} can't be decoded: its decoder fails ({fault})", noun=self._noun, fault=detail[:200]
                )
            )
        raise Malformed(f"kind {str(kind)[:40]!r}")

    def _why(self, status: int | None, limits: Limits) -> ServeAppError:
        """Return why a worker died, by its exit status; None: the process that forks them is gone as well."""
        if status is None:
            return errors.Unavailable(Sentence("The decoders' processes were ended from outside; they start again"))
        number = _signal(status)
        if number == signal.SIGXCPU:
            return self._fault(
                Sentence(
                    "The {noun} takes more than {seconds:.0f} s of processor time to decode: send a smaller one",
                    noun=self._noun,
                    seconds=limits.cpu_s,
                )
            )
        if number == signal.SIGALRM:
            return self._fault(self._too_slow(limits.wall_s))
        name = signal.Signals(number).name if number else f"exit {os.waitstatus_to_exitcode(status)}"
        return self._fault(
            Sentence(
                "The {noun} ends its decoder ({signal}): it is damaged, or takes too much memory",
                noun=self._noun,
                signal=name,
            )
        )

    def _too_slow(self, wall_s: float) -> Sentence:
        return Sentence(
            "The {noun} takes more than {seconds:.0f} s to decode: send a smaller one", noun=self._noun, seconds=wall_s
        )

    def _too_large(self, limits: Limits) -> Sentence:
        return Sentence(
            "The {noun} takes more than {megabytes:.0f} MB of memory to decode",
            noun=self._noun,
            megabytes=limits.memory_bytes / 1e6,
        )


def _signal(status: int | None) -> int:
    """Return the signal that ended a process of this exit status; 0: none, or it is not known."""
    return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0


def again_if_killed(attempt: Callable[[], T]) -> T:
    """Return `attempt()`, made twice where the worker is ended by SIGKILL the first time.

    No limit of the cage sends it: the system does, where the machine runs out of memory, or an operator. It may be no
    fault of the file; where a second worker ends in the same way, it is taken for one.
    """
    try:
        return attempt()
    except MediaError as fault:
        if not isinstance(fault.__cause__, _Killed):
            raise
    return attempt()


@contextmanager
def _opened(source: str | bytes) -> Iterator[tuple[int | None, BinaryIO | None, int]]:
    """Open a file for a worker: its descriptor, or, as workers have no credentials, a file to read from for them."""
    if isinstance(source, str) and "://" in source:
        import fsspec

        with ExitStack() as opened:
            with store_faults():
                storage, path = fsspec.core.url_to_fs(source)
                remote = storage.open(path, "rb", block_size=_REMOTE_BLOCK_BYTES, cache_type="readahead")
                file = cast(BinaryIO, opened.enter_context(remote))
                num_bytes = file.seek(0, os.SEEK_END)
            yield None, file, num_bytes
        return
    descriptor = os.open(source, os.O_RDONLY) if isinstance(source, str) else _in_memory(source)
    try:
        yield descriptor, None, 0
    finally:
        os.close(descriptor)


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("media")
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
