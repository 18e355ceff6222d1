"""OpenAI's routes, asked by OpenAI's own client over a real connection."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar, get_args

import httpx
import openai
import pytest
from fastapi import FastAPI
from openai.types import AudioModel
from openai.types.audio import TranscriptionDiarized, TranscriptionVerbose

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.messages import Locale
from serve_app.results import Segment, SpeechTask, Transcript
from serve_app.services import AnalysisRequest, Transcription, TranscriptionRequest
from tests.unit.api.live import DEADLINE_S, serving, until
from tests.unit.api.memory_services import CREATED_AT, RESULT, MemoryAnalysis, MemorySpeech, memory_services

TEXT = "Good morning, Daniel. How are you?"
RECORDING = ("talk.wav", b"RIFF....")
ALIASES = [
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FastAPI, str]]:
    settings = ApiSettings(locale=Locale.EN, heartbeat_s=0.02, max_upload_bytes=1 << 20)
    app = create_app(memory_services(), settings)
    with serving(app) as url:
        yield app, url


@pytest.fixture
def url(running: tuple[FastAPI, str]) -> str:
    return running[1]


@pytest.fixture
def speech(running: tuple[FastAPI, str]) -> MemorySpeech:
    """Return the speech service behind the running server, fresh."""
    running[0].state.services = memory_services()
    return running[0].state.services.speech


@pytest.fixture
def analysis(running: tuple[FastAPI, str], speech: MemorySpeech) -> MemoryAnalysis:
    """Return the analysis service beside it."""
    return running[0].state.services.analysis


@pytest.fixture(scope="module")
def connected(running: tuple[FastAPI, str]) -> Iterator[openai.OpenAI]:
    # one for all tests: each would read the machine's certificates anew
    url = f"{running[1]}/v1"
    with openai.OpenAI(base_url=url, api_key="anything", max_retries=0, timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
def client(connected: openai.OpenAI, speech: MemorySpeech) -> openai.OpenAI:
    return connected


def transcribe(client: openai.OpenAI, **wanted: Any) -> Any:
    return client.audio.transcriptions.create(**{"model": "whisper-1", "file": RECORDING, **wanted})


class TestForms:
    def test_json(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        heard = transcribe(client)
        assert heard.text == TEXT
        assert (heard.usage.type, heard.usage.seconds) == ("duration", 4)
        assert speech.contents == [b"RIFF...."]
        assert dataclasses.replace(speech.asked[0], file=None) == TranscriptionRequest(
            None,  # type: ignore[arg-type]
            "talk.wav",
            align=False,
        )

    def test_text(self, client: openai.OpenAI) -> None:
        assert transcribe(client, response_format="text") == f"{TEXT}\n"

    def test_srt(self, client: openai.OpenAI) -> None:
        assert transcribe(client, response_format="srt") == (
            "1\n00:00:00,520 --> 00:00:01,900\nGood morning, Daniel.\n\n"
            "2\n00:00:02,500 --> 00:00:03,250\nHow are you?\n\n"
        )

    def test_vtt(self, client: openai.OpenAI) -> None:
        assert transcribe(client, response_format="vtt") == (
            "WEBVTT\n"
            "\n00:00:00.520 --> 00:00:01.900\nGood morning, Daniel.\n"
            "\n00:00:02.500 --> 00:00:03.250\nHow are you?\n"
        )

    def test_verbose_json_has_segments_by_default(self, client: openai.OpenAI) -> None:
        heard = transcribe(client, response_format="verbose_json")
        assert isinstance(heard, TranscriptionVerbose)
        assert (heard.text, heard.language, heard.duration) == (TEXT, "english", 4.0)
        assert heard.words is None
        first, second = heard.segments or []
        assert (first.id, first.start, first.end, first.text) == (0, 0.52, 1.9, "Good morning, Daniel.")
        assert (first.avg_logprob, first.no_speech_prob, first.temperature) == (-0.25, 0.01, 0.0)
        assert 0 < first.compression_ratio < 2.4
        assert (first.tokens, first.seek) == ([], 0)
        assert (second.id, second.avg_logprob) == (1, None)

    def test_verbose_json_with_words(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        heard = transcribe(client, response_format="verbose_json", timestamp_granularities=["word"])
        assert heard.segments is None
        assert [(word.word, word.start, word.end) for word in heard.words][:2] == [
            ("Good", 0.52, 0.8),
            ("morning,", 0.8, 1.3),
        ]
        assert len(heard.words) == 6
        assert speech.asked[0].align  # whoever asks for words wants their times well

    def test_verbose_json_with_both(self, client: openai.OpenAI) -> None:
        wanted = ["word", "segment"]
        heard = transcribe(client, response_format="verbose_json", timestamp_granularities=wanted)
        assert (len(heard.words), len(heard.segments)) == (6, 2)

    def test_answer_says_which_model_spoke(self, client: openai.OpenAI) -> None:
        heard = transcribe(client, response_format="verbose_json")
        assert heard.backend == "faster-whisper"
        assert heard.model_version == "faster-whisper:whisper-micro:float32"
        assert heard.notes == ["openai/whisper-small could not be loaded, whisper-micro speaks instead"]
        raw = client.audio.transcriptions.with_raw_response.create(
            model="transformers", file=RECORDING, response_format="srt"
        )
        assert raw.headers["x-model-version"] == "faster-whisper:whisper-micro:float32"

    @pytest.mark.parametrize("form", ["json", "text", "srt", "vtt", "verbose_json"])
    def test_recording_without_speech(self, client: openai.OpenAI, speech: MemorySpeech, form: str) -> None:
        speech.transcript = Transcript((), "ko", "m")
        heard = transcribe(client, response_format=form)
        said = heard if isinstance(heard, str) else heard.text
        assert said.strip() == ("WEBVTT" if form == "vtt" else "")

    @pytest.mark.parametrize(
        ("form", "media_type"),
        [
            ("json", "application/json"),
            ("verbose_json", "application/json"),
            ("text", "text/plain; charset=utf-8"),
            ("srt", "application/x-subrip; charset=utf-8"),
            ("vtt", "text/vtt; charset=utf-8"),
        ],
    )
    def test_media_types(self, url: str, speech: MemorySpeech, form: str, media_type: str) -> None:
        data = {"model": "whisper-1", "response_format": form}
        answer = httpx.post(f"{url}/v1/audio/transcriptions", data=data, files={"file": RECORDING})
        assert answer.headers["content-type"] == media_type

    def test_hands_on_every_field(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        transcribe(
            client,
            model="transformers",
            language="ko",
            prompt="다니엘",
            temperature=0.2,
            chunking_strategy="auto",
            file=("회의.m4a", b"abc"),
        )
        assert dataclasses.replace(speech.asked[0], file=None) == TranscriptionRequest(
            None,  # type: ignore[arg-type]
            "회의.m4a",
            "ko",
            "transformers",
            "다니엘",
            align=False,
        )

    def test_asynchronous_client(self, url: str, speech: MemorySpeech) -> None:
        async def run() -> str:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
                return (await client.audio.transcriptions.create(model="whisper-1", file=RECORDING)).text

        assert asyncio.run(run()) == TEXT

    def test_no_token_is_asked_for(self, url: str, speech: MemorySpeech) -> None:
        answer = httpx.post(f"{url}/v1/audio/transcriptions", data={"model": "whisper-1"}, files={"file": RECORDING})
        assert answer.json()["text"] == TEXT

    @pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
    def test_granularities_by_either_name(self, url: str, speech: MemorySpeech, name: str) -> None:
        data = {"model": "whisper-1", "response_format": "verbose_json", name: ["word", "segment"]}
        answer = httpx.post(f"{url}/v1/audio/transcriptions", data=data, files={"file": RECORDING})
        assert (len(answer.json()["words"]), len(answer.json()["segments"])) == (6, 2)


class TestModels:
    def test_list(self, client: openai.OpenAI) -> None:
        models = list(client.models.list())
        assert [model.id for model in models] == [*ALIASES, "faster-whisper", "transformers", "openai-whisper"]
        assert {(model.object, model.created, model.owned_by) for model in models} == {
            ("model", int(CREATED_AT), "serve_app")
        }
        assert [model.healthy for model in models] == [*[True] * 8, False]  # type: ignore[attr-defined]
        assert models[0].model is None  # type: ignore[attr-defined]
        assert models[6].model == "embedded:whisper-micro"  # type: ignore[attr-defined]

    def test_every_name_that_openais_client_knows_is_listed(self, client: openai.OpenAI) -> None:
        assert set(get_args(AudioModel)) <= {model.id for model in client.models.list()}

    def test_every_listed_one_can_be_asked_for(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        speech.healthy = dict.fromkeys(speech.healthy, True)
        for model in client.models.list():
            assert client.models.retrieve(model.id).id == model.id
            assert transcribe(client, model=model.id).text == TEXT
        backends = [request.backend for request in speech.asked]
        assert backends == [*[None] * 6, "faster-whisper", "transformers", "openai-whisper"]

    def test_none_where_no_backend_is_deployed(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        speech.healthy = {}
        assert list(client.models.list()) == []

    def test_unknown(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as raised:
            client.models.retrieve("gpt-5")
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
        assert "faster-whisper" in raised.value.message


class TestErrors:
    @pytest.mark.parametrize(
        ("wanted", "param", "told"),
        [
            ({"file": ("a.wav", b"")}, "file", "empty"),
            ({"language": "klingon"}, "language", "auto, ko, en, ja, zh"),
            ({"response_format": "sami"}, "response_format", "'diarized_json'"),
            ({"temperature": 1.5}, "temperature", "less than or equal to 1"),
            ({"temperature": "warm"}, "temperature", "number"),
            ({"timestamp_granularities": ["word"]}, "timestamp_granularities[]", "verbose_json"),
            (
                {"timestamp_granularities": ["letter"], "response_format": "verbose_json"},
                "timestamp_granularities[]",
                "'word' or 'segment'",
            ),
            ({"stream": True, "response_format": "srt"}, "stream", "json, text and diarized_json"),
            (
                {"response_format": "diarized_json", "timestamp_granularities": ["segment"]},
                "timestamp_granularities[]",
                "verbose_json",
            ),
            ({"chunking_strategy": "sentences"}, "chunking_strategy", "'auto'"),
            ({"chunking_strategy": {"type": "silence"}}, "chunking_strategy[type]", "'server_vad'"),
            (
                {"chunking_strategy": {"type": "server_vad", "threshold": 1.5}},
                "chunking_strategy[threshold]",
                "less than or equal to 1",
            ),
            (
                {"chunking_strategy": {"type": "server_vad", "prefix_padding_ms": -1}},
                "chunking_strategy[prefix_padding_ms]",
                "greater than or equal to 0",
            ),
            (
                {"chunking_strategy": {"type": "server_vad", "silence_duration_ms": "long"}},
                "chunking_strategy[silence_duration_ms]",
                "integer",
            ),
            ({"chunking_strategy": {"threshold": 0.5}}, "chunking_strategy[threshold]", "[type]=server_vad"),
            ({"chunking_strategy": {"type": "server_vad", "pitch": 1}}, "chunking_strategy[pitch]", "Unknown field"),
            ({"stream": True, "timestamp_granularities": ["word"]}, "timestamp_granularities[]", "segments can"),
            ({"include": ["logprobs"]}, "include[]", "verbose_json has each segment's"),
            ({"keywords": ["Boston"]}, "keywords[]", "into prompt"),
            ({"languages": ["ko", "en"]}, "languages[]", "name one in language"),
            ({"known_speaker_names": ["Ann", "Bob"]}, "known_speaker_names[]", "A, B"),
            # a recording of ten seconds is longer than other fields may be
            (
                {"known_speaker_references": ["data:audio/wav;base64," + "A" * 400_000]},
                "known_speaker_references[]",
                "A, B",
            ),
            ({"model": ""}, "model", "required"),
        ],
    )
    def test_wrong_request(
        self, client: openai.OpenAI, speech: MemorySpeech, wanted: dict[str, Any], param: str, told: str
    ) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            transcribe(client, **wanted)
        assert (raised.value.param, raised.value.type) == (param, "invalid_request_error")
        assert raised.value.code == "invalid_request"
        assert told in raised.value.message
        assert raised.value.request_id
        assert speech.asked == []

    def test_unknown_model(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        with pytest.raises(openai.NotFoundError) as raised:
            transcribe(client, model="gpt-5-transcribe")
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
        assert f"{', '.join(ALIASES)}, faster-whisper, transformers, openai-whisper" in raised.value.message
        assert speech.asked == []

    @pytest.mark.parametrize(
        ("error", "kind", "code", "told_type"),
        [
            (
                errors.AudioExtractionError("x"),
                openai.BadRequestError,
                "audio_extraction_error",
                "invalid_request_error",
            ),
            (errors.LanguageUnsupported("x"), openai.BadRequestError, "processing_error", "invalid_request_error"),
            (errors.MediaTooLarge("x"), openai.APIStatusError, "download_error", "invalid_request_error"),
            (errors.Overloaded("x"), openai.RateLimitError, "overloaded", "rate_limit_error"),
            (errors.Unavailable("x"), openai.InternalServerError, "unavailable", "server_error"),
            (errors.GpuMemoryError("x"), openai.InternalServerError, "gpu_memory_error", "server_error"),
            (RuntimeError("hunter2"), openai.InternalServerError, "internal_error", "server_error"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_failure_before_the_first_word(
        self,
        client: openai.OpenAI,
        speech: MemorySpeech,
        error: Exception,
        kind: type[openai.APIStatusError],
        code: str,
        told_type: str,
        stream: bool,
    ) -> None:
        speech.failures = [error]
        with pytest.raises(kind) as raised:
            transcribe(client, stream=stream)
        assert (raised.value.code, raised.value.type, raised.value.param) == (code, told_type, None)
        assert "hunter2" not in str(raised.value.body)
        assert speech.asked[0].file.closed

    def test_unhealthy_backend_is_never_silently_another_one(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.InternalServerError) as raised:
            transcribe(client, model="openai-whisper")
        assert raised.value.status_code == 503
        assert "healthy: faster-whisper, transformers" in raised.value.message

    def test_too_large(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.APIStatusError) as raised:
            transcribe(client, file=("a.wav", b"x" * (1 << 20)))
        assert (raised.value.status_code, raised.value.code) == (413, "request_too_large")

    def test_not_a_form(self, url: str, speech: MemorySpeech) -> None:
        answer = httpx.post(f"{url}/v1/audio/transcriptions", json={"model": "whisper-1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert "multipart/form-data" in answer.json()["error"]["message"]

    def test_unknown_route_is_told_in_the_same_form(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as raised:
            client.files.list()
        assert (raised.value.type, raised.value.code) == ("invalid_request_error", "not_found")

    def test_client_tries_again_when_it_is_told_to(
        self, client: openai.OpenAI, speech: MemorySpeech, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float] = []
        monkeypatch.setattr(openai.OpenAI, "_sleep_for_retry", self.noting(waits))
        speech.failures = [errors.Unavailable("starting", 3.0), errors.Overloaded("full", 6.5)]
        heard = transcribe(client.with_options(max_retries=2))
        assert heard.text == TEXT
        assert waits == [3.0, 7.0]
        # the whole file each time
        assert speech.contents == [b"RIFF...."] * 3

    def test_client_does_not_try_again_what_can_not_succeed(
        self, client: openai.OpenAI, speech: MemorySpeech, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float] = []
        monkeypatch.setattr(openai.OpenAI, "_sleep_for_retry", self.noting(waits))
        speech.failures = [errors.AudioExtractionError("no audio")]
        with pytest.raises(openai.BadRequestError):
            transcribe(client.with_options(max_retries=2))
        assert (waits, len(speech.asked)) == ([], 1)

    def noting(self, waits: list[float]) -> Any:
        """Return a stand-in for the client's sleep that notes how long it would have been."""

        def note(self: openai.OpenAI, *, response: Any, **_: Any) -> None:
            waits.append(float(response.headers["retry-after"]))

        return note


class TestStream:
    def test_deltas_add_up_to_the_text(self, client: openai.OpenAI) -> None:
        events = list(transcribe(client, stream=True))
        assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
        assert "".join(event.delta for event in events[:-1]) == events[-1].text == TEXT

    def test_segments_if_asked_for(self, client: openai.OpenAI) -> None:
        events = list(transcribe(client, stream=True, timestamp_granularities=["segment"]))
        segments = [event for event in events if event.type == "transcript.text.segment"]
        assert [(event.id, event.start, event.end, event.text) for event in segments] == [
            ("seg_0", 0.52, 1.9, "Good morning, Daniel."),
            ("seg_1", 2.5, 3.25, "How are you?"),
        ]

    def test_segments_without_text_add_no_space(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        silent = Segment(0.0, 0.1, " ")
        segments = (silent, *speech.transcript.segments, silent)
        speech.transcript = dataclasses.replace(speech.transcript, segments=segments)
        events = list(transcribe(client, stream=True))
        assert "".join(event.delta for event in events[:-1]) == events[-1].text == TEXT

    def test_nothing_said(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        speech.transcript = Transcript((), "en", "m")
        assert [(event.type, event.text) for event in transcribe(client, stream=True)] == [("transcript.text.done", "")]

    def test_first_words_come_before_the_last_and_silence_is_filled(
        self, url: str, speech: MemorySpeech, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The service says its second segment only after the client has seen its first, and a heartbeat."""
        loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

        async def paced(request: TranscriptionRequest) -> AsyncIterator[Segment | Transcription]:
            go_on = asyncio.Event()
            loops.append((asyncio.get_running_loop(), go_on))
            first, second = speech.transcript.segments
            yield first
            async with asyncio.timeout(DEADLINE_S):
                await go_on.wait()
            assert not request.file.closed
            yield second
            yield Transcription(speech.transcript, 4.0, "faster-whisper", {})

        monkeypatch.setattr(speech, "stream", paced)
        data = {"model": "whisper-1", "stream": "true"}
        path = f"{url}/v1/audio/transcriptions"
        with httpx.stream("POST", path, data=data, files={"file": RECORDING}, timeout=DEADLINE_S) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            seen = []
            for line in lines:
                seen.append(line)
                if line == ": heartbeat":
                    break
            assert seen[0] == "event: transcript.text.delta"
            assert json.loads(seen[1].removeprefix("data: "))["delta"] == "Good morning, Daniel."
            loop, go_on = loops[0]
            loop.call_soon_threadsafe(go_on.set)
            rest = [line for line in lines if line.startswith("event: ")]
        assert rest == ["event: transcript.text.delta", "event: transcript.text.done"]

    def test_failure_half_way_raises_in_the_client(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        speech.fails_after_first_segment = errors.GpuMemoryError("and no CPU replica")
        stream = transcribe(client, stream=True)
        assert next(stream).type == "transcript.text.delta"
        with pytest.raises(openai.APIError) as raised:
            next(stream)
        assert raised.value.message == "Out of GPU memory: and no CPU replica"
        assert (raised.value.code, raised.value.type) == ("gpu_memory_error", "server_error")
        until(lambda: speech.asked[0].file.closed, "the recording closed")

    def test_client_that_leaves_ends_the_work(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        speech.hangs = True
        with transcribe(client, stream=True) as stream:
            assert next(stream).delta == "Good morning, Daniel."
            assert not speech.cancelled.is_set()
            assert not speech.asked[0].file.closed
        assert speech.cancelled.wait(DEADLINE_S)
        until(lambda: speech.asked[0].file.closed, "the recording closed")

    def test_client_whose_patience_ends_before_the_first_word(
        self, client: openai.OpenAI, speech: MemorySpeech, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[TranscriptionRequest] = []

        async def silent(request: TranscriptionRequest) -> AsyncIterator[Segment | Transcription]:
            asked.append(request)
            try:
                await asyncio.Event().wait()
                yield speech.transcript.segments[0]
            finally:
                speech.cancelled.set()

        monkeypatch.setattr(speech, "stream", silent)
        started_s = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            transcribe(client, stream=True, timeout=0.5)
        assert time.monotonic() - started_s < DEADLINE_S
        assert speech.cancelled.wait(DEADLINE_S)
        until(lambda: asked[0].file.closed, "the recording closed")


class TestChunking:
    """What cuts a recording is the service's own matter, but clients must be able to ask for it."""

    @pytest.mark.parametrize(
        "strategy",
        [
            "auto",
            {"type": "server_vad"},
            {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200},
        ],
    )
    def test_every_form_that_the_client_sends_is_taken(
        self, client: openai.OpenAI, speech: MemorySpeech, strategy: Any
    ) -> None:
        assert transcribe(client, chunking_strategy=strategy).text == TEXT
        assert dataclasses.replace(speech.asked[0], file=None) == TranscriptionRequest(
            None,  # type: ignore[arg-type]
            "talk.wav",
            align=False,
        )


def spoken(speaker_id: str, start_s: float, end_s: float, text: str) -> dict[str, Any]:
    speaker = {"speaker_id": speaker_id}
    return {"start_time": start_s, "end_time": end_s, "text": text, "speaker": speaker, "words": []}


class TestDiarized:
    DIALOGUE: ClassVar[dict[str, Any]] = {
        **RESULT,
        "segments": [
            spoken("SPEAKER_00", 0.5, 1.9, "Good morning."),
            spoken("SPEAKER_01", 2.0, 3.25, "Good morning, Ann."),
            spoken("SPEAKER_00", 3.5, 4.0, "So."),
        ],
        "text": "Good morning. Good morning, Ann. So.",
    }

    @pytest.mark.parametrize("model", ["gpt-4o-transcribe-diarize", "whisper-1", "faster-whisper"])
    def test_segments_have_speakers(self, client: openai.OpenAI, analysis: MemoryAnalysis, model: str) -> None:
        analysis.result = self.DIALOGUE
        heard = transcribe(client, model=model, response_format="diarized_json", chunking_strategy="auto")
        assert isinstance(heard, TranscriptionDiarized)
        assert (heard.task, heard.text, heard.duration) == ("transcribe", self.DIALOGUE["text"], 120.5)
        assert [dict(segment) for segment in heard.segments] == [
            {
                "type": "transcript.text.segment",
                "id": f"seg_{number}",
                "speaker": speaker,
                "start": start_s,
                "end": end_s,
                "text": text,
            }
            for number, (speaker, start_s, end_s, text) in enumerate(
                [("A", 0.5, 1.9, "Good morning."), ("B", 2.0, 3.25, "Good morning, Ann."), ("A", 3.5, 4.0, "So.")]
            )
        ]
        assert heard.usage is not None
        assert (heard.usage.type, heard.usage.seconds) == ("duration", 121)
        assert (heard.model_version, heard.notes) == (  # type: ignore[attr-defined]
            "whisperx-base",
            ["emotion recognition: no model is configured"],
        )

    def test_hands_on_every_field(self, client: openai.OpenAI, analysis: MemoryAnalysis, speech: MemorySpeech) -> None:
        transcribe(client, model="transformers", language="ko", prompt="다니엘", response_format="diarized_json")
        assert analysis.contents == [b"RIFF...."]
        [asked] = analysis.asked
        assert dataclasses.replace(asked, source="") == AnalysisRequest(
            "", language="ko", emotion_detection=False, backend="transformers", prompt="다니엘"
        )
        assert asked.source.closed  # type: ignore[union-attr]
        assert speech.asked == []

    def test_answer_says_which_model_spoke(self, client: openai.OpenAI, analysis: MemoryAnalysis) -> None:
        raw = client.audio.transcriptions.with_raw_response.create(
            model="whisper-1", file=RECORDING, response_format="diarized_json"
        )
        assert raw.headers["x-model-version"] == "whisperx-base"

    def test_labels_go_on_after_z(self, client: openai.OpenAI, analysis: MemoryAnalysis) -> None:
        crowd = [spoken(f"SPEAKER_{number:02d}", number, number + 0.5, "Yes.") for number in range(100)]
        analysis.result = {**RESULT, "segments": crowd}
        labels = [segment.speaker for segment in transcribe(client, response_format="diarized_json").segments]
        assert len(set(labels)) == 100
        assert labels[:2] + labels[25:28] + labels[51:53] == ["A", "B", "Z", "AA", "AB", "AZ", "BA"]

    def test_nothing_said(self, client: openai.OpenAI, analysis: MemoryAnalysis) -> None:
        analysis.result = {**RESULT, "segments": [], "text": ""}
        heard = transcribe(client, response_format="diarized_json")
        assert (heard.text, heard.segments) == ("", [])
        events = list(transcribe(client, response_format="diarized_json", stream=True))
        assert [(event.type, event.text) for event in events] == [("transcript.text.done", "")]

    def test_stream_has_each_segment_with_its_speaker(self, client: openai.OpenAI, analysis: MemoryAnalysis) -> None:
        analysis.result = self.DIALOGUE
        events = list(transcribe(client, response_format="diarized_json", stream=True))
        kinds = ["transcript.text.delta", "transcript.text.segment"] * 3 + ["transcript.text.done"]
        assert [event.type for event in events] == kinds
        deltas, segments = events[:-1:2], events[1:-1:2]
        assert "".join(event.delta for event in deltas) == events[-1].text == self.DIALOGUE["text"]
        assert [(event.id, event.speaker, event.start) for event in segments] == [
            ("seg_0", "A", 0.5),
            ("seg_1", "B", 2.0),
            ("seg_2", "A", 3.5),
        ]
        assert [event.segment_id for event in deltas] == [event.id for event in segments]

    @pytest.mark.parametrize("stream", [False, True])
    def test_busy(self, client: openai.OpenAI, analysis: MemoryAnalysis, stream: bool) -> None:
        analysis.fail_with = errors.Unavailable(
            "Too many analyses at once; submit a job instead, or try again in 10 s", 10.0
        )
        with pytest.raises(openai.InternalServerError) as raised:
            transcribe(client, response_format="diarized_json", stream=stream)
        assert (raised.value.status_code, raised.value.code) == (503, "unavailable")
        assert raised.value.response.headers["retry-after"] == "10"

    def test_unknown_model(self, client: openai.OpenAI, analysis: MemoryAnalysis) -> None:
        with pytest.raises(openai.NotFoundError):
            transcribe(client, model="pyannote", response_format="diarized_json")
        assert analysis.asked == []

    def test_client_that_leaves_ends_the_work(self, client: openai.OpenAI, analysis: MemoryAnalysis) -> None:
        analysis.hangs = True
        with pytest.raises(openai.APITimeoutError):
            transcribe(client, response_format="diarized_json", timeout=0.5)
        assert analysis.cancelled.wait(DEADLINE_S)
        until(lambda: analysis.asked[0].source.closed, "the recording closed")  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK, whose newer models do not translate
class TestTranslations:
    def test_json(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        told = client.audio.translations.create(model="whisper-1", file=RECORDING, prompt="Daniel")
        assert told.text == TEXT
        [asked] = speech.asked
        assert dataclasses.replace(asked, file=None) == TranscriptionRequest(
            None,  # type: ignore[arg-type]
            "talk.wav",
            prompt="Daniel",
            align=False,
            task=SpeechTask.TRANSLATE,
        )
        assert speech.contents == [b"RIFF...."]
        assert asked.file.closed

    def test_verbose_json(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        speech.transcript = dataclasses.replace(speech.transcript, language="ko")
        told = client.audio.translations.create(model="whisper-1", file=RECORDING, response_format="verbose_json")
        assert (told.text, told.language, told.duration) == (TEXT, "english", 4.0)
        assert [segment.text for segment in told.segments or []] == ["Good morning, Daniel.", "How are you?"]
        assert (told.task, told.language_code) == ("translate", "ko")  # type: ignore[attr-defined]
        # the first healthy one whose model can
        assert told.backend == "transformers"  # type: ignore[attr-defined]

    @pytest.mark.parametrize(("form", "begins"), [("text", "Good"), ("srt", "1\n00:00:00,520"), ("vtt", "WEBVTT")])
    def test_other_forms(self, client: openai.OpenAI, form: Any, begins: str) -> None:
        told = client.audio.translations.create(model="transformers", file=RECORDING, response_format=form)
        assert str(told).startswith(begins)

    def test_language_can_be_told(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        client.audio.translations.create(model="whisper-1", file=RECORDING, extra_body={"language": "ko"})
        assert speech.asked[0].language == "ko"

    def test_named_backend_whose_model_can_not_translate(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            client.audio.translations.create(model="faster-whisper", file=RECORDING)
        assert "faster-whisper can't translate: name whisper-base" in raised.value.message
        assert (raised.value.type, raised.value.code) == ("invalid_request_error", "processing_error")
        assert speech.asked[0].file.closed

    @pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-5"])
    def test_other_models(self, client: openai.OpenAI, speech: MemorySpeech, model: str) -> None:
        with pytest.raises(openai.NotFoundError) as raised:
            client.audio.translations.create(model=model, file=RECORDING)
        assert "there are: whisper-1, faster-whisper, transformers, openai-whisper" in raised.value.message
        assert speech.asked == []

    @pytest.mark.parametrize(
        ("wanted", "param"),
        [
            ({"response_format": "diarized_json"}, "response_format"),
            ({"temperature": 2}, "temperature"),
            ({"extra_body": {"stream": "true"}}, "stream"),
            ({"file": ("a.wav", b"")}, "file"),
        ],
    )
    def test_wrong_request(
        self, client: openai.OpenAI, speech: MemorySpeech, wanted: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            client.audio.translations.create(**{"model": "whisper-1", "file": RECORDING, **wanted})
        assert raised.value.param == param
        assert speech.asked == []

    def test_not_a_form(self, url: str) -> None:
        assert httpx.post(f"{url}/v1/audio/translations", json={"model": "whisper-1"}).status_code == 415

    def test_client_that_leaves_ends_the_work(self, client: openai.OpenAI, speech: MemorySpeech) -> None:
        speech.hangs = True
        with pytest.raises(openai.APITimeoutError):
            client.audio.translations.create(model="whisper-1", file=RECORDING, timeout=0.5)
        assert speech.cancelled.wait(DEADLINE_S)
        until(lambda: speech.asked[0].file.closed, "the recording closed")


def test_documented(url: str) -> None:
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    translating = paths["/v1/audio/translations"]["post"]
    fields = translating["requestBody"]["content"]["multipart/form-data"]["schema"]
    names = ["file", "model", "language", "prompt", "audio_track", "temperature", "response_format"]
    assert list(fields["properties"]) == names
    assert {"200", "400", "404", "413", "429", "503"} <= set(translating["responses"])
    operation = paths["/v1/audio/transcriptions"]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["required"] == ["file", "model"]
    assert {"timestamp_granularities[]", "chunking_strategy", "chunking_strategy[threshold]"} <= set(
        schema["properties"]
    )
    assert "diarized_json" in schema["properties"]["response_format"]["enum"]
    assert {"200", "400", "404", "413", "429", "503"} <= set(operation["responses"])
