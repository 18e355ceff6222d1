"""Services of `serve_app.services` for tests: jobs over a real job table, the others as a test configures them."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from serve_app.analysis.result import AnalysisResult
from serve_app.errors import CallbackRefused, InvalidRequest, JobNotFound, TaskUnsupported, Unavailable
from serve_app.flows.jobs import StoredJobs
from serve_app.flows.keys import StoredKeys
from serve_app.flows.music_jobs import MusicFlow
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import ApiKey, Job, JobEvent, JobRequest, JobResult, JobStatus, Scope
from serve_app.jobs.store import Quota
from serve_app.media.artifacts import ArtifactStore, StoredArtifact, job_key, published_key
from serve_app.results import (
    Drum,
    DrumHit,
    DrumTranscript,
    LabelScores,
    Segment,
    SpeechTask,
    TempoChange,
    Transcript,
    Word,
)
from serve_app.services import (
    AnalysisRequest,
    DeployedModel,
    DrumOptions,
    DrumRecording,
    DrumTranscription,
    EngineSpeed,
    ImageClassification,
    ImageEmbedding,
    MusicFile,
    ReplicaModel,
    Services,
    SpeechBackend,
    SubmittedJob,
    Transcription,
    TranscriptionRequest,
)
from tests.job_tables import make_job_table

CREATED_AT = 1705314600.0  # 2024-01-15T10:30:00Z

RESULT: AnalysisResult = {
    "segments": [
        {
            "start_time": 1.5,
            "end_time": 3.2,
            "text": "안녕하세요",
            "speaker": {"speaker_id": "SPEAKER_00"},
            "words": [
                {
                    "word": "안녕하세요",
                    "start": 1.5,
                    "end": 1.8,
                    "acoustic_features": {"volume_db": -20.0, "pitch_hz": None, "spectral_centroid": 1500.0},
                }
            ],
        }
    ],
    "word_segments": [
        {"word": "안녕하세요", "start_time": 1.5, "end_time": 1.8, "speaker_id": "SPEAKER_00", "confidence": 0.95}
    ],
    "speakers": {"SPEAKER_00": {"total_duration": 1.7, "segment_count": 1}},
    "text": "안녕하세요",
    "language": "ko",
    "duration": 120.5,
    "speaker_turns": [{"start_time": 1.4, "end_time": 3.3, "speaker_id": "SPEAKER_00"}],
    "metadata": {
        "model_version": "whisperx-base",
        "processing_time": 45.2,
        "unique_speakers": 1,
        "total_segments": 1,
        "language_requested": "ko",
        "language_detected": "ko",
        "processing_mode": "targeted",
        "notes": ["emotion recognition: no model is configured"],
    },
}

TRANSCRIPT = Transcript(
    segments=(
        Segment(
            0.52,
            1.9,
            "Good morning, Daniel.",
            (Word("Good", 0.52, 0.8, 0.98), Word("morning,", 0.8, 1.3, 0.91), Word("Daniel.", 1.42, 1.9, 0.875)),
            avg_logprob=-0.25,
            no_speech_prob=0.01,
        ),
        Segment(2.5, 3.25, "How are you?", (Word("How", 2.5, 2.7), Word("are", 2.7, 2.9), Word("you?", 2.9, 3.25))),
    ),
    language="en",
    model_version="faster-whisper:whisper-micro:float32",
    notes=("openai/whisper-small could not be loaded, whisper-micro speaks instead",),
)

DRUM_TRANSCRIPT = DrumTranscript(
    hits=(
        DrumHit(0.5012, 0.5, Drum.KICK, 110, 0.9876),
        DrumHit(0.5031, 0.5, Drum.HIHAT, 64, 0.42),
        DrumHit(0.9987, 1.0, Drum.SNARE, 101, 0.8),
    ),
    bpm=120.0,
    tempo_map=(TempoChange(0.5, 120.0),),
    duration_s=1.75,
    model_version="drum-net:0123abcd",
    notes=("3 samples that are not numbers count as silence",),
)
VERSION = "reusable_classifier.pth (0123abcd)"
REPLICA_MODEL = ReplicaModel(
    replica="abc123",
    node="gpu-box",
    pid=4711,
    spec="/srv/models/reusable_classifier.pth",
    model_version=VERSION,
    sha256="0123abcd" * 8,
    architecture="resnet50",
    engine="openvino bf16",
    device="cpu",
    warm=True,
    loaded_at=CREATED_AT,
    max_difference=0.004,
    notes=("resnet50 backbone under its own names",),
    failure=None,
    cores="2 threads for one picture, 2 × 1 thread for several",
    speeds=(
        EngineSpeed("openvino bf16", "2 threads for one picture, 1 × 2 threads for several", 26.5, 26.1, 0.004, ""),
        EngineSpeed("onnxruntime fp32", "1 thread for one picture, 2 × 1 thread for several", 76.0, 44.6, 1e-6, ""),
        EngineSpeed("pytorch fp32", "2 threads for one picture, 1 × 2 threads for several", None, None, None, "[no]"),
    ),
)
FILES = {
    MusicFile.PICTURE: b"\xff\xd8picture\xff\xd9",
    MusicFile.CAPTION: b'{"caption_en": "A calm sea"}',
    MusicFile.PLAN: b'{"key": "D"}',
    MusicFile.MP3: bytes(range(256)) * 5000,
    MusicFile.FLAC: b"fLaC" + bytes(100),
    MusicFile.MIDI: b"MThd" + bytes(50),
}
PIECE: dict[str, Any] = {
    "caption": {
        "caption_ko": "파란 빛이 도는 잔잔한 바다",
        "caption_en": "A calm sea in blue light",
        "mood_words": ["calm"],
        "valence": 0.25,
        "arousal": -0.5,
        "instruments": ["piano"],
        "captioner": "features",
        "model_version": "features:1",
        "fallback_reason": None,
        "notes": [],
    },
    "plan": {
        "version": 1,
        "seed": 7,
        "picture_sha256": "ab" * 32,
        "valence": 0.25,
        "arousal": -0.5,
        "key": "D",
        "mode": "dorian",
        "tempo_bpm": 84,
        "metre": "4/4",
        "duration_s": 30.0,
        "form": [{"name": "intro", "bars": 2}, {"name": "A", "bars": 8}, {"name": "A'", "bars": 8}],
        "instruments": ["piano", "strings", "double bass"],
        "density": 0.4,
        "contour": [0.5] * 16,
        "prompt_en": "ambient with piano and strings",
    },
    "engine_used": "composer",
    "engine_version": "composer:1",
    "license": "Composed by rules; use it as you like.",
    "fallback_reason": None,
    "duration": 30.02,
    "measurements": {"loudness_lufs": -14.03, "peak_dbfs": -1.2},
    "page_url": "/music/stale/page",
    "audio_url": "/music/stale/audio",
    "download_url": "/music/stale/download",
    "stage_seconds": {"music": 1.5},
    "notes": ["only the first frame was taken"],
}
DRUM_MIDI = b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0"


class _Callbacks:
    """Refuses callback bases with "private" in them."""

    async def check_callback_base(self, url: str) -> None:
        if "private" in url:
            raise CallbackRefused(f"{url} resolves to a private address")

    def discard_job(self, job_id: str) -> None:
        """Keep no files: these jobs have none."""


class _Files(_Callbacks):
    """`MediaSource`'s methods for pieces, over a store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def put(self, key: str, content: bytes, content_type: str = "application/octet-stream") -> None:
        await asyncio.to_thread(self._store.put_bytes, key, content, content_type)

    def stat(self, key: str) -> StoredArtifact:
        return self._store.stat(key)

    def remove(self, key: str) -> None:
        self._store.delete(key)

    def discard_job(self, job: Job) -> None:
        self._store.delete_prefix(job_key(job.job_id))
        self._store.delete_prefix(published_key(job.job_id))


class MusicOnTable(MusicFlow):
    """The real music service over the job table and a store of its own; `JobsOnTable.run_*` runs its jobs."""

    def __init__(self, jobs: JobsOnTable, store: ArtifactStore | None = None, quota: Quota | None = None) -> None:
        self.artifacts = store or ArtifactStore(f"memory://{uuid.uuid4().hex}")
        self.jobs = jobs
        files: Any = _Files(self.artifacts)
        quota = quota or Quota(active=30, per_hour=100)
        super().__init__(StoredJobs(jobs.store, files, 100), files, quota=quota, max_pixels=10_000_000)

    def run(self, job_id: str, files: Mapping[MusicFile, bytes] = FILES, **changes: Any) -> dict[str, Any]:
        """Do what a runner does: publish the files and complete the job; return its result."""
        for file, content in files.items():
            self.artifacts.put_bytes(published_key(job_id, file), content, "application/octet-stream")
        piece = PIECE | {"files": {str(file): len(content) for file, content in files.items()}} | changes
        self.jobs.run_complete(job_id, piece)
        return piece


class JobsOnTable(StoredJobs):
    """The real job service over a job table of its own.

    The `run_*` methods do what a runner does; they may be called from any thread. Time passes only by them and by
    submitting: the first job is submitted at CREATED_AT, begins 10 s later and takes 45.2 s.
    """

    def __init__(self, max_queued: int = 100) -> None:
        self.now_s = CREATED_AT
        self.estimated_s: float | None = None
        self.fail_with: Exception | None = None
        self.open_streams = 0
        self._claims: dict[str, Claim] = {}
        self.store, _ = make_job_table(lease_s=1e9, clock=lambda: self.now_s)
        super().__init__(self.store, _Callbacks(), max_queued, tick_s=0.005)  # type: ignore[arg-type]

    @property
    def jobs(self) -> dict[str, Job]:
        """All jobs, the oldest first, without their results."""
        found = {}
        for job_id in [job.job_id for job in self.store.known()]:
            with suppress(JobNotFound):  # removed meanwhile
                found[job_id] = dataclasses.replace(self.store.get(job_id), result_text=None)
        return found

    async def submit(self, request: JobRequest, *, key: ApiKey | None = None) -> SubmittedJob:  # type: ignore[override]
        if self.fail_with:
            raise self.fail_with
        submitted = await super().submit(request, key=key)
        self.now_s += 1.0
        return submitted if self.estimated_s is None else dataclasses.replace(submitted, estimated_s=self.estimated_s)

    async def get(self, job_id: str) -> Job:
        if self.fail_with:
            raise self.fail_with
        return await super().get(job_id)

    async def require_visible(
        self, job_id: str, visitor: str | None, key: ApiKey | None = None, scope: Scope = Scope.READ
    ) -> None:
        if self.fail_with:
            raise self.fail_with
        await super().require_visible(job_id, visitor, key, scope)

    async def events(self, job_id: str, after_seq: int) -> AsyncIterator[JobEvent]:
        self.open_streams += 1
        try:
            async for event in super().events(job_id, after_seq):
                yield event
        finally:
            self.open_streams -= 1

    def run_start(self, job_id: str) -> Claim:
        """Take a job, whatever its place in the queue."""
        self.now_s += 9.0
        passed = []
        while (claim := self.store.claim("runner")) is not None and claim.job.job_id != job_id:
            passed.append(claim)
        for other in passed:
            self.store.release(other)
        assert claim is not None, f"job {job_id} does not wait"
        self._claims[job_id] = claim
        return claim

    def run_stage(self, job_id: str, stage: int) -> None:
        """Report a stage."""
        self.store.announce(self._claim(job_id), stage)

    def run_complete(self, job_id: str, result: JobResult) -> None:
        """End a job with its result."""
        claim = self._claim(job_id)
        self.now_s += 45.2
        self.store.complete(claim, result)

    def run_fail(self, job_id: str, code: str, message: str) -> None:
        """End a job without one."""
        claim = self._claim(job_id)
        self.now_s += 45.2
        self.store.fail(claim, code, message, retry_after_s=None)

    def _claim(self, job_id: str) -> Claim:
        held = self._claims.get(job_id)
        is_active = self.store.get(job_id).status is JobStatus.PROCESSING
        return held if held is not None and is_active else self.run_start(job_id)


class MemoryAnalysis:
    """Answers every analysis with one result, or one error; keeps the requests and the contents of uploads."""

    def __init__(self) -> None:
        self.asked: list[AnalysisRequest] = []
        self.contents: list[bytes] = []
        self.result: AnalysisResult = RESULT
        self.fail_with: Exception | None = None
        self.hangs = False
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def analyze(self, request: AnalysisRequest) -> AnalysisResult:
        self.asked.append(request)
        if not isinstance(request.source, str):
            self.contents.append(await asyncio.to_thread(request.source.read))
        if self.fail_with:
            raise self.fail_with
        self.started.set()
        if self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return self.result


class MemorySpeech:
    """Returns the same transcript for every recording; keeps the requests and the contents of the files."""

    def __init__(self) -> None:
        self.asked: list[TranscriptionRequest] = []
        self.contents: list[bytes] = []
        self.transcript = TRANSCRIPT
        self.duration_s = 4.0
        self.failures: list[Exception] = []
        self.healthy = {"faster-whisper": True, "transformers": True, "openai-whisper": False}
        self.translating = {"transformers", "openai-whisper"}
        self.hangs = False
        self.fails_after_first_segment: Exception | None = None
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def transcribe(self, request: TranscriptionRequest) -> Transcription:
        async for item in self.stream(request):
            if isinstance(item, Transcription):
                return item
        raise AssertionError("the stream ended without the whole")

    async def stream(self, request: TranscriptionRequest) -> AsyncIterator[Segment | Transcription]:
        self.asked.append(request)
        self.contents.append(await asyncio.to_thread(request.file.read))
        if self.failures:
            raise self.failures.pop(0)
        backend = self._choose(request.backend, request.task)
        try:
            for segment in self.transcript.segments:
                yield segment
                if self.fails_after_first_segment:
                    raise self.fails_after_first_segment
                self.started.set()
                if self.hangs:
                    await asyncio.Event().wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise
        yield Transcription(self.transcript, self.duration_s, backend, {"decode": 0.01, "transcribe": 0.5})

    async def backends(self) -> Sequence[SpeechBackend]:
        return [
            SpeechBackend(name, "embedded:whisper-micro", healthy, CREATED_AT) for name, healthy in self.healthy.items()
        ]

    def _choose(self, wanted: str | None, task: SpeechTask) -> str:
        up = [name for name, healthy in self.healthy.items() if healthy]
        if task is SpeechTask.TRANSLATE:
            able = [name for name in up if name in self.translating and wanted in (None, name)]
            if not able:
                raise TaskUnsupported(f"{wanted or up[0]} can't translate: name whisper-base")
            return able[0]
        if wanted is not None and wanted not in self.healthy:
            raise InvalidRequest(f"No backend {wanted} is deployed; deployed: {', '.join(self.healthy)}")
        if wanted not in (None, *up) or not up:
            raise Unavailable(f"{wanted or 'Every backend'} is not healthy; healthy: {', '.join(up) or 'none'}", 2.0)
        return wanted or up[0]


class MemoryDrums:
    """Returns the same drums for every recording but those that a test lets fail; keeps the requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], DrumOptions]] = []
        self.files: list[BinaryIO] = []
        self.contents: list[bytes] = []
        self.transcript = DRUM_TRANSCRIPT
        self.picture: bytes | None = None
        self.failures: dict[str, Exception] = {}
        self.busy: Exception | None = None
        self.hangs = False
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def transcribe(
        self, recordings: Sequence[DrumRecording], options: DrumOptions
    ) -> Sequence[DrumTranscription | Exception]:
        if self.busy:
            raise self.busy
        self.asked.append(([recording.filename for recording in recordings], options))
        self.files += [recording.file for recording in recordings]
        self.contents += [await asyncio.to_thread(recording.file.read) for recording in recordings]
        self.started.set()
        if self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        transcription = DrumTranscription(
            self.transcript,
            DRUM_MIDI,
            "0.501 kick",
            self.picture if options.with_picture else None,
            0.25,
        )
        return [self.failures.get(recording.filename, transcription) for recording in recordings]


class MemoryImages:
    """Returns the same class for every picture but those that a test lets fail; keeps the requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[bytes | str]]] = []
        self.files: list[BinaryIO] = []
        self.found = {
            "container": ImageClassification(LabelScores("reusable", {"disposable": 0.08, "reusable": 0.92}), VERSION),
            "beverage": ImageClassification(
                LabelScores("with_beverage", {"empty": 0.05, "with_beverage": 0.88, "unclear": 0.07}), VERSION
            ),
        }
        self.failures: dict[bytes | str, Exception] = {}
        self.busy: Exception | None = None
        self.hangs = False
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def embed(self, model: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageEmbedding | Exception]:
        answers = await self.classify(model, images)
        return [each if isinstance(each, Exception) else ImageEmbedding((0.6, -0.8), VERSION) for each in answers]

    async def classify(self, task: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageClassification | Exception]:
        if self.busy:
            raise self.busy
        self.files += [image for image in images if not isinstance(image, str)]
        seen = [image if isinstance(image, str) else image.read() for image in images]
        self.asked.append((task, seen))
        self.started.set()
        if self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return [self.failures.get(image, self.found[task]) for image in seen]


class MemoryModels:
    """Models that a test describes; reloading one takes the next of `after_reload`, if there is any."""

    def __init__(self) -> None:
        self.deployed = {
            "container": DeployedModel("container", "ContainerClassifier", "HEALTHY", (REPLICA_MODEL,)),
            "beverage": DeployedModel("beverage", "BeverageDetector", "HEALTHY", ()),
        }
        self.after_reload: list[DeployedModel] = []
        self.reloaded: list[str] = []

    def names(self) -> Sequence[str]:
        return list(dict.fromkeys(model.name for model in self.deployed.values() if model.reloads))

    async def models(self) -> Sequence[DeployedModel]:
        return list(self.deployed.values())

    async def reload(self, name: str) -> Sequence[DeployedModel]:
        self.reloaded.append(name)
        if self.after_reload:
            self.deployed[name] = self.after_reload.pop(0)
        return [self.deployed[name]]


class MemoryHealth:
    """States that a test sets."""

    def __init__(self) -> None:
        self.states = {"JobRunner": "HEALTHY", "SpeechRecognizer": "HEALTHY", "Diarizer": "HEALTHY"}
        self.hangs = False
        self.faults: dict[str, str] = {}

    async def storage_faults(self) -> Mapping[str, str]:
        return self.faults

    async def deployments(self) -> Mapping[str, str]:
        if self.hangs:
            await asyncio.Event().wait()
        return self.states


def memory_services(max_queued: int = 100) -> Services:
    """Return fresh services."""
    jobs = JobsOnTable(max_queued)
    return Services(
        jobs,
        MusicOnTable(jobs),
        MemoryAnalysis(),
        MemorySpeech(),
        MemoryDrums(),
        MemoryImages(),
        MemoryModels(),
        MemoryHealth(),
        StoredKeys(jobs.store),
    )
