"""The courier against receivers on loopback that are slow, fail or say 410, and after a standstill of its own."""

# ruff: noqa: F401, F811 (fixtures)

from __future__ import annotations

import socket
import threading
import time

import httpx
import pytest

from serve_app.jobs import retry
from serve_app.jobs.delivery import _retry_after_s
from serve_app.jobs.record import DeliveryStatus
from serve_app.messages import Stage
from tests.contract.jobs.test_job_courier import (
    OK,
    Receiver,
    add_job,
    all_delivered,
    make_receiver,
    run_courier,
    store,
)


class ByName(httpx.AsyncHTTPTransport):
    """Takes each host's requests to a receiver on loopback, as a name server would."""

    def __init__(self, ports):
        super().__init__()
        self.port_of = ports

    async def handle_async_request(self, request):
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self.port_of(request.url.host))
        return await super().handle_async_request(request)


class SlowReceiver(Receiver):
    """Answers 500 just within the courier's time."""

    def __init__(self, wait_s):
        super().__init__()
        self.wait_s = wait_s

    def answer(self, handler, _answer):
        self.closing.wait(self.wait_s)
        super().answer(handler, 500)


def test_failing_hosts_under_a_wildcard_name_do_not_delay_an_honest_receiver(store, make_request, make_receiver):
    num_failing, timeout_s = 120, 0.5
    slow, honest = SlowReceiver(0.9 * timeout_s), make_receiver()
    for n in range(num_failing):
        store.submit(make_request(f"bad-{n}", callback_base=f"https://n{n}.evil.example"), max_queued=None)
        store.fail(store.claim("runner"), "DOWNLOAD_ERROR", "no such file", retry_after_s=None)
    before = []

    def submit_then_wait():
        if len(slow.requests) >= 4 and not before:
            store.submit(make_request("honest", callback_base="https://honest.example"), max_queued=None)
            claim = store.claim("runner")
            store.announce(claim, Stage.DOWNLOADED, Stage.DETECTING_SPEECH, Stage.DIARIZING)
            store.complete(claim, {"text": ""})
            before.append(len(slow.requests))
        return len(honest.requests) == 4

    def port_of(host):
        return (honest if host == "honest.example" else slow).server.server_port

    try:
        run_courier(store, submit_then_wait, transport=ByName(port_of), timeout_s=timeout_s)
        meanwhile = len(slow.requests) - before[0]
    finally:
        slow.close()
    assert honest.progress == [10, 25, 40, 100]
    # four times of a delivery, each with the quarter of the places that suspect deliveries have
    assert meanwhile <= 4 * 4 < num_failing - before[0]


def test_the_time_of_an_attempt_grows_with_the_body(store, make_request, monkeypatch):
    """A result over a link that needs longer for it than an answer may take."""
    monkeypatch.setattr(retry, "_LEAST_BYTES_PER_S", 1_000_000.0)
    num_bytes, timeout_s = 3_000_000, 0.5
    received = []

    def read_slowly(server):
        connection, _ = server.accept()
        with connection:
            content = b""
            while not content.endswith(b"}"):
                content += connection.recv(1 << 16)
                time.sleep(0.02)  # 3 MB take a second at least
            received.append(len(content))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        server.bind(("127.0.0.1", 0))
        server.listen()
        threading.Thread(target=read_slowly, args=(server,), daemon=True).start()
        store.submit(make_request(callback_base=f"http://127.0.0.1:{server.getsockname()[1]}"), max_queued=None)
        store.complete(store.claim("runner"), {"text": "x" * num_bytes})
        run_courier(store, lambda: store.deliveries("job-1")[0].status == DeliveryStatus.DELIVERED, timeout_s=timeout_s)
    assert store.deliveries("job-1")[0].attempts == 1
    assert received[0] > num_bytes


def test_a_courier_that_stood_still_sends_nothing_that_another_has_sent(
    open_store, add_job, make_receiver, monkeypatch
):
    ours, theirs = open_store(clock=None, delivery_lease_s=0.3), open_store(clock=None)
    receiver = make_receiver()
    add_job(receiver.url)
    claim_deliveries, stood_still = ours.claim_deliveries, []

    def claim_and_stand_still(*args, **options):
        due = claim_deliveries(*args, **options)
        if due and not stood_still:
            stood_still.append(due)
            time.sleep(0.4)  # past the lease
            while taken := theirs.claim_deliveries("another", 10):
                httpx.post(f"{receiver.url}/", content=taken[0].body)
                theirs.record_delivered(taken[0], status_code=200)
        return due

    monkeypatch.setattr(ours, "claim_deliveries", claim_and_stand_still)
    polls = iter(range(20))
    run_courier(ours, lambda: stood_still and all_delivered(ours)() and next(polls, None) is None, timeout_s=0.1)
    assert receiver.progress == [10, 25, 100]


def test_gone_ends_the_callbacks_of_a_job_that_still_runs(store, make_request, make_receiver):
    receiver = make_receiver(OK, 410)
    store.submit(make_request(callback_base=receiver.url), max_queued=None)
    claim = store.claim("runner")
    store.announce(claim, Stage.DOWNLOADED, Stage.DETECTING_SPEECH)
    run_courier(store, lambda: store.deliveries("job-1")[1].status == DeliveryStatus.DEAD)
    store.announce(claim, Stage.DIARIZING)
    store.complete(claim, {"text": ""})
    assert [delivery.status for delivery in store.deliveries("job-1")[1:]] == [DeliveryStatus.DEAD] * 3
    assert store.claim_deliveries("courier", 10) == []
    assert receiver.progress == [10, 25]
    assert store.replay("job-1") == 4
    run_courier(store, all_delivered(store))
    assert receiver.progress[2:] == [10, 25, 40, 100]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:30:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 120.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:20:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "9" * 40}, None),
        ({}, None),
    ],
)
def test_a_receivers_wish_to_wait_is_seconds_or_a_date(headers, wait_s):
    assert _retry_after_s(httpx.Response(503, headers=headers)) == wait_s
