"""`Courier`: sends the events that are due to their callbacks and records the outcome in the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from typing import TypeVar

import httpx

from serve_app import json_text
from serve_app.errors import ServeAppError
from serve_app.jobs import retry, webhook
from serve_app.jobs.outbox import DueDelivery, Outbox
from serve_app.jobs.receivers import Receivers
from serve_app.sentences import Sentence
from serve_app.threads import STORE

_logger = logging.getLogger(__name__)

_POLL_S = 0.25  # while there is work; doubled each time nothing is due
_IDLE_POLL_S = 1.0
_GRACE_S = 2.0  # time for deliveries under way at shutdown
# Only an answer's status counts. This much of its body is read, in this time, to use the connection again.
_MAX_ANSWER_BYTES, _BODY_S = 4096, 1.0

_GONE = 410
_SLOW_PART = 0.2  # of an attempt's time: a receiver that takes longer is slow

_T = TypeVar("_T")


class Courier:
    """Delivers the store's events to their callbacks, in order per job, until it is stopped.

    Several may work on one store, in one process or many: the store leases each delivery to one of them.

    Args:
        store: holds the events.
        client: sends the requests; its transport refuses addresses that are not allowed.
        secrets: signing secrets (`whsec_…`, space-separated); None or empty: unsigned. ValueError: one is malformed.
        owner: names this courier in the table.
        max_concurrency: deliveries under way, of which `max_per_host` to the hosts of one owner (`events.share_of`).
        timeout_s: for one attempt, from the connection to the answer's status, besides the time to send the body. Must
            be below the store's delivery lease, or another courier sends the same again.
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
        self._receivers = Receivers(max_concurrency, max_per_host)
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
        claim = partial(
            self._store.claim_deliveries,
            self._owner,
            room,
            per_host=self._max_per_host,
            in_flight=self._receivers.under_way(),
            limits=self._receivers.limits(),
        )
        claimed_at = time.monotonic()
        due = await self._ask_store("claim deliveries", claim)
        for delivery in due or []:
            self._receivers.start(delivery)
            task = asyncio.create_task(self._deliver(delivery, claimed_at))
            self._under_way[task] = delivery
            task.add_done_callback(self._ended)
        return len(due or [])

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self.wake()  # a place is free, and the job's next event may be due

    async def _deliver(self, due: DueDelivery, claimed_at: float) -> None:
        limit_s = self._timeout_s + retry.sending_s(len(due.body))
        is_reached, is_good = None, False
        try:
            headers = await self._headers(due)
            started = time.monotonic()
            if started - claimed_at > due.lease_s - limit_s:
                # this process stood still: another may send the event meanwhile, and later ones after it
                await self._ask_store("give back a delivery", partial(self._store.give_back, due))
                return
            status_code, retry_after_s, error = await self._post(due, headers, limit_s)
            is_reached = status_code is not None
            was_taken = status_code is not None and (httpx.codes.is_success(status_code) or status_code == _GONE)
            is_good = was_taken and time.monotonic() - started <= _SLOW_PART * limit_s
        finally:
            self._receivers.finish(due, is_reached=is_reached, is_good=is_good)
        if status_code is not None and httpx.codes.is_success(status_code):
            record: Callable[[], object] = partial(self._store.record_delivered, due, status_code=status_code)
        else:
            _logger.info("job %s: event %d was not delivered to %s: %s", due.job_id, due.seq, due.host, error)
            record = partial(
                self._store.record_failure, due, error=error, status_code=status_code, retry_after_s=retry_after_s
            )
        await self._ask_store("record a delivery", record)

    async def _headers(self, due: DueDelivery) -> dict[str, str]:
        sign = partial(
            webhook.headers,
            self._keys,
            webhook_id=due.webhook_id,
            seq=due.seq,
            timestamp_s=int(time.time()),
            body=due.body,
        )
        return await asyncio.to_thread(sign) if due.is_long else sign()

    async def _post(
        self, due: DueDelivery, headers: dict[str, str], limit_s: float
    ) -> tuple[int | None, float | None, str]:
        """Return the answer's status (None: no answer), its Retry-After in seconds, and what went wrong."""
        try:
            # httpx limits the time of each read and write; this limits the whole attempt.
            async with asyncio.timeout(limit_s):
                request = self._client.build_request(
                    "POST",
                    webhook.callback_url(due.target),
                    content=json_text.stream(due.body) if due.is_long else due.body,
                    headers={**headers, "content-length": str(len(due.body))},
                    timeout=limit_s,
                )
                response = await self._client.send(request, stream=True, follow_redirects=False)
        except (TimeoutError, httpx.TimeoutException):
            return None, None, Sentence("no answer within {limit:g} s", limit=limit_s)
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
    """Return Retry-After in seconds: a number, or a date, counted from the answer's own date, because clocks differ.

    An answer without a date of its own is counted from this machine's clock.
    """
    value = response.headers.get("retry-after", "")
    if value.isascii() and value.isdigit() and len(value) <= 6:
        return float(value)
    try:
        now = formatdate(usegmt=True)
        until, sent = (parsedate_to_datetime(text) for text in (value, response.headers.get("date", now)))
        return max(0.0, (until.replace(tzinfo=UTC) - sent.replace(tzinfo=UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
