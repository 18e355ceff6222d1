"""`EventStream`: server-sent events (HTML standard, section 9.2), and `Pump`, which reads their source ahead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serve_app import json_text
from serve_app.jobs.record import JobEvent, JobStatus

HEARTBEAT = b": heartbeat\n\n"

_T = TypeVar("_T")
T_co = TypeVar("T_co", covariant=True)


class _End:
    def __init__(self, error: Exception | None) -> None:
        self.error = error


class Pump(Generic[T_co]):
    """Reads a source ahead by one item, so that a wait for the next one can be given up without losing it.

    The source runs in a single task: it may use task groups and time-outs across its items. It is closed at its end, at
    its failure, and by `close`.
    """

    def __init__(self, source: AsyncIterator[T_co]) -> None:
        self._source = source
        self._ready: asyncio.Queue[T_co | _End] = asyncio.Queue(maxsize=1)
        self._started = False
        self._task = asyncio.create_task(self._run())

    async def next(self) -> T_co:
        """Return the next item, or raise the source's error or StopAsyncIteration; may be cancelled and repeated."""
        item = await self._ready.get()
        if not isinstance(item, _End):
            return item
        self._ready.put_nowait(item)  # for the next call
        raise item.error or StopAsyncIteration

    async def close(self) -> None:
        """Stop the source and wait for its end; changes nothing after the last item."""
        self._task.cancel()
        # the server's cancellation must not cut off the source's own cleaning up
        with anyio.CancelScope(shield=True):
            await asyncio.gather(self._task, return_exceptions=True)
            if not self._started:  # a task that is cancelled before its first step never runs
                await self._close_source()

    async def _run(self) -> None:
        self._started = True
        end = _End(None)
        try:
            try:
                async for item in self._source:
                    await self._ready.put(item)
            finally:
                await self._close_source()
        except Exception as error:
            end = _End(error)
        await self._ready.put(end)

    async def _close_source(self) -> None:
        if hasattr(self._source, "aclose"):
            await self._source.aclose()


class EventStream(StreamingResponse):
    """An answer of server-sent events. However it ends, it closes `blocks` and calls `on_end`.

    Starlette alone does neither where the client has left before the first block.
    """

    def __init__(self, blocks: AsyncGenerator[bytes, None], on_end: Callable[[], Awaitable[None]]) -> None:
        super().__init__(
            blocks,
            media_type="text/event-stream",
            # nginx would hold events back to fill its buffer
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._blocks = blocks
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except ClientDisconnect:
            pass  # newer servers raise it when the client has left
        finally:
            with anyio.CancelScope(shield=True):
                await self._blocks.aclose()
                await self._on_end()


def encode_block(name: str, payload: Any, seq: int | None = None) -> bytes:
    """Return one event whose data is JSON on one line, with an id where it has a number."""
    return _block(name, json.dumps(payload, ensure_ascii=False, separators=(",", ":")), seq)


def _block(name: str, data: str, seq: int | None) -> bytes:
    # Unicode's own line ends are legal in JSON and in the stream, but many clients split lines at them
    data = data.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085")
    numbered = "" if seq is None else f"id: {seq}\n"
    return f"{numbered}event: {name}\ndata: {data}\n\n".encode("utf-8", "replace")


async def or_heartbeats(first: _T | None, pump: Pump[_T], heartbeat_s: float) -> AsyncIterator[_T | None]:
    """Yield a first item, if there is one, the pump's until its end, and None after each `heartbeat_s` of silence."""
    if first is not None:
        yield first
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                item = await pump.next()
        except TimeoutError:
            yield None
        except StopAsyncIteration:
            return
        else:
            yield item


def event_name(event: JobEvent) -> str:
    """Return `progress` while the job runs, then how it ended."""
    return "progress" if event.status is JobStatus.PROCESSING else event.status.value


def encode_event(event: JobEvent) -> bytes:
    """Return one event; its id is its number within the job, which `Last-Event-ID` resumes after."""
    return _block(event_name(event), event.body, event.seq)


def stream_events(
    events: AsyncIterator[JobEvent], first: JobEvent | None, *, heartbeat_s: float, retry_ms: int
) -> EventStream:
    """Answer with events as they come, a comment in each longer silence, and an end after the job's last event.

    `first` is an event already taken from `events`, which is closed when the stream ends, also when the client leaves.
    """
    pump = Pump(events)
    return EventStream(_encode_all(pump, first, heartbeat_s, retry_ms), pump.close)


async def _encode_all(
    pump: Pump[JobEvent], first: JobEvent | None, heartbeat_s: float, retry_ms: int
) -> AsyncGenerator[bytes, None]:
    try:
        yield f"retry: {retry_ms}\n\n".encode()
        async for event in or_heartbeats(first, pump, heartbeat_s):
            if event is None:
                yield HEARTBEAT
                continue
            is_long = len(event.body) > json_text.LONG_CHARS
            block = await asyncio.to_thread(encode_event, event) if is_long else encode_event(event)
            for piece in json_text.pieces(block):
                yield piece
            if event.status.is_final:
                return
    finally:
        await pump.close()
