"""Uploads and streams of their segments: over plain objects as deployments."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import AudioExtractionError, InvalidRequest, ProcessingError, Unavailable
from serve_app.flows.speech import SpeechFlow
from serve_app.results import Segment, SpeechRegion, SpeechTask
from serve_app.services import Transcription, TranscriptionRequest
from tests.unit.flows.test_media_source import files_in
from tests.unit.flows.test_video import Graph

# apart by more than the pause that ends a piece
REGIONS = [SpeechRegion(40.0 * number, 40.0 * number + 2.0) for number in range(3)]


def flow(graph: Graph, max_at_once: int = 2, max_pieces: int = 4) -> SpeechFlow:
    async def health() -> Mapping[str, str]:
        return graph.states

    return SpeechFlow(graph.models, graph.media, 0.0, health, max_at_once, max_pieces)


def upload(content: bytes = b"RIFF", **options: Any) -> TranscriptionRequest:
    return TranscriptionRequest(io.BytesIO(content), "talk.wav", **options)


def test_backends_are_listed_with_their_state(tmp_path: Path) -> None:
    graph = Graph(tmp_path, states={"D": "UNHEALTHY"})
    listed = asyncio.run(flow(graph).backends())
    assert [(each.name, each.model, each.healthy) for each in listed] == [
        ("faster-whisper", "embedded:test", False),
        ("pocketsphinx", "embedded:test", False),
    ]
    graph.states["D"] = "HEALTHY"
    assert all(each.healthy for each in asyncio.run(flow(graph).backends()))


def test_the_audio_track_is_handed_on(tmp_path: Path) -> None:
    graph = Graph(tmp_path, regions=REGIONS)
    for track in (None, 0, 2):
        asyncio.run(flow(graph).transcribe(upload(language="en", audio_track=track)))
    assert graph.analyzer.options == [{}, {"audio_track": 0}, {"audio_track": 2}]


@pytest.mark.parametrize("content", [b"RIFF", b"RIFF" + bytes(3 << 20)], ids=["small", "large"])
def test_an_upload_is_transcribed_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    graph = Graph(tmp_path, regions=REGIONS)
    answer = asyncio.run(flow(graph).transcribe(upload(content, language="en", prompt="Daniel")))
    assert graph.analyzer.contents == [content]
    assert isinstance(graph.analyzer.decoded[0], bytes) == (len(content) < 100)
    assert [round(segment.start_s) for segment in answer.transcript.segments] == [0, 40, 80]
    assert (answer.duration_s, answer.backend) == (82.0, "faster-whisper")  # not the order of video jobs
    assert list(answer.stage_seconds) == ["decode", "detect_speech", "transcribe"]
    assert "a noisy file" in answer.transcript.notes
    assert answer.transcript.speech_without_words_s is not None
    assert set(graph.recognizer.asked) == {("en", "Daniel", SpeechTask.TRANSCRIBE)}
    assert files_in(tmp_path) == []


def test_a_translation_is_not_compared_with_the_speech(tmp_path: Path) -> None:
    graph = Graph(tmp_path)
    answer = asyncio.run(flow(graph).transcribe(upload(task=SpeechTask.TRANSLATE)))
    assert answer.transcript.speech_without_words_s is None
    assert {task for _, _, task in graph.recognizer.asked} == {SpeechTask.TRANSLATE}


def test_segments_are_streamed_before_the_last_is_known(tmp_path: Path) -> None:
    async def run() -> None:
        graph = Graph(tmp_path, regions=REGIONS)
        stream = flow(graph, max_pieces=1).stream(upload(language="en"))
        first = await anext(stream)
        assert isinstance(first, Segment)
        assert first.start_s == 0.2
        assert len(graph.recognizer.asked) < len(REGIONS)
        others = [part async for part in stream]
        assert [type(part) for part in others] == [Segment, Segment, Transcription]
        assert isinstance(others[-1], Transcription)
        assert others[-1].transcript.segments == (first, *others[:-1])

    asyncio.run(run())


def test_a_client_that_leaves_a_stream_ends_its_pieces_and_frees_its_seat(tmp_path: Path) -> None:
    async def run() -> None:
        graph = Graph(tmp_path, regions=REGIONS)
        speech = flow(graph, max_at_once=1, max_pieces=1)
        stream = speech.stream(upload(bytes(3 << 20), language="en"))
        await anext(stream)
        with pytest.raises(Unavailable, match="Too many transcriptions at once; try again in 5 s") as refused:
            await speech.transcribe(upload())
        assert refused.value.retry_after_s == 5.0
        await stream.aclose()  # type: ignore[attr-defined]
        assert files_in(tmp_path) == []
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        assert (await speech.transcribe(upload())).transcript.segments

    asyncio.run(run())


@pytest.mark.parametrize(
    ("failures", "options", "error"),
    [
        ({"decode": AudioExtractionError("no audio")}, {}, AudioExtractionError),
        ({"transcribe": ProcessingError("broken")}, {}, ProcessingError),
        ({}, {"backend": "transformers"}, InvalidRequest),
    ],
)
def test_a_failure_leaves_nothing(
    tmp_path: Path, failures: dict[str, Exception], options: dict[str, str], error: type[Exception]
) -> None:
    graph = Graph(tmp_path, **failures)
    with pytest.raises(error):
        asyncio.run(flow(graph).transcribe(upload(bytes(3 << 20), **options)))
    assert files_in(tmp_path) == []
    assert len(graph.analyzer.decoded) == (0 if options else 1)


def test_a_backend_that_was_started_for_the_upload_shows_in_the_timing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.flows.speech_to_text._NOTABLE_START_S", -1.0)
    graph = Graph(tmp_path)
    graph.recognizer.uptime_s = 0.0
    assert asyncio.run(flow(graph).transcribe(upload())).stage_seconds["backend_start"] > 0
