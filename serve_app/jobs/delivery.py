"""`Courier`: sends the events that are due to their callbacks and records the outcome in the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx

from serve_app.errors import ServeAppError
from serve_app.jobs import retry, webhook
from serve_app.jobs.outbox import DueDelivery, Outbox
from serve_app.threads import STORE

_logger = logging.getLogger(__name__)

_POLL_S = 0.25  # while there is work; doubled each time nothing is due
_IDLE_POLL_S = 1.0
_GRACE_S = 2.0  # time for deliveries under way at shutdown
# Only an answer's status counts. This much of its body is read, in this time, to use the connection again.
_MAX_ANSWER_BYTES, _BODY_S = 4096, 1.0

# A host without any answer gets no delivery for a while, longer each time: its time-outs would take every place.
_HOST_PAUSE = retry.Backoff(first_s=1.0, cap_s=60.0, jitter=0.0)
_HOST_FORGOTTEN_S = 600.0

_T = TypeVar("_T")


@dataclass(slots=True)
class _HostState:
    in_flight: int = 0
    unreached: int = 0  # attempts in a row without an answer
    paused_until: float = 0.0


class HostGate:
    """Counts the deliveries under way to each host. A host that did not answer gets none for a while, then one.

    Args:
        per_host: most deliveries under way to a host that answers.
        clock: monotonic seconds.
    """

    def __init__(self, per_host: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_host = per_host
        self._clock = clock
        self._hosts: dict[str, _HostState] = {}

    def occupied(self) -> dict[str, int]:
        """Return how many of its places each host has taken; all of them while it is paused.

        After a pause a host has one place, to try whether it answers.
        """
        now = self._clock()
        for host, state in list(self._hosts.items()):
            if state.in_flight == 0 and (state.unreached == 0 or now > state.paused_until + _HOST_FORGOTTEN_S):
                del self._hosts[host]
        return {host: self._occupied(state, now) for host, state in self._hosts.items()}

    def start(self, host: str) -> None:
        """Count a delivery that begins."""
        self._hosts.setdefault(host, _HostState()).in_flight += 1

    def finish(self, host: str, *, reached: bool | None) -> None:
        """Count a delivery's end, and whether there was any answer; None: the attempt was cut short."""
        state = self._hosts[host]
        state.in_flight -= 1
        if reached:
            state.unreached = 0
            state.paused_until = 0.0
        elif reached is False and self._clock() >= state.paused_until:  # failures at the same time count once
            state.unreached += 1
            state.paused_until = self._clock() + _HOST_PAUSE.delay_s(state.unreached, 0.0)

    def _occupied(self, state: _HostState, now: float) -> int:
        if now < state.paused_until:
            return self._per_host
        probing = self._per_host - 1 if state.unreached else 0
        return min(self._per_host, state.in_flight + probing)


class Courier:
    """Delivers the store's events to their callbacks, in order per job, until it is stopped.

    Several may work on one store, in one process or many: the store leases each delivery to one of them.

    Args:
        store: holds the events.
        client: sends the requests; its transport refuses addresses that are not allowed.
        secrets: signing secrets (`whsec_…`, space-separated); None or empty: unsigned. ValueError: one is malformed.
        owner: names this courier in the table.
        max_concurrency: deliveries under way, of which `max_per_host` to one host and port.
        timeout_s: for one attempt, from the connection to the answer's status. Must be below the store's delivery
            lease, or another courier sends the same again.
    """

    def __init__(
        self,
        store: Outbox,
        client: httpx.AsyncClient,
        *,
        secrets: str | None,
        owner: str,
        max_concurrency: int = 16,
        max_per_host: int = 4,
        timeout_s: float = 10.0,
    ) -> None:
        self._store = store
        self._client = client
        self._keys = webhook.parse_secrets(secrets)
        self._owner = owner
        self._max_concurrency = max_concurrency
        self._max_per_host = max_per_host
        self._timeout_s = timeout_s
        self._gate = HostGate(max_per_host)
        self._under_way: dict[asyncio.Task[None], DueDelivery] = {}
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Query the store for due deliveries now. Call it in the courier's own event loop."""
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; deliveries under way then get two seconds, and are given back."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self.wake())
        pause_s = _POLL_S
        try:
            while not stop.is_set():
                self._news.clear()
                started = await self._start_due()
                pause_s = _POLL_S if started or self._under_way else min(2 * pause_s, _IDLE_POLL_S)
                if not started:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), pause_s)
        finally:
            stopping.cancel()
            await self._finish()

    async def _start_due(self) -> int:
        room = self._max_concurrency - len(self._under_way)
        if room <= 0:
            return 0
        occupied = self._gate.occupied()
        due = await self._ask_store(
            "claim deliveries",
            partial(self._store.claim_deliveries, self._owner, room, per_host=self._max_per_host, in_flight=occupied),
        )
        for delivery in due or []:
            self._gate.start(delivery.host)
            task = asyncio.create_task(self._deliver(delivery))
            self._under_way[task] = delivery
            task.add_done_callback(self._ended)
        return len(due or [])

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self.wake()  # a place is free, and the job's next event may be due

    async def _deliver(self, due: DueDelivery) -> None:
        reached: bool | None = None
        try:
            status_code, retry_after_s, error = await self._post(due)
            reached = status_code is not None
        finally:
            self._gate.finish(due.host, reached=reached)
        if status_code is not None and httpx.codes.is_success(status_code):
            record: Callable[[], object] = partial(self._store.record_delivered, due, status_code=status_code)
        else:
            _logger.info("job %s: event %d was not delivered to %s: %s", due.job_id, due.seq, due.host, error)
            record = partial(
                self._store.record_failure, due, error=error, status_code=status_code, retry_after_s=retry_after_s
            )
        await self._ask_store("record a delivery", record)

    async def _post(self, due: DueDelivery) -> tuple[int | None, float | None, str]:
        """Return the answer's status (None: no answer), its Retry-After in seconds, and what went wrong."""
        headers = webhook.headers(
            self._keys, webhook_id=due.webhook_id, seq=due.seq, timestamp_s=int(time.time()), body=due.body
        )
        try:
            # httpx limits the time of each read; this limits the whole answer.
            async with asyncio.timeout(self._timeout_s):
                request = self._client.build_request(
                    "POST", webhook.callback_url(due.target), content=due.body, headers=headers, timeout=self._timeout_s
                )
                response = await self._client.send(request, stream=True, follow_redirects=False)
        except (TimeoutError, httpx.TimeoutException):
            return None, None, f"no answer within {self._timeout_s:g} s"
        except ServeAppError as error:
            return None, None, error.detail
        except Exception as error:  # any error of the transport: the courier must go on with the other deliveries
            return None, None, f"{type(error).__name__}: {error}"
        await self._close(response)
        return response.status_code, _retry_after_s(response), f"HTTP {response.status_code}"

    async def _close(self, response: httpx.Response) -> None:
        """Read a little of the body, so that the connection can be used again; if that fails, it is closed."""
        try:
            async with asyncio.timeout(_BODY_S):
                async for _ in response.aiter_raw():  # raw: nothing is unpacked
                    if response.num_bytes_downloaded > _MAX_ANSWER_BYTES:
                        break
        except (TimeoutError, httpx.HTTPError):
            pass  # the status has arrived, and it alone counts
        finally:
            await response.aclose()

    async def _ask_store(self, what: str, call: Callable[[], _T]) -> _T | None:
        """Call the store in a thread; log its errors. An outcome that is not recorded is sent again after its lease."""
        try:
            return await STORE.run(call)
        except Exception:
            _logger.exception("could not %s", what)
            return None

    async def _finish(self) -> None:
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=_GRACE_S)
        given_up = dict(self._under_way)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        for task, due in given_up.items():
            if task.cancelled():
                await self._ask_store("give back a delivery", partial(self._store.give_back, due))


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return Retry-After if it is a number of seconds; a date is ignored, because clocks differ."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) <= 6 else None
