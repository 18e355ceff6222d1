"""Server-sent events: encoding, heartbeats, resumption, and what becomes of a stream whose client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import anyio
import pytest

from serve_app.api.http.event_stream import HEARTBEAT, encode_event, event_name, stream_events
from serve_app.jobs.record import JobEvent, JobStatus


def event(seq: int, status: str = "processing", message: str = "화자 식별 중...") -> JobEvent:
    payload = {"job_id": "a", "status": status, "message": message}
    return JobEvent("a", seq, 0.0, JobStatus(status), json.dumps(payload, ensure_ascii=False, separators=(",", ":")))


class Source:
    """Events that a test hands over one by one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[JobEvent | Exception | None] = asyncio.Queue()
        self.asked = asyncio.Event()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[JobEvent]:
        try:
            while True:
                self.asked.set()
                item = await self.queue.get()
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            await asyncio.sleep(0)  # a real source has to wait when it lets go, too
            self.closed = True


def stream(source: Source, first: JobEvent | None = None, heartbeat_s: float = 60.0) -> AsyncIterator[bytes]:
    response = stream_events(aiter(source), first, heartbeat_s=heartbeat_s, retry_ms=1234)
    return aiter(response.body_iterator)  # type: ignore[arg-type, return-value]


def test_event_is_one_block_with_id_name_and_data() -> None:
    block = encode_event(event(7)).decode()
    assert block == 'id: 7\nevent: progress\ndata: {"job_id":"a","status":"processing","message":"화자 식별 중..."}\n\n'


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "a\u2028b\u2029c\x85d", "\x0b\x0c\x1c\x1d\x1e", "\ndata: forged\n\n"]
)
def test_no_text_breaks_the_data_line(text: str) -> None:
    lines = encode_event(event(1, message=text)).decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["id", "event", "data", ""]
    assert json.loads(lines[2].removeprefix("data: "))["message"] == text


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("processing", "progress"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
    ],
)
def test_names(status: str, name: str) -> None:
    assert event_name(event(1, status)) == name


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_ends_after_the_jobs_last_event_and_closes_its_source(status: str) -> None:
    async def run() -> tuple[list[bytes], bool]:
        source = Source()
        for item in (event(1), event(2, status), event(3)):
            source.queue.put_nowait(item)
        return [chunk async for chunk in stream(source)], source.closed

    chunks, closed = asyncio.run(run())
    assert chunks == [b"retry: 1234\n\n", encode_event(event(1)), encode_event(event(2, status))]
    assert closed


def test_event_taken_already_comes_first() -> None:
    async def run() -> list[bytes]:
        source = Source()
        source.queue.put_nowait(event(2, "completed"))
        return [chunk async for chunk in stream(source, first=event(1))]

    assert asyncio.run(run())[1:] == [encode_event(event(1)), encode_event(event(2, "completed"))]


def test_silence_is_filled_with_comments_and_loses_nothing() -> None:
    async def run() -> list[bytes]:
        source = Source()
        chunks = []
        async for chunk in stream(source, heartbeat_s=0.001):
            chunks.append(chunk)
            if chunks.count(HEARTBEAT) == 3 and source.queue.empty():
                source.queue.put_nowait(event(1))
                source.queue.put_nowait(event(2, "completed"))
        return chunks

    chunks = asyncio.run(asyncio.wait_for(run(), 10))
    assert chunks.count(HEARTBEAT) >= 3
    assert [chunk for chunk in chunks if chunk != HEARTBEAT] == [
        b"retry: 1234\n\n",
        encode_event(event(1)),
        encode_event(event(2, "completed")),
    ]


def test_source_that_ends_early_ends_the_stream() -> None:
    async def run() -> list[bytes]:
        source = Source()
        source.queue.put_nowait(None)
        return [chunk async for chunk in stream(source)]

    assert asyncio.run(run()) == [b"retry: 1234\n\n"]


def test_failing_source_breaks_the_stream_so_that_clients_reconnect() -> None:
    async def run() -> None:
        source = Source()
        source.queue.put_nowait(event(1))
        source.queue.put_nowait(RuntimeError("store lost"))
        async for _ in stream(source):
            pass

    with pytest.raises(RuntimeError, match="store lost"):
        asyncio.run(run())


def test_client_that_leaves_in_silence_frees_the_source() -> None:
    async def run() -> tuple[bool, int]:
        source = Source()
        chunks = stream(source)
        assert await anext(chunks) == b"retry: 1234\n\n"
        waiting = asyncio.ensure_future(anext(chunks))
        await source.asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return source.closed, len(asyncio.all_tasks())

    closed, num_tasks = asyncio.run(run())
    assert closed
    assert num_tasks == 1  # nothing goes on in the background


@pytest.mark.parametrize("just_then", [[], [event(1)]], ids=["in silence", "with an event just taken"])
def test_stream_that_the_server_cancels_frees_the_source(just_then: list[JobEvent]) -> None:
    """As Starlette does when a client leaves: anyio cancels every wait inside, also those of cleaning up."""

    async def run() -> bool:
        source = Source()

        async def consume() -> None:
            async for _ in stream(source):
                pass

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await source.asked.wait()
            for item in just_then:
                source.queue.put_nowait(item)
            group.cancel_scope.cancel()
        return source.closed

    assert asyncio.run(run())
