"""A closed loop of uploads: `python -m loadtests.images.load`, a plan on stdin, events and the outcome on stdout.

In a process of its own, so that its CPU is known and no model shares its interpreter; sockets and a selector, no HTTP
library: about 0.1 ms of CPU a request. Each connection sends its next request as soon as it has its answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.images.messages import BadResponse, Response, read_response, upload_request

_RECEIVE_BYTES = 1 << 16
_SEND_BUFFER_BYTES = 1 << 20  # a whole upload: one system call
_TICK_S = 0.5
_PAUSE_S = 0.05  # before another connection is tried where one was refused
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send.

    Attributes:
        port: on 127.0.0.1.
        path: of the route.
        images: files, in turns.
        concurrency: connections.
        warm_up_s: answers before are not counted.
        seconds: counted from then.
        num_requests: in place of `seconds`: so many are sent and counted.
        progress_every: answers between two `answers N` events; none with 0.
        timeout_s: an answer that takes longer has failed.
        with_version: keep the header X-Model-Version of each answer.
    """

    port: int
    path: str
    images: tuple[str, ...]
    concurrency: int
    warm_up_s: float = 0.0
    seconds: float = 0.0
    num_requests: int | None = None
    progress_every: int = 0
    timeout_s: float = 120.0
    with_version: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got.

    Attributes:
        latency_ms: from its first byte sent to its last one received.
        image: number in the plan's images.
        status: code; 0 where the connection broke, the answer was no HTTP or too late.
        body: text, or the failure.
        version: X-Model-Version, if the plan asked for it.
    """

    latency_ms: float
    image: int
    status: int
    body: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All answers that were counted.

    Attributes:
        wall_s: that they came in.
        cpu_s: of the generator meanwhile.
        answers: in the order they came.
    """

    wall_s: float
    cpu_s: float
    answers: tuple[Answer, ...]

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Read what the generator wrote."""
        values = json.loads(text)
        return cls(values["wall_s"], values["cpu_s"], tuple(Answer(*each) for each in values["answers"]))

    def to_json(self) -> str:
        """Return it on one line."""
        answers = [dataclasses.astuple(each) for each in self.answers]
        return json.dumps({"wall_s": self.wall_s, "cpu_s": self.cpu_s, "answers": answers})


class _Connection:
    """One connection and its request; opens itself when needed."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._port = port
        self._selector = selector
        self._socket: socket.socket | None = None
        self._rest = memoryview(b"")
        self._received = bytearray()
        self.image = 0
        self.started_s = 0.0

    def send(self, image: int, request: bytes) -> None:
        """Begin a request; OSError where there is no connection."""
        self.image, self.started_s = image, time.perf_counter()
        self._received.clear()
        self._rest = memoryview(request)
        if self._socket is None:
            self._socket = self._open()
        self._write()

    def advance(self, mask: int) -> Response | None:
        """Go on; return the answer once it is whole. OSError or BadResponse where there will be none."""
        if self._socket is None:
            return None
        if mask & selectors.EVENT_WRITE:
            self._write()
        if not mask & selectors.EVENT_READ:
            return None
        chunk = self._socket.recv(_RECEIVE_BYTES)
        if not chunk:
            raise ConnectionResetError("closed before the answer was whole")
        self._received += chunk
        found = read_response(self._received)
        if found is None:
            return None
        # answered before it had all of the upload: what is left of it would be taken for the next request
        if self._rest or not found[0].stays_open:
            self.close()
        return found[0]

    def close(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=10.0)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        opened.setblocking(False)
        self._selector.register(opened, selectors.EVENT_READ, self)
        return opened

    def _write(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            self._rest = self._rest[self._socket.send(self._rest) :]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._rest else 0)
        if self._selector.get_key(self._socket).events != events:
            self._selector.modify(self._socket, events, self)


class ClosedLoop:
    """Runs a plan once.

    Args:
        plan: what to send.
        tell: hears `begin`, `answers N` and `end`, as they happen.
    """

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        host = f"127.0.0.1:{plan.port}"
        self._requests = [
            upload_request(host, plan.path, Path(image).name, Path(image).read_bytes()) for image in plan.images
        ]
        self._turns = itertools.cycle(range(len(self._requests)))
        self._num_left = sys.maxsize if plan.num_requests is None else plan.num_requests
        self._answers: list[Answer] = []
        self._is_counting = False
        self._idle: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()

    def run(self) -> Outcome:
        """Send everything; return when all that was sent is answered or has failed."""
        plan = self._plan
        with selectors.DefaultSelector() as selector:
            self._idle.extend(_Connection(plan.port, selector) for _ in range(plan.concurrency))
            connections = list(self._idle)
            try:
                self._until(selector, time.perf_counter() + plan.warm_up_s)
                self._tell("begin")
                self._is_counting = True
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                self._until(selector, began_s + plan.seconds if plan.num_requests is None else float("inf"))
                wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
                self._tell("end")
                self._is_counting = False
                # not left behind: the server would still be at them when the next plan comes
                self._num_left = 0
                self._until(selector, float("inf"))
            finally:
                for connection in connections:
                    connection.close()
        return Outcome(wall_s, cpu_s, tuple(self._answers))

    def _until(self, selector: selectors.BaseSelector, deadline_s: float) -> None:
        """Go on until then, or until all is sent and answered."""
        while (now_s := time.perf_counter()) < deadline_s and (self._busy or self._num_left):
            while self._idle and self._num_left:
                self._send(self._idle.popleft())
            for key, mask in selector.select(min(_TICK_S, deadline_s - now_s)):
                self._advance(key.data, mask)
            if len(self._busy) and now_s - min(each.started_s for each in self._busy) > self._plan.timeout_s:
                for connection in [each for each in self._busy if now_s - each.started_s > self._plan.timeout_s]:
                    self._failed(connection, f"no answer within {self._plan.timeout_s:g} s")

    def _send(self, connection: _Connection) -> None:
        self._num_left -= 1
        self._busy.add(connection)
        image = next(self._turns)
        try:
            connection.send(image, self._requests[image])
        except OSError as error:
            self._failed(connection, repr(error))
            time.sleep(_PAUSE_S)

    def _advance(self, connection: _Connection, mask: int) -> None:
        try:
            response = connection.advance(mask)
        except BlockingIOError:
            return
        except (OSError, BadResponse) as error:
            if connection in self._busy:
                self._failed(connection, repr(error))
            else:  # kept alive for nothing: the server closed it between two requests
                connection.close()
            return
        if response is not None:
            version = (response.header(b"x-model-version") or b"").decode() if self._plan.with_version else ""
            self._answered(connection, response.status, response.body.decode(errors="replace"), version)

    def _failed(self, connection: _Connection, reason: str) -> None:
        connection.close()
        self._answered(connection, 0, reason)

    def _answered(self, connection: _Connection, status: int, body: str, version: str = "") -> None:
        self._busy.discard(connection)
        self._idle.append(connection)
        if self._is_counting:
            latency_ms = 1e3 * (time.perf_counter() - connection.started_s)
            self._answers.append(Answer(latency_ms, connection.image, status, body, version))
            every = self._plan.progress_every
            if every and len(self._answers) % every == 0:
                self._tell(f"answers {len(self._answers)}")


def run_apart(plan: Plan, hear: Callable[[str], None] = lambda event: None) -> Outcome:
    """Run a plan in a process of its own; `hear` is called with each event as it comes.

    Raises:
        RuntimeError: the process failed.
    """
    command = [sys.executable, "-m", "loadtests.images.load"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(dataclasses.asdict(plan)))
        process.stdin.close()
        for line in process.stdout:
            if line.startswith("{"):
                return Outcome.from_json(line)
            hear(line.strip())
    raise RuntimeError(f"the load generator ended with {process.returncode}")


def main() -> None:
    """Run the plan on stdin."""
    values = json.load(sys.stdin)
    outcome = ClosedLoop(
        Plan(**{**values, "images": tuple(values["images"])}), lambda event: print(event, flush=True)
    ).run()
    print(outcome.to_json(), flush=True)


if __name__ == "__main__":
    main()
