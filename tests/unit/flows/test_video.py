"""The DAG branch by branch, resumed from each step, and for callers who wait: over plain objects as deployments."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serve_app.deployments.protocols import RecognizerInfo
from serve_app.errors import (
    AudioExtractionError,
    GpuMemoryError,
    InvalidRequest,
    LanguageUnsupported,
    ModelLoadingError,
    ProcessingError,
    ReplicaLost,
    ServeAppError,
    Unavailable,
)
from serve_app.flows.handles import Placed
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import SpeechModels
from serve_app.flows.steps import DurableSteps, PlainSteps, Steps
from serve_app.flows.video import AnalysisFlow, VideoModels, VideoPipeline, _task_group
from serve_app.jobs.record import VideoRequest
from serve_app.media.acoustics import measure_frames
from serve_app.media.decode import decode_audio
from serve_app.messages import Stage
from serve_app.models.speech.backends import BackendName
from serve_app.results import (
    Diarization,
    Emotions,
    LabelScores,
    Segment,
    SpeakerTurn,
    SpeechActivity,
    SpeechRegion,
    SpeechTask,
    Transcript,
    Word,
)
from serve_app.sentences import Locale, translated
from serve_app.services import AnalysisRequest
from tests.unit.flows.fakes import placed
from tests.unit.flows.test_media_source import files_in, source

ONE, OTHER = BackendName.FASTER_WHISPER, BackendName.POCKETSPHINX
FOLDER = "jobs/a"


class Calls:
    """What the deployments of a test were asked, in order, and what each method fails with."""

    def __init__(self, **failures: Exception) -> None:
        self.names: list[str] = []
        self.failures = failures
        self.ended: list[str] = []  # by cancellation
        self.blocked: set[str] = set()
        self.go = asyncio.Event()

    async def of(self, name: str) -> None:
        self.names.append(name)
        try:
            if name in self.blocked:
                await self.go.wait()
            await asyncio.sleep(0)
            if name in self.failures:
                raise self.failures[name]
        except asyncio.CancelledError:
            self.ended.append(name)
            raise


class Analyzer:
    def __init__(self, calls: Calls, regions: Sequence[SpeechRegion]) -> None:
        self.calls = calls
        self.regions = tuple(regions)
        self.declared_s: float | None = 2.5
        self.decoded: list[bytes | str] = []
        self.options: list[dict[str, int]] = []
        self.contents: list[bytes] = []

    async def length_s(self, media: str) -> float | None:
        await self.calls.of("length_s")
        return self.declared_s

    async def decode(self, media: bytes | str, **options: int) -> str:
        self.decoded.append(media)
        self.options.append(options)
        self.contents.append(media if isinstance(media, bytes) else Path(media).read_bytes())
        await self.calls.of("decode")
        return "audio"

    async def detect_speech(self, audio: str) -> SpeechActivity:
        await self.calls.of("detect_speech")
        return SpeechActivity(max((each.end_s for each in self.regions), default=2.0), self.regions, ("a noisy file",))

    async def measure(self, audio: str) -> Any:
        await self.calls.of("measure")
        return measure_frames(np.full(32_000, 0.1, np.float32))


class Diarizer:
    def __init__(self, calls: Calls, name: str = "diarize") -> None:
        self.calls, self.name = calls, name
        self.counts: list[tuple[int | None, ...]] = []

    async def diarize_with_progress(self, audio: str, *counts: int | None) -> AsyncIterator[float | Diarization]:
        self.counts.append(counts)
        await self.calls.of(self.name)
        yield 0.5
        turns = (SpeakerTurn(0.0, 1.0, "a"), SpeakerTurn(1.0, 2.0, "b"))
        yield Diarization(turns, f"turns by {self.name}", ("two voices",))


class Recognizer:
    """Every piece has two words, one by each of two people."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.asked: list[tuple[str, str | None, SpeechTask]] = []
        self.uptime_s = 100.0

    async def prepare(self, language: str, task: SpeechTask) -> RecognizerInfo:
        await self.calls.of("prepare")
        return RecognizerInfo("m", (), self.uptime_s)

    async def transcribe(
        self, audio: str, piece: SpeechRegion, language: str, prompt: str | None, task: SpeechTask, *about: object
    ) -> Transcript:
        self.asked.append((language, prompt, task))
        await self.calls.of("transcribe")
        start_s = piece.start_s
        words = (Word("Hello", start_s + 0.2, start_s + 0.8), Word("there.", start_s + 1.2, start_s + 1.8))
        return Transcript((Segment(start_s + 0.2, start_s + 1.8, "Hello there.", words),), "en", "m")


class Emotion:
    def __init__(self, calls: Calls, name: str = "recognize") -> None:
        self.calls, self.name = calls, name
        self.regions: list[int] = []

    async def recognize(self, audio: str, regions: Sequence[SpeechRegion]) -> Emotions:
        self.regions.append(len(regions))
        await self.calls.of(self.name)
        return Emotions((LabelScores("calm", {"calm": 1.0}),) * len(regions), f"moods by {self.name}")


class Graph:
    """The deployments of a test, and the pipeline over them; jobs use pocketsphinx first."""

    def __init__(
        self,
        folder: Path,
        *,
        regions: Sequence[SpeechRegion] = (SpeechRegion(0.0, 2.0),),
        diarizers: Sequence[tuple[str, bool]] = (("diarize", False),),
        emotion: Sequence[tuple[str, bool]] = (),
        states: Mapping[str, str] | None = None,
        **failures: Exception,
    ) -> None:
        self.folder = folder
        self.calls = Calls(**failures)
        self.analyzer = Analyzer(self.calls, regions)
        self.recognizer = Recognizer(self.calls)
        self.diarizers = [Diarizer(self.calls, name) for name, _ in diarizers]
        self.emotion = [Emotion(self.calls, name) for name, _ in emotion]
        self.states = {"D": "HEALTHY", **dict.fromkeys((name for name, _ in emotion), "HEALTHY"), **(states or {})}
        (folder / "media").mkdir(exist_ok=True)
        self.media: MediaSource = source(folder, media_root=folder / "media")
        recognizers: list[Placed[Any]] = [placed("D", self.recognizer)]
        self.models = VideoModels(
            placed("D", self.analyzer),
            SpeechModels(dict.fromkeys((ONE, OTHER), recognizers), dict.fromkeys((ONE, OTHER), "embedded:test")),
            (OTHER, ONE),
            [placed(name, each, on_gpu) for (name, on_gpu), each in zip(diarizers, self.diarizers, strict=True)],
            [placed(name, each, on_gpu) for (name, on_gpu), each in zip(emotion, self.emotion, strict=True)],
        )

        async def health() -> Mapping[str, str]:
            return self.states

        self.pipeline = VideoPipeline(self.models, self.media, 0.0, health)

    def analyze(self, request: AnalysisRequest | None = None, steps: Steps | None = None) -> dict[str, Any]:
        """Return the contract's result for an upload, unless a request is given."""
        given = request or AnalysisRequest(io.BytesIO(b"RIFF"))
        return as_dict(asyncio.run(self.pipeline.analyze(given, FOLDER, steps or PlainSteps())))

    def flow(self, max_at_once: int = 2) -> AnalysisFlow:
        return AnalysisFlow(self.pipeline, self.media, max_at_once)


def as_dict(result: Any) -> dict[str, Any]:
    """Return the result's JSON."""
    return result if isinstance(result, dict) else result.model_dump(mode="json", exclude_unset=True)


def upload(**options: Any) -> AnalysisRequest:
    return AnalysisRequest(io.BytesIO(b"RIFF"), **options)


def test_all_deployments_are_listed(tmp_path: Path) -> None:
    graph = Graph(tmp_path, diarizers=[("gpu", True), ("cpu", False)], emotion=[("mood", False)])
    assert [each.name for each in graph.models.placed()] == ["D", "D", "D", "gpu", "cpu", "mood"]


class TestDiarization:
    TWO = (("gpu", True), ("cpu", False))

    def test_out_of_gpu_memory_it_is_repeated_on_the_cpu(self, tmp_path: Path) -> None:
        graph = Graph(tmp_path, diarizers=self.TWO, gpu=GpuMemoryError("full"))
        metadata = graph.analyze(upload(num_speakers=2, max_speakers=4))["metadata"]
        assert metadata["diarization_model_version"] == "turns by cpu"
        assert "diarization ran out of GPU memory and was repeated on the CPU" in metadata["notes"]
        assert metadata["notes"].index("two voices") > 0
        assert [each.counts for each in graph.diarizers] == [[(2, None, 4)]] * 2

    def test_in_order_of_preference(self, tmp_path: Path) -> None:
        graph = Graph(tmp_path, diarizers=self.TWO)
        metadata = graph.analyze()["metadata"]
        assert metadata["diarization_model_version"] == "turns by gpu"
        assert not any("GPU memory" in note for note in metadata["notes"])
        assert graph.analyze(upload(enable_gpu=False))["metadata"]["diarization_model_version"] == "turns by cpu"

    def test_no_twin_on_the_cpu(self, tmp_path: Path) -> None:
        graph = Graph(tmp_path, diarizers=[("gpu", True)], gpu=GpuMemoryError("full"))
        with pytest.raises(GpuMemoryError, match="full"):
            graph.analyze()
        with pytest.raises(ProcessingError, match=r"no CPU replicas of Diarizer.*set diarizer.cpu_fallback"):
            graph.analyze(upload(enable_gpu=False))

    def test_without_speech_nobody_is_asked(self, tmp_path: Path) -> None:
        graph = Graph(tmp_path, regions=(), emotion=[("mood", False)])
        result = graph.analyze(upload(enable_gpu=False))
        assert result["segments"] == []
        assert "no speech was detected" in result["metadata"]["notes"]
        assert result["metadata"]["diarization_model_version"] == "none"
        assert {"diarize", "transcribe", "mood"}.isdisjoint(graph.calls.names)


class TestEmotion:
    TWO = (("gpu", True), ("cpu", False))

    def test_each_segment_has_one(self, tmp_path: Path) -> None:
        graph = Graph(tmp_path, emotion=self.TWO)
        result = graph.analyze()
        assert [part["emotion"] for part in result["segments"]] == [result["segments"][0]["emotion"]] * 2
        assert result["segments"][0]["emotion"]
        assert result["metadata"]["emotion_model_version"] == "moods by gpu"
        assert not any("emotion" in note for note in result["metadata"]["notes"])
        assert graph.calls.names.count("gpu") == 1  # scores and version in one call

    def test_out_of_gpu_memory_it_is_repeated_on_the_cpu(self, tmp_path: Path) -> None:
        graph = Graph(tmp_path, emotion=self.TWO, gpu=GpuMemoryError("full"))
        metadata = graph.analyze()["metadata"]
        assert metadata["emotion_model_version"] == "moods by cpu"
        assert "emotion recognition ran out of GPU memory and was repeated on the CPU" in metadata["notes"]

    @pytest.mark.parametrize(
        ("failures", "notes"),
        [
            ({"gpu": ProcessingError("broken")}, ["emotion recognition was skipped for a part of the file: broken"]),
            (
                {"gpu": GpuMemoryError("full"), "cpu": GpuMemoryError("RAM too")},
                [
                    "emotion recognition ran out of GPU memory and was repeated on the CPU",
                    "emotion recognition was skipped for a part of the file: RAM too",
                ],
            ),
            (
                {"gpu": ModelLoadingError("no weights")},
                ["emotion recognition was skipped for a part of the file: no weights"],
            ),
        ],
        ids=["failed", "no memory at all", "not loaded"],
    )
    def test_a_failing_model_leaves_the_words(
        self, tmp_path: Path, failures: dict[str, Exception], notes: list[str]
    ) -> None:
        result = Graph(tmp_path, emotion=self.TWO, **failures).analyze()
        assert [part["text"] for part in result["segments"]] == ["Hello", "there."]
        assert [note for note in result["metadata"]["notes"] if "emotion" in note] == notes
        assert "emotion_model_version" not in result["metadata"]

    def test_a_lost_replica_is_not_skipped(self, tmp_path: Path) -> None:
        with pytest.raises(ReplicaLost):  # a job tries again
            Graph(tmp_path, emotion=self.TWO, gpu=ReplicaLost("lost", 5.0)).analyze()

    @pytest.mark.parametrize(
        ("emotion", "states", "request_", "notes"),
        [
            (TWO, {}, {"emotion_detection": False}, []),
            ((), {}, {}, ["emotion recognition was skipped: no model for it is configured"]),
            (
                TWO[:1],
                {},
                {"enable_gpu": False},
                ["emotion recognition was skipped: enable_gpu is false, and it runs on GPUs only"],
            ),
            (
                TWO,
                {"gpu": "UNHEALTHY", "cpu": "DEPLOY_FAILED"},
                {},
                ["emotion recognition was skipped: its deployment is not healthy"],
            ),
        ],
        ids=["not wanted", "not configured", "GPU only", "not healthy"],
    )
    def test_it_is_skipped(
        self,
        tmp_path: Path,
        emotion: Sequence[tuple[str, bool]],
        states: dict[str, str],
        request_: dict[str, bool],
        notes: list[str],
    ) -> None:
        graph = Graph(tmp_path, emotion=emotion, states=states)
        metadata = graph.analyze(upload(**request_))["metadata"]
        assert [note for note in metadata["notes"] if "emotion" in note] == notes
        assert "emotion_model_version" not in metadata
        assert {"gpu", "cpu"}.isdisjoint(graph.calls.names)

    def test_an_unhealthy_one_is_passed_over(self, tmp_path: Path) -> None:
        graph = Graph(tmp_path, emotion=self.TWO, states={"gpu": "UNHEALTHY"})
        assert graph.analyze()["metadata"]["emotion_model_version"] == "moods by cpu"

    def test_many_segments_take_several_calls(self, tmp_path: Path) -> None:
        # apart by more than the pause that ends a piece, so that each region becomes two segments of its own
        regions = [SpeechRegion(40.0 * number, 40.0 * number + 2.0) for number in range(70)]
        graph = Graph(tmp_path, regions=regions, emotion=[("mood", False)])
        steps = PlainSteps()
        result = graph.analyze(upload(max_workers=3), steps)
        assert sorted(graph.emotion[0].regions, reverse=True)[0] == 64
        assert sum(graph.emotion[0].regions) == len(result["segments"])
        assert len(graph.emotion[0].regions) == -(-len(result["segments"]) // 64) >= 2
        assert not any("/" in name for name in steps.seconds)  # the sum stands for its parts


class Store:
    """Keeps steps as the job store does: as JSON."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}
        self.announced: list[Stage] = []
        self.shown: list[int] = []  # what is stored apart from steps
        self.sound: list[tuple[int, float, float | None]] = []  # after so many stages: its length, and the speech

    def commit_step(
        self, claim: Any, name: str, result: object, *, seconds: float, announce: Sequence[Stage] = ()
    ) -> None:
        self.kept[name] = json.loads(json.dumps(result))
        self.announced += announce

    def announce(self, claim: Any, *stages: Stage) -> None:
        self.announced += stages
        self.shown += stages

    def advance(self, claim: Any, progress: int) -> None:
        self.shown.append(progress)

    def note_sound(self, claim: Any, length_s: float, speech_s: float | None = None) -> None:
        self.sound.append((len(self.announced), length_s, speech_s))


def durable(store: Store, done: Mapping[str, object]) -> DurableSteps:
    claim = SimpleNamespace(job=SimpleNamespace(number=1, progress=0), fence=1)
    return DurableSteps(store, claim, dict(done), dict.fromkeys(done, 7.0))  # type: ignore[arg-type]


def cut_off_wav(seconds: float, declared_s: float) -> bytes:
    """Return a WAV at 16 kHz whose header declares more than there is."""
    num_bytes, declared = (round(each * 16_000) * 2 for each in (seconds, declared_s))
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", declared + 36, b"WAVEfmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    sound = (8000 * np.sin(np.arange(num_bytes // 2) / 5)).astype("<i2").tobytes()
    return head + struct.pack("<4sI", b"data", declared) + sound


class Decoding(Analyzer):
    """Decodes, and passes on what decoding noted."""

    async def decode(self, media: bytes | str) -> Any:
        return decode_audio(io.BytesIO(media) if isinstance(media, bytes) else media)

    async def detect_speech(self, audio: Any) -> SpeechActivity:
        return SpeechActivity(audio.duration_s, self.regions, audio.notes)

    async def measure(self, audio: Any) -> Any:
        return measure_frames(audio.samples)


CUT_OFF = {
    Locale.EN: "The file is cut off or damaged after 2.0 s",
    Locale.KO: "2.0초 뒤에서 파일이 끊겼거나 손상되었습니다",
}


class TestLanguage:
    """Notes of a file that is cut off, decoded really."""

    def graph(self, folder: Path) -> Graph:
        graph = Graph(folder)
        (folder / "media" / "a.wav").write_bytes(cut_off_wav(2.0, 5.0))
        graph.models = replace(graph.models, analyzer=placed("D", Decoding(graph.calls, graph.analyzer.regions)))
        graph.pipeline = VideoPipeline(graph.models, graph.media, 0.0, graph.pipeline._health)
        return graph

    @pytest.mark.parametrize("locale", list(Locale))
    def test_notes_of_a_job_are_in_its_language_also_after_a_takeover(self, tmp_path: Path, locale: Locale) -> None:
        request = VideoRequest(job_id="a", video_url="a.wav", locale=locale)
        store = Store()
        graph = self.graph(tmp_path)
        with_steps = [asyncio.run(graph.pipeline.run_job(request, durable(store, done))) for done in ({}, store.kept)]
        for result in with_steps:
            [note, *_] = result["metadata"]["notes"]
            assert CUT_OFF[locale] in note
            assert type(note) is str

    def test_steps_of_an_earlier_version_have_plain_notes(self, tmp_path: Path) -> None:
        store = Store()
        request = VideoRequest(job_id="a", video_url="a.wav", locale=Locale.KO)
        asyncio.run(self.graph(tmp_path).pipeline.run_job(request, durable(store, {})))
        store.kept["detect_speech"]["notes"] = ["a noisy file"]  # type: ignore[index]
        again = asyncio.run(self.graph(tmp_path).pipeline.run_job(request, durable(store, store.kept)))
        assert again["metadata"]["notes"][0] == "a noisy file"

    @pytest.mark.parametrize("locale", list(Locale))
    def test_notes_of_a_synchronous_analysis_can_still_be_translated(self, tmp_path: Path, locale: Locale) -> None:
        result = self.graph(tmp_path).analyze(AnalysisRequest("a.wav"))
        assert CUT_OFF[locale] in translated(result["metadata"]["notes"][0], locale)


class TestJob:
    """A job by address, its steps kept; a second runner goes on from any of them."""

    STEPS = (
        "choose_backend",
        "fetch",
        "detect_speech",
        "diarize",
        "transcribe/000000000-000002000",
        "recognize_emotion/00000",
    )
    # what a step's result makes superfluous
    CALLS = ("prepare", "length_s", "detect_speech", "diarize", "transcribe", "mood")

    @pytest.fixture
    def request_(self, tmp_path: Path) -> AnalysisRequest:
        (tmp_path / "media").mkdir()
        (tmp_path / "media" / "a.wav").write_bytes(b"RIFF by address")
        return AnalysisRequest("a.wav")

    def graph(self, folder: Path, **failures: Exception) -> Graph:
        return Graph(folder, emotion=[("mood", False)], **failures)

    def test_its_length_is_known_before_the_download_is_told_and_its_speech_before_the_long_stages(
        self, tmp_path: Path, request_: AnalysisRequest
    ) -> None:
        store = Store()
        self.graph(tmp_path).analyze(request_, durable(store, {}))
        assert store.sound == [(0, 2.5, None), (2, 2.0, 2.0)]

    @pytest.mark.parametrize("failure", [AudioExtractionError("not media"), ReplicaLost("away"), None])
    def test_a_length_that_is_not_known_costs_nothing(
        self, tmp_path: Path, request_: AnalysisRequest, failure: Exception | None
    ) -> None:
        store = Store()
        graph = self.graph(tmp_path) if failure is None else self.graph(tmp_path, length_s=failure)
        graph.analyzer.declared_s = None
        assert graph.analyze(request_, durable(store, {}))["segments"]
        assert store.sound == [(2, 2.0, 2.0)]

    def test_progress_moves_within_the_long_stages_with_the_slower_branch(
        self, tmp_path: Path, request_: AnalysisRequest
    ) -> None:
        store = Store()
        regions = [SpeechRegion(40.0 * n, 40.0 * n + 20.0) for n in range(10)]
        Graph(tmp_path, regions=regions, emotion=[("mood", False)]).analyze(request_, durable(store, {}))
        moves = [each for each in store.shown if Stage.TRANSCRIBING <= each <= Stage.RECOGNIZING_EMOTION]
        assert moves == sorted(set(moves))
        assert len(moves) > 4
        assert set(store.shown) >= {Stage.TRANSCRIBING, Stage.RECOGNIZING_EMOTION}
        assert not set(moves[1:-1]) & {*store.announced}  # no callback tells them

    def test_its_steps_and_stages(self, tmp_path: Path, request_: AnalysisRequest) -> None:
        store = Store()
        result = self.graph(tmp_path).analyze(request_, durable(store, {}))
        assert set(store.kept) == set(self.STEPS)
        calm = {"label": "calm", "scores": {"calm": 1.0}}
        assert store.kept["recognize_emotion/00000"] == {
            "scores": [calm, calm],
            "model_version": "moods by mood",
            "notes": [],
        }
        assert store.announced == [
            Stage.DOWNLOADED,
            Stage.DETECTING_SPEECH,
            Stage.DIARIZING,
            Stage.TRANSCRIBING,
            Stage.RECOGNIZING_EMOTION,
            Stage.MERGING,
        ]
        assert set(result["metadata"]["stage_seconds"]) == {
            "choose_backend",
            "fetch",
            "decode",
            "detect_speech",
            "measure",
            "diarize",
            "transcribe",
            "recognize_emotion",
            "merge",
        }
        assert [path.name for path in files_in(tmp_path / "artifacts")] == ["media"]  # until the runner discards it

    @pytest.mark.parametrize("num_done", range(len(STEPS) + 1))
    def test_it_goes_on_from_each_step(self, tmp_path: Path, request_: AnalysisRequest, num_done: int) -> None:
        store = Store()
        first = self.graph(tmp_path).analyze(request_, durable(store, {}))
        (tmp_path / "media" / "a.wav").unlink()
        done = {name: store.kept[name] for name in self.STEPS[:num_done]}
        if num_done < 2:  # the file is not fetched yet
            (tmp_path / "media" / "a.wav").write_bytes(b"RIFF by address")
        graph = self.graph(tmp_path)
        again = graph.analyze(request_, durable(store, done))
        for result in (first, again):
            for volatile in ("processing_time", "stage_seconds"):
                result["metadata"].pop(volatile)
            result.pop("processing_time", None)
        assert again == first
        left = {name for name in self.CALLS[num_done:] if name}
        assert set(graph.calls.names) == {"decode", "measure", *left}
        assert graph.analyzer.contents == [b"RIFF by address"]

    def test_a_file_that_is_gone_is_fetched_again(self, tmp_path: Path, request_: AnalysisRequest) -> None:
        store = Store()
        graph = self.graph(tmp_path)
        graph.analyze(request_, durable(store, {}))
        graph.media.discard(FOLDER)
        graph.analyze(request_, durable(store, store.kept))
        assert graph.analyzer.contents == [b"RIFF by address"] * 2
        assert graph.calls.names.count("transcribe") == 1

    @pytest.mark.parametrize("failing", ["diarize", "transcribe", "measure"])
    def test_a_failing_branch_ends_the_others(self, tmp_path: Path, request_: AnalysisRequest, failing: str) -> None:
        graph = self.graph(tmp_path, **{failing: ProcessingError(f"{failing} failed")})
        others = {"diarize", "transcribe", "measure"} - {failing}
        graph.calls.blocked = others
        of = graph.calls.of

        async def fail_last(name: str) -> None:
            async with asyncio.timeout(10):
                while name == failing and not others <= set(graph.calls.names):
                    await asyncio.sleep(0)
            await of(name)

        graph.calls.of = fail_last  # type: ignore[method-assign]
        with pytest.raises(ProcessingError, match=f"{failing} failed") as raised:
            graph.analyze(request_, durable(Store(), {}))
        assert not isinstance(raised.value, BaseExceptionGroup)
        assert set(graph.calls.ended) == others

    def test_of_two_failures_the_domains_own_is_raised(self, tmp_path: Path) -> None:
        async def fail(error: Exception) -> None:
            raise error

        async def run(*errors: Exception) -> None:
            async with _task_group() as group:
                for error in errors:
                    group.create_task(fail(error))

        with pytest.raises(ProcessingError, match="ours"):
            asyncio.run(run(KeyError("a bug"), ProcessingError("ours")))
        with pytest.raises(KeyError, match="a bug"):
            asyncio.run(run(KeyError("a bug")))

    @pytest.mark.parametrize(
        ("failures", "error"),
        [
            ({"prepare": LanguageUnsupported("not ja")}, LanguageUnsupported),
            ({"decode": AudioExtractionError("no audio")}, AudioExtractionError),
            ({"detect_speech": KeyError("a bug of the deployment")}, ProcessingError),
        ],
    )
    def test_an_early_failure(
        self,
        tmp_path: Path,
        request_: AnalysisRequest,
        failures: dict[str, Exception],
        error: type[ServeAppError],
    ) -> None:
        graph = self.graph(tmp_path, **failures)
        with pytest.raises(error):
            graph.analyze(request_, durable(Store(), {}))
        assert {"diarize", "transcribe", "mood"}.isdisjoint(graph.calls.names)
        if "prepare" in failures:
            assert files_in(tmp_path / "artifacts") == []  # a language that nobody serves is fetched by nobody


def test_a_backend_that_was_started_for_the_file_shows_in_the_timing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.flows.speech_to_text._NOTABLE_START_S", -1.0)
    graph = Graph(tmp_path)
    graph.recognizer.uptime_s = 0.0
    steps = PlainSteps()
    graph.analyze(steps=steps)
    assert steps.seconds["backend_start"] > 0


@pytest.mark.parametrize("content", [b"RIFF", b"RIFF" + bytes(3 << 20)], ids=["small", "large"])
def test_an_upload_is_analysed_in_full_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    graph = Graph(tmp_path)
    request = AnalysisRequest(io.BytesIO(content), num_speakers=2, min_speakers=1, max_speakers=3)
    result = as_dict(asyncio.run(graph.flow().analyze(request)))
    assert graph.analyzer.contents == [content]
    # a small one travels with the call
    assert isinstance(graph.analyzer.decoded[0], bytes) == (len(content) < 100)
    assert graph.diarizers[0].counts == [(2, 1, 3)]
    assert [(part["text"], part["speaker"]["speaker_id"]) for part in result["segments"]] == [
        ("Hello", "SPEAKER_00"),
        ("there.", "SPEAKER_01"),
    ]
    assert result["segments"][0]["words"][0]["acoustic_features"]["volume_db"] == pytest.approx(-20.0, abs=0.1)
    assert len(result["speaker_turns"]) == 2
    assert "fetch" not in result["metadata"]["stage_seconds"]
    assert files_in(tmp_path) == []


def test_an_address_is_fetched_into_the_store_and_leaves_nothing(tmp_path: Path) -> None:
    graph = Graph(tmp_path)
    (tmp_path / "media" / "a.wav").write_bytes(b"RIFF by address")
    result = as_dict(asyncio.run(graph.flow().analyze(AnalysisRequest(str(tmp_path / "media" / "a.wav")))))
    assert graph.analyzer.contents == [b"RIFF by address"]
    assert isinstance(graph.analyzer.decoded[0], str)
    assert "fetch" in result["metadata"]["stage_seconds"]
    assert files_in(tmp_path) == [tmp_path / "media" / "a.wav"]


def test_backend_and_prompt_reach_the_recogniser(tmp_path: Path) -> None:
    async def run() -> None:
        graph = Graph(tmp_path)
        flow = graph.flow()
        await flow.analyze(upload(language="ko", backend="faster-whisper", prompt="Daniel"))
        assert graph.recognizer.asked == [("ko", "Daniel", SpeechTask.TRANSCRIBE)]
        with pytest.raises(InvalidRequest, match="'transformers' is not deployed"):
            await flow.analyze(upload(backend="transformers"))
        assert len(graph.analyzer.decoded) == 1  # refused before anything is read

    asyncio.run(run())


def test_a_failure_leaves_nothing_and_its_place_is_free_again(tmp_path: Path) -> None:
    async def run() -> None:
        flow = Graph(tmp_path, decode=AudioExtractionError("no audio")).flow(max_at_once=1)
        for _ in range(2):
            with pytest.raises(AudioExtractionError):
                await flow.analyze(AnalysisRequest(io.BytesIO(bytes(3 << 20))))
        assert files_in(tmp_path) == []

    asyncio.run(run())


def test_a_caller_too_many_is_refused_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    async def run() -> None:
        graph = Graph(tmp_path)
        graph.calls.blocked = {"decode"}
        flow = graph.flow(max_at_once=1)
        waiting = asyncio.create_task(flow.analyze(AnalysisRequest(io.BytesIO(bytes(3 << 20)))))
        async with asyncio.timeout(30):
            while not graph.analyzer.decoded:
                await asyncio.sleep(0.001)
        with pytest.raises(
            Unavailable, match="Too many analyses at once; submit a job instead, or try again in 10 s"
        ) as refused:
            await flow.analyze(upload())
        assert refused.value.retry_after_s == 10.0
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert files_in(tmp_path) == []
        graph.calls.go.set()
        assert as_dict(await flow.analyze(upload()))["segments"]

    asyncio.run(run())
