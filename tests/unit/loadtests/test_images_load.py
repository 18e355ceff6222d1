"""The load generator: messages on the wire, and the closed loop against a small server of sockets."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser

from loadtests.images.load import Answer, ClosedLoop, Outcome, Plan
from loadtests.images.messages import BadResponse, read_response, upload_request

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 2\r\nX-Model-Version: a (1)\r\n\r\n{}"


def test_an_answer_is_found_once_it_is_whole() -> None:
    for size in range(len(_OK)):
        assert read_response(_OK[:size]) is None
    found = read_response(bytearray(_OK + b"HTTP/1.1 404"))
    assert found is not None
    response, size = found
    assert (response.status, response.body, size) == (200, b"{}", len(_OK))
    assert response.header(b"x-model-version") == b"a (1)"
    assert response.header(b"version") is None
    assert response.stays_open


def test_a_closing_answer_says_so() -> None:
    found = read_response(b"HTTP/1.1 413 Too Large\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n")
    assert found is not None
    assert (found[0].status, found[0].body, found[0].stays_open) == (413, b"", False)


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"],
)
def test_what_is_no_known_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        read_response(data)


async def _file_of(request: bytes) -> UploadFile:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    headers = Headers({name.lower(): value for name, value in (line.split(": ", 1) for line in lines)})
    assert int(headers["content-length"]) == len(body)

    async def stream():
        yield body
        yield b""

    form = await MultiPartParser(headers, stream()).parse()
    file = form["file"]
    assert isinstance(file, UploadFile)
    return file


def test_an_upload_is_the_form_that_servers_read() -> None:
    import asyncio

    content = bytes(range(256)) * 500 + b"\r\n--"
    file = asyncio.run(_file_of(upload_request("127.0.0.1:1", "/classify", "a b.jpg", content)))
    assert (file.filename, file.content_type) == ("a b.jpg", "image/jpeg")
    assert file.file.read() == content


class _Server(socketserver.ThreadingTCPServer):
    """Answers each upload with what `answer` gives for its number; None: closes the connection."""

    def __init__(self, answer: Callable[[int], bytes | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.port = self.server_address[1]
        self.answer = answer
        self.num = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def next_number(self) -> int:
        with self._lock:
            self.num += 1
            return self.num - 1

    def close(self) -> None:
        """Stop, and wait for the threads of all connections."""
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while line := self.rfile.readline():
            length = 0
            while line not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                line = self.rfile.readline()
            self.rfile.read(length)
            answer = self.server.answer(self.server.next_number())
            if answer is None:
                return
            self.wfile.write(answer)


@pytest.fixture
def images(tmp_path: Path) -> tuple[str, ...]:
    paths = [tmp_path / f"{name}.jpg" for name in "ab"]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 600_000)  # more than a socket's buffer takes at once
    return tuple(str(path) for path in paths)


@pytest.fixture
def serve() -> Iterator[Callable[..., _Server]]:
    servers: list[_Server] = []

    def start(answer: Callable[[int], bytes | None]) -> _Server:
        servers.append(_Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_all_that_was_planned_is_sent_in_turns(serve: Callable[..., _Server], images: tuple[str, ...]) -> None:
    server, events = serve(lambda number: _OK), []
    plan = Plan(server.port, "/x", images, 3, num_requests=11, progress_every=5, with_version=True)
    outcome = ClosedLoop(plan, events.append).run()
    assert events == ["begin", "answers 5", "answers 10", "end"]
    assert [answer.status for answer in outcome.answers] == [200] * 11
    assert {answer.version for answer in outcome.answers} == {"a (1)"}
    assert sorted(answer.image for answer in outcome.answers) == [0] * 6 + [1] * 5
    assert server.num == 11
    assert 0 < min(answer.latency_ms for answer in outcome.answers) <= 1e3 * outcome.wall_s


def test_a_lost_connection_is_a_failed_answer_and_the_next_one_is_opened(
    serve: Callable[..., _Server], images: tuple[str, ...]
) -> None:
    closing = _OK.replace(b"content-length", b"Connection: close\r\ncontent-length")
    server = serve(lambda number: [_OK, None, closing, b"nonsense\r\n\r\n", _OK][number])
    outcome = ClosedLoop(Plan(server.port, "/x", images, 1, num_requests=5), lambda event: None).run()
    assert [answer.status for answer in outcome.answers] == [200, 0, 200, 0, 200]
    assert "closed before" in outcome.answers[1].body
    assert "no HTTP" in outcome.answers[3].body


def test_nobody_there_is_a_failed_answer(images: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    [answer] = ClosedLoop(Plan(port, "/x", images, 1, num_requests=1), lambda event: None).run().answers
    assert (answer.status, answer.body[:22]) == (0, "ConnectionRefusedError")


def test_an_answer_that_never_comes_has_failed(serve: Callable[..., _Server], images: tuple[str, ...]) -> None:
    server = serve(lambda number: b"" if number == 0 else _OK)
    plan = Plan(server.port, "/x", images, 1, num_requests=2, timeout_s=0.1)
    outcome = ClosedLoop(plan, lambda event: None).run()
    assert [answer.status for answer in outcome.answers] == [0, 200]
    assert outcome.answers[0].body == "no answer within 0.1 s"


def test_what_comes_before_and_after_the_window_is_not_counted(
    serve: Callable[..., _Server], images: tuple[str, ...]
) -> None:
    server = serve(lambda number: _OK)
    outcome = ClosedLoop(Plan(server.port, "/x", images, 2, warm_up_s=0.1, seconds=0.1), lambda event: None).run()
    assert 0 < len(outcome.answers) < server.num - 1
    assert 0.1 <= outcome.wall_s < 1


def test_an_outcome_survives_the_pipe() -> None:
    outcome = Outcome(1.5, 0.25, (Answer(2.0, 1, 200, '{"a": "ü"}', "v (1)"), Answer(9.0, 0, 0, "lost")))
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert "\n" not in outcome.to_json()
