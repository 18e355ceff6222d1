"""What the burst's verdict takes for right and for wrong, and its own parts against the real thing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from loadtests.burst import faults as happenings
from loadtests.burst.clients import Clients, Refusal, Submission
from loadtests.burst.disk import MountRefused, SmallDisk
from loadtests.burst.faults import INGRESS_KILLED, Fault, Moment
from loadtests.burst.orders import poison_submission
from loadtests.burst.poison import Poison, Way, poison_files
from loadtests.burst.processes import ProcessWatch, Seen
from loadtests.burst.results import comparable, differences
from loadtests.burst.servers import Arrival, DrippingServer, NotedCallbacks, SilentServer
from loadtests.burst.verdict import callback_faults, memory_problems, met, poison_problem, refused_submissions
from serve_app.commands.demo.local_graph import session_members


def fault(name: str = "runner killed", *, repeats: bool = True, began_s: float = 100.0) -> Fault:
    return Fault(name, 0.5, 0.1, lambda: "", lambda: None, repeats, began_s, began_s + 30)


def arrivals(*sequence: int, first_s: float = 10.0, last: str = "completed") -> list[Arrival]:
    """A job's callbacks, one a second; the highest number is its end."""
    return [
        Arrival(first_s + place, f"msg_{each}", each, last if each == max(sequence) else "processing", 10 * each)
        for place, each in enumerate(sequence)
    ]


def job(group: str = "honest", **values: object) -> Submission:
    return Submission("job-1", group, "clip-0", "/path", {}, **values)


def test_callbacks_once_and_in_order_are_right() -> None:
    assert callback_faults(arrivals(1, 2, 3), [fault()]) == ([], 0)


@pytest.mark.parametrize(
    "came",
    [
        arrivals(1, 3, 2),
        arrivals(1, 3),
        arrivals(2, 3),
        arrivals(1, 2, 2, 3),
        arrivals(1, 2, last="failed"),
        arrivals(1, 2, 3, 3),
        [],
    ],
)
def test_callbacks_out_of_order_missing_or_repeated_are_wrong(came: list[Arrival]) -> None:
    problems, num_again = callback_faults(came, [fault()])
    assert problems
    assert num_again == 0


def test_a_repetition_after_a_kill_is_counted_apart() -> None:
    came = [*arrivals(1, 2, 3, first_s=99.0), Arrival(130.0, "msg_2", 2, "processing", 20)]
    assert callback_faults(came, [fault()]) == ([], 1)
    assert callback_faults(came, [fault(repeats=False)])[0]


def test_an_unexpected_answer_is_told_and_a_503_is_counted() -> None:
    answers = [Refusal(1.0, 0.1, 503, ""), Refusal(2.0, 0.1, 500, "{}"), Refusal(3.0, 0.1, 0, "ReadTimeout('')")]
    problems, counts = refused_submissions([job(refusals=answers)], [])
    assert len(problems) == 1
    assert counts == {"503": 1, "500": 1, "ReadTimeout": 1}


@pytest.mark.parametrize(
    ("at_s", "text", "is_told"), [(101.0, "", False), (10.0, "", True), (101.0, "request_id", True)]
)
def test_only_the_proxy_may_answer_502_and_only_after_the_kill(at_s: float, text: str, is_told: bool) -> None:
    problems, _ = refused_submissions([job(refusals=[Refusal(at_s, 0.1, 502, text)])], [fault(INGRESS_KILLED)])
    assert bool(problems) is is_told


def test_memory_above_the_limit_is_told() -> None:
    seen = [
        Seen(1, "Ingress", True, 0, 1, 900.0),
        Seen(2, "Ingress", True, 0, 1, 1100.0),
        Seen(3, "x", False, 0, 1, 400.0),
    ]
    assert [each.split(" took")[0] for each in memory_problems(seen, {"Ingress": 300.0}, 700.0, 500.0)] == [
        "Ingress (2)"
    ]
    assert len(memory_problems(seen, {"Ingress": 300.0}, 700.0, 300.0)) == 2


def test_a_job_met_what_its_life_overlaps() -> None:
    spans = [("early", 0.0, 5.0), ("within", 11.0, 12.0), ("late", 30.0, 40.0)]
    assert met(job(submitted_s=10.0), 20.0, spans) == ["within"]
    assert met(job(submitted_s=10.0), None, spans) == ["within", "late"]


def test_results_differ_by_more_than_their_rounding() -> None:
    one = {"text": "a", "words": [{"start": 0.5, "word": "a"}], "metadata": {"processing_time": 1.0}, "url": "/j1/x"}
    other = {
        "text": "a",
        "words": [{"start": 0.501, "word": "a"}],
        "metadata": {"processing_time": 2.0},
        "url": "/j2/x",
    }
    reference = comparable(one, "j1")
    assert differences(comparable(other, "j2"), reference) == []
    other["words"][0]["start"] = 0.6
    assert differences(comparable(other, "j2"), reference) == ["result.words[0].start is 0.6, not 0.5"]
    assert differences({"a": []}, {"a": [1], "b": 2}) == ["result.b is only in one", "result.a has 0 items, not 1"]


@pytest.mark.parametrize(
    ("view", "is_right"),
    [
        ({"status": "completed", "result": {"duration": 3.0}}, True),
        ({"status": "completed", "result": {"duration": 11_889.0}}, False),
        ({"status": "failed", "error_code": "AUDIO_EXTRACTION_ERROR"}, True),
        ({"status": "failed", "error_code": "PROCESSING_ERROR"}, False),
        ({"status": "processing"}, False),
    ],
)
def test_the_end_of_a_file_made_to_hurt(view: dict[str, object], is_right: bool) -> None:
    poison = next(each for each in poison_files(64) if each.name == "jump.ts")
    assert (poison_problem(job("poison", accepted_s=1.0, view=view), poison) is None) is is_right


def test_a_refused_upload_is_a_right_end_and_a_500_is_none() -> None:
    poison = Poison("tile.tif", Way.PICTURE, None, frozenset())
    assert poison_problem(job(is_job=False, refusals=[Refusal(0, 0, 422, "")]), poison) is None
    assert poison_problem(job(is_job=False, refusals=[Refusal(0, 0, 500, "")]), poison)
    assert poison_problem(job(is_job=False, accepted_s=1.0), poison)


def test_twenty_files_are_made_and_ordered() -> None:
    files = poison_files(64)
    assert len({each.name for each in files}) == 20
    for each in files:
        if each.make is not None and each.name not in ("large.webp", "wide.png"):  # these take a second
            assert each.make()
            assert poison_submission(each, "http://127.0.0.1:1").what == each.name


class Ingress:
    """Answers each POST by a script, then with 200."""

    def __init__(self, *script: int) -> None:
        self.bodies: list[bytes] = []
        answers = list(script)
        ingress = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                ingress.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                status = answers.pop(0) if answers else 200
                if status:
                    self.send_response(status)
                    self.send_header("retry-after", "0")
                    self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def make_ingress() -> Callable[..., Ingress]:
    made: list[Ingress] = []

    def make(*script: int) -> Ingress:
        made.append(Ingress(*script))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()
        each.server.server_close()


def test_a_client_submits_the_same_job_until_it_is_taken(make_ingress: Callable[..., Ingress]) -> None:
    ingress = make_ingress(503, 500, 429)
    order = Submission("job-1", "honest", "clip-0", "/submit", {"json": {"job_id": "job-1"}})
    Clients(ingress.url, {}).submit(order).join(20.0)
    assert [each.status for each in order.refusals] == [503, 500, 429]
    assert order.accepted_s is not None
    assert set(ingress.bodies) == {b'{"job_id":"job-1"}'}


def test_a_client_gives_up_what_is_refused(make_ingress: Callable[..., Ingress]) -> None:
    order = Submission("job-1", "poison", "tile.tif", "/submit", {"json": {}}, is_job=False)
    Clients(make_ingress(422).url, {}).submit(order).join(20.0)
    assert order.end == "HTTP 422"
    assert order.is_final


def test_servers_keep_silent_drip_and_note() -> None:
    with SilentServer("127.0.1.1") as silent, DrippingServer("127.0.2.1") as drip, NotedCallbacks() as receiver:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(silent.base_url, timeout=0.2)
        assert silent.num_connections == 1
        with httpx.stream("GET", drip.base_url, timeout=5.0) as answer:
            assert answer.headers["content-length"] == str(1 << 20)
            assert next(answer.iter_raw()) == b"R"
        headers = {"webhook-id": "msg_1", "webhook-sequence": "1"}
        payload = {"job_id": "job-1", "status": "completed", "progress": 100}
        httpx.post(receiver.base_url, json=payload, headers=headers)
        [arrival] = receiver.of("job-1")
        assert (arrival.webhook_id, arrival.sequence, arrival.status, arrival.progress) == (
            "msg_1",
            1,
            "completed",
            100,
        )
        assert receiver.ended_at_s("job-1") == arrival.at_s


def test_an_interrupt_undoes_every_fault() -> None:
    undone: list[str] = []
    begun = Fault("begun", 0.0, 0.9, lambda: "done", lambda: undone.append("begun"), False)
    later = Fault("later", 0.8, 0.1, lambda: "done", lambda: undone.append("later"), False)

    def interrupt() -> None:
        raise KeyboardInterrupt

    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        happenings.run([begun, later], [Moment(0.01, interrupt)], 60.0)
    assert undone == ["begun"]
    assert later.began_s is None
    assert time.monotonic() - began_s < 30


_FORKS = """
import os, time
if os.fork() == 0:
    held = bytearray(50_000_000)
time.sleep(60)
"""


def test_a_process_that_a_replica_forked_is_no_replica() -> None:
    command = ["ray::ServeReplica:serve_app:Ingress", "-c", _FORKS]
    with subprocess.Popen(command, executable=sys._base_executable, start_new_session=True) as root:
        try:
            with ProcessWatch(root.pid) as watch:
                deadline_s = time.monotonic() + 20.0
                while len(watch.seen()) < 2 and time.monotonic() < deadline_s:
                    time.sleep(0.05)
            seen = {each.pid: (each.name, each.is_replica) for each in watch.seen()}
        finally:
            for pid in session_members(root.pid):
                os.kill(pid, signal.SIGKILL)
    assert seen.pop(root.pid) == ("Ingress", True)
    assert list(seen.values()) == [("child of Ingress", False)]


def test_a_small_disk_is_full_until_it_is_emptied(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(SmallDisk(tmp_path / "disk", 4))
        except MountRefused as error:
            pytest.skip(f"no disk can be mounted: {error}")
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "disk" / "other").write_bytes(bytes(10_000))
        disk.empty()
        assert disk.free_bytes > 3_000_000
    assert not os.path.ismount(tmp_path / "disk")
