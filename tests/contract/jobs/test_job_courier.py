"""The courier against a real receiver over HTTP on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from serve_app.errors import AddressRefused
from serve_app.jobs.delivery import Courier
from serve_app.jobs.record import DeliveryStatus
from serve_app.messages import Stage

KEYS = (b"0123456789abcdefghijklmn", b"another key, for rotation")
SECRETS = " ".join("whsec_" + base64.b64encode(key).decode() for key in KEYS)
DEADLINE_S = 30.0

OK = 200
NO_ANSWER = "take it, and close the connection without an answer"
TOO_LATE = "take it, and answer after the courier has lost patience"
ENDLESS = "answer 200 with a body that does not end"


class Receiver:
    """A callback receiver that keeps every request and answers by a script; 200 once that is used up."""

    def __init__(self, script=()):
        self.script = list(script)
        self.requests = []  # (path, headers, body)
        self.num_connections = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                with receiver.lock:
                    receiver.num_connections += 1

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver.lock:
                    receiver.requests.append((self.path, dict(self.headers.items()), body))
                    answer = receiver.script.pop(0) if receiver.script else OK
                receiver.answer(self, answer)

            do_GET = do_POST  # noqa: N815 - a redirection that is followed would come as one

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler, answer):
        if answer == NO_ANSWER:
            handler.close_connection = True
            return
        if answer == TOO_LATE:
            self.closing.wait(DEADLINE_S)
            handler.close_connection = True
            return
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        endless = status == ENDLESS
        handler.send_response(OK if endless else status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(10**9 if endless else 2))
        handler.end_headers()
        handler.wfile.write(b"{}")
        if endless:
            self.closing.wait(DEADLINE_S)
            handler.close_connection = True

    @property
    def progress(self):
        return [json.loads(body)["progress"] for _, _, body in self.requests]

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def make_receiver():
    made = []

    def make(*script):
        made.append(Receiver(script))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def store(open_store):
    return open_store(clock=None)


@pytest.fixture
def add_job(store, make_request):
    """A function that makes a job with three events: 10 %, 25 %, completed."""

    def add(base, job_id="job-1"):
        store.submit(make_request(job_id, callback_base=base), max_queued=None)
        claim = store.claim("runner")
        store.announce(claim, Stage.DOWNLOADED, Stage.DETECTING_SPEECH)
        store.complete(claim, {"text": "안녕하세요"})

    return add


def run_courier(store, until: Callable[[], bool], *, transport=None, **options):
    """Run a courier until something holds; fail if it does not in time."""

    async def run():
        stop = asyncio.Event()
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            courier = Courier(store, client, **{"secrets": SECRETS, "owner": "courier", "timeout_s": 5.0, **options})
            running = asyncio.create_task(courier.run(stop))
            deadline_s = time.monotonic() + DEADLINE_S
            while not until():
                assert time.monotonic() < deadline_s, "it did not happen in time"
                assert not running.done(), running.exception()
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.wait_for(running, DEADLINE_S)

    asyncio.run(run())


def all_delivered(store, *job_ids):
    def check():
        return all(
            delivery.status == DeliveryStatus.DELIVERED
            for job_id in job_ids or ("job-1",)
            for delivery in store.deliveries(job_id)
        )

    return check


def test_events_arrive_in_order_as_the_contract_has_them(store, add_job, make_receiver):
    receiver = make_receiver()
    add_job(receiver.url + "/app/")
    run_courier(store, all_delivered(store))
    assert receiver.progress == [10, 25, 100]
    assert {path for path, _, _ in receiver.requests} == {"/app/api/upload-video/result"}
    bodies = [json.loads(body) for _, _, body in receiver.requests]
    assert bodies == [event.payload for event in store.events("job-1")]
    assert "안녕하세요".encode() in receiver.requests[-1][2]
    assert [headers["webhook-sequence"] for _, headers, _ in receiver.requests] == ["1", "2", "3"]
    assert {headers["content-type"] for _, headers, _ in receiver.requests} == {"application/json"}
    assert receiver.num_connections == 1  # answers are read, so the connection is used again


def test_every_signature_can_be_checked_with_the_secret_alone(store, add_job, make_receiver):
    receiver = make_receiver()
    add_job(receiver.url)
    run_courier(store, all_delivered(store))
    for _, headers, body in receiver.requests:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in KEYS]
        assert headers["webhook-signature"] == " ".join(f"v1,{digest}" for digest in expected)
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < DEADLINE_S


def test_without_a_secret_callbacks_are_unsigned(store, add_job, make_receiver):
    receiver = make_receiver()
    add_job(receiver.url)
    run_courier(store, all_delivered(store), secrets=None)
    assert not any("webhook-signature" in headers for _, headers, _ in receiver.requests)
    assert all("webhook-id" in headers for _, headers, _ in receiver.requests)


@pytest.mark.parametrize("fault", [500, 404, NO_ANSWER, TOO_LATE])
def test_what_was_not_taken_comes_again_with_its_id_and_nothing_overtakes_it(store, add_job, make_receiver, fault):
    receiver = make_receiver(OK, fault)
    add_job(receiver.url)
    run_courier(store, all_delivered(store), timeout_s=2.0 if fault == TOO_LATE else 5.0)
    assert receiver.progress == [10, 25, 25, 100]
    ids = [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3
    assert receiver.requests[1][2] == receiver.requests[2][2]
    assert [delivery.attempts for delivery in store.deliveries("job-1")] == [1, 2, 1]


def test_a_redirection_is_a_failure_and_not_followed(store, add_job, make_receiver):
    elsewhere = make_receiver()
    receiver = make_receiver((307, {"location": elsewhere.url}), (302, {"location": elsewhere.url}))
    add_job(receiver.url)
    run_courier(store, all_delivered(store))
    assert elsewhere.requests == []
    assert receiver.progress == [10, 10, 10, 25, 100]


def test_gone_means_never_again(store, add_job, make_receiver):
    receiver = make_receiver(OK, 410)
    add_job(receiver.url)
    run_courier(store, lambda: store.deliveries("job-1")[2].status == DeliveryStatus.DEAD)
    assert [delivery.status for delivery in store.deliveries("job-1")] == [
        DeliveryStatus.DELIVERED,
        DeliveryStatus.DEAD,
        DeliveryStatus.DEAD,
    ]
    assert receiver.progress == [10, 25]


def test_the_failure_is_there_to_be_read(store, add_job, make_receiver):
    receiver = make_receiver((503, {"retry-after": "600"}))
    add_job(receiver.url)
    run_courier(store, lambda: store.deliveries("job-1")[0].attempts == 1)
    first = store.deliveries("job-1")[0]
    assert (first.status, first.last_status_code, first.last_error) == (DeliveryStatus.PENDING, 503, "HTTP 503")
    assert first.next_attempt_at - time.time() > 500  # what the receiver asked for


def test_an_endless_answer_is_not_read_to_its_end(store, add_job, make_receiver):
    receiver = make_receiver((ENDLESS, {}))
    add_job(receiver.url)
    run_courier(store, all_delivered(store), timeout_s=3.0)
    assert receiver.progress == [10, 25, 100]  # it had said 200


def test_a_refused_address_is_noted_and_tried_again_later(store, add_job):
    class Guarded(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise AddressRefused("10.0.0.1 is private")

    add_job("http://backend.example")
    run_courier(store, lambda: store.deliveries("job-1")[0].attempts == 1, transport=Guarded())
    first = store.deliveries("job-1")[0]
    assert (first.status, first.last_error) == (DeliveryStatus.PENDING, "10.0.0.1 is private")


@pytest.mark.parametrize("base", ["not a url", "http://[::1", "ftp://backend.example", "http://backend.example:99999"])
def test_a_base_that_is_no_url_harms_nobody_else(store, add_job, make_receiver, base):
    add_job(base, "broken")
    receiver = make_receiver()
    add_job(receiver.url)
    run_courier(store, lambda: all_delivered(store)() and store.deliveries("broken")[0].attempts > 0)
    assert store.deliveries("broken")[0].status == DeliveryStatus.PENDING
    assert store.deliveries("broken")[0].last_error


def test_a_dead_host_does_not_hold_up_the_others(store, add_job, make_receiver):
    with socket.socket() as silent:  # takes connections, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for n in range(24):
            add_job(dead, f"dead-{n}")
        receiver = make_receiver()
        live = [f"live-{n}" for n in range(6)]
        for job_id in live:
            add_job(receiver.url, job_id)
        began_s = time.monotonic()
        run_courier(store, all_delivered(store, *live), max_concurrency=6, max_per_host=3, timeout_s=4.0)
        took_s = time.monotonic() - began_s
        waiting = [store.deliveries(f"dead-{n}")[0].status for n in range(24)]
    # Were the dead host's 24 in front of them, 6 at a time, the first would have had its turn after 16 s.
    assert took_s < 10.0
    assert set(waiting) == {DeliveryStatus.PENDING}
    assert len(receiver.requests) == 18


def test_what_a_crashed_courier_had_taken_is_sent_by_the_next(open_store, add_job, make_receiver):
    store = open_store(clock=None, delivery_lease_s=0.3)
    receiver = make_receiver()
    add_job(receiver.url)
    (lost,) = store.claim_deliveries("crashed", 10)  # taken, perhaps sent, and never heard of again
    run_courier(store, all_delivered(store), timeout_s=0.2)
    assert receiver.progress == [10, 25, 100]
    assert receiver.requests[0][1]["webhook-id"] == lost.webhook_id


def test_stopping_gives_back_what_is_under_way(store, add_job, make_receiver):
    receiver = make_receiver(TOO_LATE)
    add_job(receiver.url)
    run_courier(store, lambda: len(receiver.requests) == 1, timeout_s=20.0)
    (due,) = store.claim_deliveries("next", 10)  # at once, not after the lease
    assert (due.seq, due.attempts) == (1, 0)


def test_a_store_that_fails_for_a_moment_does_not_end_the_courier(store, add_job, make_receiver, monkeypatch):
    receiver = make_receiver()
    add_job(receiver.url)
    claim_deliveries, faults = store.claim_deliveries, iter([OSError("database is away")] * 2)

    def sometimes(*args, **options):
        fault = next(faults, None)
        if fault is not None:
            raise fault
        return claim_deliveries(*args, **options)

    monkeypatch.setattr(store, "claim_deliveries", sometimes)
    run_courier(store, all_delivered(store))
    assert receiver.progress == [10, 25, 100]


def test_waking_hurries_an_idle_courier(store, add_job, make_receiver, monkeypatch):
    monkeypatch.setattr("serve_app.jobs.delivery._POLL_S", 3600.0)
    monkeypatch.setattr("serve_app.jobs.delivery._IDLE_POLL_S", 3600.0)
    receiver = make_receiver()
    looked = threading.Event()
    claim_deliveries = store.claim_deliveries

    def watched(*args, **options):
        due = claim_deliveries(*args, **options)
        looked.set()
        return due

    monkeypatch.setattr(store, "claim_deliveries", watched)

    async def run():
        stop = asyncio.Event()
        async with httpx.AsyncClient(trust_env=False) as client:
            courier = Courier(store, client, secrets=SECRETS, owner="courier")
            running = asyncio.create_task(courier.run(stop))
            assert await asyncio.to_thread(looked.wait, DEADLINE_S)  # it found nothing, and rests for an hour
            await asyncio.to_thread(add_job, receiver.url)
            deadline_s = time.monotonic() + DEADLINE_S
            courier.wake()
            while not all_delivered(store)():
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.wait_for(running, DEADLINE_S)

    asyncio.run(run())
    assert receiver.progress == [10, 25, 100]
