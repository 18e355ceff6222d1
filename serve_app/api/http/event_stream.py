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

from serve_app.jobs.record import JobEvent

HEARTBEAT = b": heartbeat\n\n"

_T = TypeVar("_T")
T_co = TypeVar("T_co", covariant=True)


class _End:
    """Stands after the last item."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


class Pump(Generic[T_co]):
    """Reads a source ahead by one item, so that waiting for the next one can be given up without losing it.

    The source runs, and is closed, in a single task: it may use task groups and time-outs across its items, which a
    source that is asked by one task after another can't.

    Args:
        source: closed at its end, at its failure, and by `close`.
    """

    def __init__(self, source: AsyncIterator[T_co]) -> None:
        self._source = source
        self._ready: asyncio.Queue[T_co | _End] = asyncio.Queue(maxsize=1)
        self._started = False
        self._task = asyncio.create_task(self._run())

    async def next(self) -> T_co:
        """Return the next item; may be cancelled and called again.

        Raises:
            StopAsyncIteration: the source has ended.
            Exception: whatever the source raised.
        """
        item = await self._ready.get()
        if not isinstance(item, _End):
            return item
        self._ready.put_nowait(item)  # it stays the end, however often one asks
        raise item.error or StopAsyncIteration

    async def close(self) -> None:
        """Stop the source and wait for its end; not needed after the last item, and does no harm."""
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
    """An answer of server-sent events that lets go of what it holds, however it ends.

    Args:
        blocks: encoded events; closed at the end.
        on_end: called at the end, also where the client has left before the first block was asked for.
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
        """Stream the blocks."""
        try:
            await super().__call__(scope, receive, send)
        except ClientDisconnect:
            pass  # a newer server raises it when the client has left; nothing is wrong
        finally:
            with anyio.CancelScope(shield=True):
                await self._blocks.aclose()
                await self._on_end()


def encode_block(name: str, payload: Any, seq: int | None = None) -> bytes:
    """Return one event whose data is JSON on one line, with an id where it has a number."""
    data = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    # Unicode's own line ends are legal in JSON and in the stream, but many clients split lines at them
    data = data.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085")
    numbered = "" if seq is None else f"id: {seq}\n"
    return f"{numbered}event: {name}\ndata: {data}\n\n".encode()


async def or_heartbeats(pump: Pump[_T], heartbeat_s: float) -> AsyncIterator[_T | None]:
    """Yield a pump's items until its end, and None after each `heartbeat_s` of silence."""
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
    status = event.payload["status"]
    return "progress" if status == "processing" else status


def encode_event(event: JobEvent) -> bytes:
    """Return one event; its id is its number within the job, which `Last-Event-ID` resumes after."""
    return encode_block(event_name(event), event.payload, event.seq)


def stream_events(
    events: AsyncIterator[JobEvent], first: JobEvent | None, *, heartbeat_s: float, retry_ms: int
) -> EventStream:
    """Answer with events as they come, a comment in each longer silence, and an end after the job's last event.

    Args:
        events: the job's events; closed when the stream ends, also when the client leaves.
        first: an event already taken from `events`.
        heartbeat_s: longest silence.
        retry_ms: how soon a client should reconnect.
    """
    pump = Pump(events)
    return EventStream(_encode_all(pump, first, heartbeat_s, retry_ms), pump.close)


async def _encode_all(
    pump: Pump[JobEvent], first: JobEvent | None, heartbeat_s: float, retry_ms: int
) -> AsyncGenerator[bytes, None]:
    try:
        yield f"retry: {retry_ms}\n\n".encode()
        if first is not None:
            yield encode_event(first)
            if event_name(first) != "progress":
                return
        async for event in or_heartbeats(pump, heartbeat_s):
            yield HEARTBEAT if event is None else encode_event(event)
            if event is not None and event_name(event) != "progress":
                return
    finally:
        await pump.close()
