"""A job's events as server-sent events (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import anyio
from starlette.responses import StreamingResponse

from serve_app.jobs.record import JobEvent

HEARTBEAT = b": heartbeat\n\n"


def event_name(event: JobEvent) -> str:
    """Return `progress` while the job runs, then how it ended."""
    status = event.payload["status"]
    return "progress" if status == "processing" else status


def encode_event(event: JobEvent) -> bytes:
    """Return one event; its id is its number within the job, which `Last-Event-ID` resumes after."""
    data = json.dumps(event.payload, ensure_ascii=False, separators=(",", ":"))
    # Unicode's own line ends are legal in JSON and in the stream, but many clients split lines at them
    data = data.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085")
    return f"id: {event.seq}\nevent: {event_name(event)}\ndata: {data}\n\n".encode()


def stream_events(
    events: AsyncIterator[JobEvent], first: JobEvent | None, *, heartbeat_s: float, retry_ms: int
) -> StreamingResponse:
    """Answer with events as they come, a comment in each longer silence, and an end after the job's last event.

    Args:
        events: the job's events; closed when the stream ends, also when the client leaves.
        first: an event already taken from `events`.
        heartbeat_s: longest silence.
        retry_ms: how soon a client should reconnect.
    """
    return StreamingResponse(
        _encode_all(events, first, heartbeat_s, retry_ms),
        media_type="text/event-stream",
        # nginx would hold events back to fill its buffer
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _encode_all(
    events: AsyncIterator[JobEvent], first: JobEvent | None, heartbeat_s: float, retry_ms: int
) -> AsyncIterator[bytes]:
    upcoming: asyncio.Task[JobEvent | None] | None = None
    try:
        yield f"retry: {retry_ms}\n\n".encode()
        event = first
        while True:
            if event is not None:
                yield encode_event(event)
                if event_name(event) != "progress":
                    return
            # a task, because a time-out around anext() would cancel, and so end, the iterator
            upcoming = asyncio.create_task(_next(events))
            while not (await asyncio.wait({upcoming}, timeout=heartbeat_s))[0]:
                yield HEARTBEAT
            event = upcoming.result()
            if event is None:
                return
    finally:
        with anyio.CancelScope(shield=True):
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait({upcoming})
            if hasattr(events, "aclose"):
                await events.aclose()


async def _next(events: AsyncIterator[JobEvent]) -> JobEvent | None:
    return await anext(events, None)
