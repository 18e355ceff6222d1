"""`Zygote`: the process that forks the workers of `media.cage`, seen from the process that started it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.errors import Unavailable
from serve_app.sentences import Sentence

_START_S = 120.0  # to load libraries on a busy machine
_ANSWER_S = 30.0  # to fork, or to end a worker
# Threads of numpy's libraries would not survive the fork. Nothing else of the environment is handed on.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A worker.

    Attributes:
        pid: of its process.
        connection: to it.
        generation: of the process that forked it.
        num_files: that it was given.
        status: of its end, once that is known.
        is_ended: whether `Zygote.end` has seen to it.
    """

    pid: int
    connection: socket.socket
    generation: int
    num_files: int = 0
    status: int | None = None
    is_ended: bool = False


class Zygote:
    """Starts with the first worker, and again after it was ended from outside; for any thread.

    Args:
        preload: modules that it loads before it forks.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._generation = 0

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return self._process.pid if self._process is not None else None

    def fork(self) -> WorkerProcess:
        """Return a new worker; Unavailable where the machine has no process or memory for one."""
        with self._lock:
            for _ in range(2):  # once more where the process was ended from outside
                if self._control is None:
                    self._start()
                assert self._control is not None
                try:
                    self._control.send(b"fork")
                    answer, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
                except OSError:
                    answer, descriptors = b"", []
                if descriptors:
                    return WorkerProcess(int(answer), socket.socket(fileno=descriptors[0]), self._generation)
                if answer.startswith(b"error"):
                    reason = os.strerror(int(answer.split()[1]))
                    raise Unavailable(
                        Sentence("The machine has no process for a decoder ({reason}); try again later", reason=reason)
                    )
                self._forget()
            raise Unavailable(Sentence("The decoders' process ends as it starts; see its messages in the log"))

    def end(self, worker: WorkerProcess) -> int | None:
        """Kill a worker if it lives; return its exit status, None where the zygote is gone as well."""
        with self._lock:
            if worker.is_ended:
                return worker.status
            worker.is_ended = True
            worker.connection.close()
            if self._control is None or worker.generation != self._generation:
                return None
            try:
                self._control.send(b"end %d" % worker.pid)
                answer = self._control.recv(64)
            except OSError:
                answer = b""
            if not answer:
                self._forget()
                return None
            worker.status = int(answer)
            return worker.status

    def close(self) -> None:
        """End the process, and its workers with it."""
        with self._lock:
            self._forget()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptor = theirs.fileno()
            command = [sys.executable, "-W", "ignore", "-m", "serve_app.media.cage_worker", str(descriptor)]
            try:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                    [*command, *self._preload],
                    pass_fds=[descriptor],
                    env=_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            except OSError as error:
                ours.close()
                raise Unavailable(
                    Sentence("No process for decoders can be started ({reason})", reason=error.strerror)
                ) from error
        self._control, self._generation = ours, self._generation + 1
        ours.settimeout(_START_S)
        try:
            is_ready = ours.recv(64) == b"ready"
        except OSError:
            is_ready = False
        if not is_ready:
            self._forget()
            raise Unavailable(Sentence("The decoders' process does not start; see its messages in the log"))
        ours.settimeout(_ANSWER_S)

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
