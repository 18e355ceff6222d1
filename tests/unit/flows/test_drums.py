"""Uploads over a deployment that is a plain object here: order, limits, fall-back, and what is left behind."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import AudioExtractionError, GpuMemoryError, ProcessingError, Unavailable
from serve_app.flows.drums import DrumFlow
from serve_app.results import Drum
from serve_app.services import DrumOptions, DrumRecording, DrumTranscription
from tests.unit.api.memory_services import DRUM_TRANSCRIPT
from tests.unit.flows.fakes import placed
from tests.unit.flows.test_media_source import files_in, source

HEARD = DrumTranscription(DRUM_TRANSCRIPT, b"MThd", "log", None, 0.0)


class Transcriber:
    """A deployment that hears the same in every file but those whose content names a failure."""

    def __init__(self, failures: dict[bytes, Exception] | None = None) -> None:
        self.failures = failures or {}
        self.calls: list[tuple[Any, DrumOptions, str]] = []
        self.working = self.most_at_once = 0
        self.go = asyncio.Event()
        self.go.set()

    async def transcribe(self, source: bytes | str, options: DrumOptions, filename: str) -> DrumTranscription:
        self.calls.append((source, options, filename))
        self.working += 1
        self.most_at_once = max(self.most_at_once, self.working)
        try:
            await self.go.wait()
            for _ in range(10 - len(self.calls) % 7):  # later ones end before earlier ones
                await asyncio.sleep(0)
        finally:
            self.working -= 1
        failure = self.failures.get(source if isinstance(source, bytes) else Path(source).read_bytes()[:8])
        if failure is not None:
            raise failure
        return HEARD


@pytest.fixture
def service(tmp_path: Path) -> Callable[..., DrumFlow]:

    def make(*transcribers: Transcriber, max_at_once: int = 4, max_recordings: int = 4) -> DrumFlow:
        deployed = [placed(f"D{n}", each, on_gpu=n == 0) for n, each in enumerate(transcribers)]
        return DrumFlow(deployed, source(tmp_path), 0.0, max_at_once, max_recordings)

    return make


def sent(*contents: bytes) -> list[DrumRecording]:
    return [DrumRecording(io.BytesIO(content), f"{n}.wav") for n, content in enumerate(contents)]


def test_each_recording_has_its_answer_in_order(service: Callable[..., DrumFlow]) -> None:
    async def run() -> None:
        transcriber = Transcriber({b"bad": AudioExtractionError("not media"), b"worse": KeyError("bug")})
        options = DrumOptions(100.0, {Drum.KICK: 8})
        answers = await service(transcriber).transcribe(sent(b"a", b"bad", b"b", b"worse", b"c"), options)
        assert [type(answer) for answer in answers] == [
            DrumTranscription,
            AudioExtractionError,
            DrumTranscription,
            ProcessingError,  # a bug of the deployment
            DrumTranscription,
        ]
        assert sorted(transcriber.calls, key=lambda call: call[2]) == [
            (content, options, f"{n}.wav") for n, content in enumerate((b"a", b"bad", b"b", b"worse", b"c"))
        ]
        assert all(answer.took_s > 0 for answer in answers if isinstance(answer, DrumTranscription))

    asyncio.run(run())


def test_few_of_many_at_once(service: Callable[..., DrumFlow]) -> None:
    async def run() -> None:
        transcriber = Transcriber()
        answers = await service(transcriber, max_recordings=3).transcribe(sent(*[b"x"] * 20), DrumOptions())
        assert len(answers) == 20
        assert transcriber.most_at_once == 3

    asyncio.run(run())


def test_a_request_too_many_is_refused_before_any_work(service: Callable[..., DrumFlow]) -> None:
    async def run() -> None:
        transcriber = Transcriber()
        transcriber.go.clear()
        drums = service(transcriber, max_at_once=2)
        calls = [asyncio.create_task(drums.transcribe(sent(b"a"), DrumOptions())) for _ in range(2)]
        while transcriber.working < 2:
            await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await drums.transcribe(sent(b"a"), DrumOptions())
        assert refused.value.retry_after_s > 0
        assert len(transcriber.calls) == 2
        transcriber.go.set()
        await asyncio.gather(*calls)
        assert len(await drums.transcribe(sent(b"a"), DrumOptions())) == 1

    asyncio.run(run())


@pytest.mark.parametrize("failure", [None, ProcessingError("x")])
def test_large_uploads_go_through_the_store_and_leave_nothing(
    service: Callable[..., DrumFlow], tmp_path: Path, failure: Exception | None
) -> None:
    async def run() -> None:
        content = b"RIFFlong" + bytes(3 << 20)
        transcriber = Transcriber({b"RIFFlong": failure} if failure else {})
        answers = await service(transcriber).transcribe(sent(b"small", content), DrumOptions())
        assert answers[1] is failure or isinstance(answers[1], DrumTranscription)
        sources = {filename: source for source, _, filename in transcriber.calls}
        assert sources["0.wav"] == b"small"
        assert isinstance(sources["1.wav"], str)
        assert Path(sources["1.wav"]).is_relative_to(tmp_path / "artifacts")
        assert files_in(tmp_path) == []

    asyncio.run(run())


def test_what_runs_out_of_gpu_memory_is_repeated_on_the_cpu(service: Callable[..., DrumFlow]) -> None:
    async def run() -> None:
        gpu, cpu = Transcriber({b"big": GpuMemoryError("no memory")}), Transcriber()
        small, big = await service(gpu, cpu).transcribe(sent(b"small", b"big"), DrumOptions())
        assert isinstance(small, DrumTranscription)
        assert isinstance(big, DrumTranscription)
        assert small.transcript.notes == DRUM_TRANSCRIPT.notes
        assert big.transcript.notes[-1] == "drum transcription ran out of GPU memory and was repeated on the CPU"
        assert [call[0] for call in cpu.calls] == [b"big"]
        cpu.failures[b"big"] = GpuMemoryError("none at all")
        [answer] = await service(gpu, cpu).transcribe(sent(b"big"), DrumOptions())
        assert answer is cpu.failures[b"big"]

    asyncio.run(run())


def test_a_caller_that_leaves_ends_all_work(service: Callable[..., DrumFlow], tmp_path: Path) -> None:
    async def run() -> None:
        transcriber = Transcriber()
        transcriber.go.clear()
        drums = service(transcriber, max_at_once=1)
        call = asyncio.create_task(drums.transcribe(sent(b"a", bytes(3 << 20), b"c"), DrumOptions()))
        async with asyncio.timeout(10):
            while transcriber.working < 3:
                await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert transcriber.working == 0
        assert files_in(tmp_path) == []
        transcriber.go.set()
        assert len(await drums.transcribe(sent(b"a"), DrumOptions())) == 1  # its place is free again

    asyncio.run(run())
