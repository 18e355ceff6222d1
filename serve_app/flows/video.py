"""The video DAG, written once: JobRunner runs it with durable steps, the ingress's synchronous route with plain ones.

fetch ─ decode ─ detect speech ─┬─ diarize ───────────────┬─ recognize emotion ─ merge
                                ├─ transcribe, by pieces ─┤
                                └─ measure acoustics ─────┘
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from ray.serve.handle import DeploymentHandle

from serve_app.analysis.assembly import RunFacts, assemble
from serve_app.analysis.attribution import attribute
from serve_app.errors import GpuMemoryError, ModelError, ProcessingError, ServeAppError, Unavailable
from serve_app.flows.calls import Calls, SharedResult
from serve_app.flows.health import USABLE
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import (
    ChosenBackend,
    Health,
    Hearing,
    PlacedDeployment,
    SpeechModels,
    SpeechToText,
)
from serve_app.flows.steps import PlainSteps, Steps
from serve_app.media.acoustics import FrameFeatures, features_of
from serve_app.media.artifacts import job_key
from serve_app.messages import Stage
from serve_app.models.speech.joining import join_transcripts
from serve_app.models.speech.whisper.backend import BackendName
from serve_app.results import (
    AudioSource,
    Diarization,
    LabelScores,
    Segment,
    SpeechActivity,
    SpeechRegion,
    Transcript,
)
from serve_app.services import AnalysisRequest

T = TypeVar("T")

_RETRY_AFTER_S = 10.0
_EMOTION_BATCH = 64  # segments in one call: a step that is worth keeping, and an answer within seconds


@dataclass(frozen=True, slots=True)
class VideoModels:
    """The deployments that the DAG is made of; `graph.build` binds them, Serve makes handles of them.

    Attributes:
        speech: the speech backends.
        speech_order: backends that a job uses, the first that is healthy and hears its language.
        diarizers: in order of preference; a later one takes over when GPU memory ran out.
        emotion: recogniser of emotion in order of preference; empty where no model for it is configured.
    """

    analyzer: DeploymentHandle
    speech: SpeechModels
    speech_order: tuple[BackendName, ...]
    diarizers: Sequence[PlacedDeployment]
    emotion: Sequence[PlacedDeployment] = ()

    def placed(self) -> list[PlacedDeployment]:
        """Return all deployments but the analyzer."""
        speech = (placed for backend in self.speech.backends.values() for placed in backend)
        aligner = (self.speech.aligner,) if self.speech.aligner else ()
        return [*speech, *aligner, *self.diarizers, *self.emotion]


class VideoPipeline:
    """Analyzes one file after another.

    Args:
        models: the deployments.
        media: where files come from and are kept meanwhile.
        patience_s: how long to wait for a full queue or a lost replica before giving up.
        health: every deployment's state by name.
    """

    def __init__(self, models: VideoModels, media: MediaSource, patience_s: float, health: Health) -> None:
        self._models = models
        self._media = media
        self._call = Calls(patience_s)
        self._speech = SpeechToText(models.speech, self._call, health)
        self._health = health

    async def analyze(self, request: AnalysisRequest, key: str, steps: Steps) -> dict[str, Any]:
        """Return the contract's result object.

        Args:
            request: what to analyze, and how.
            key: folder of this job's artefacts in the artefact store.
            steps: how to run the steps.

        Raises:
            ServeAppError: as the failing stage says.
            LeaseLost: the job is another runner's now.
        """
        started = time.monotonic()
        # before anything is fetched: a language that nobody here speaks will not be spoken later either
        hearing = Hearing(request.language, request.enable_gpu, request.max_workers, request.prompt, request.align)
        chosen = await steps.run(
            "choose_backend",
            ChosenBackend,
            lambda: self._speech.choose(hearing, backend=request.backend, order=self._models.speech_order),
        )
        media = await self._fetched(request.source, key, steps)
        decoding = time.monotonic()
        audio = self._call.shared(self._models.analyzer, "decode", media)
        await audio.reference()
        steps.seconds["decode"] = time.monotonic() - decoding

        await steps.announce(Stage.DETECTING_SPEECH)
        activity = await steps.run(
            "detect_speech",
            SpeechActivity,
            lambda: self._call.with_shared(self._models.analyzer, "detect_speech", audio),
            announce=(Stage.DIARIZING,),
        )
        await steps.announce(Stage.TRANSCRIBING)
        frames, diarization, transcript = await _all(
            self._measure(audio, steps),
            self._diarize(request, audio, activity, steps),
            self._transcribe(audio, activity, chosen, hearing, steps),
        )
        spoken = await asyncio.to_thread(attribute, transcript.segments, diarization.turns)
        await steps.announce(Stage.RECOGNIZING_EMOTION)
        emotions = await self._recognize_emotion(request, audio, [part.segment for part in spoken], steps)
        notes = [*activity.notes, *emotions.notes]
        await steps.announce(Stage.MERGING)
        merging = time.monotonic()

        def merge() -> dict[str, Any]:
            words = [word for part in spoken for word in part.segment.words]
            features = features_of(frames, [word.start_s for word in words], [word.end_s for word in words])
            now = time.monotonic()
            facts = RunFacts(
                duration_s=activity.duration_s,
                language_requested=request.language,
                processing_time_s=now - started,
                stage_seconds={**steps.seconds, "merge": now - merging},
                notes=notes,
            )
            return assemble(
                spoken,
                features,
                transcript=transcript,
                diarization=diarization,
                facts=facts,
                emotions=emotions.scores,
                emotion_model_version=emotions.model_version,
            )

        return await asyncio.to_thread(merge)

    async def _fetched(self, source: BinaryIO | str, key: str, steps: Steps) -> bytes | str:
        """Return the file as the analyzer takes it."""
        if not isinstance(source, str):
            return await self._media.hand_over(source, key)  # whoever uploads waits: nothing to keep as a step
        fetched = await steps.run(
            "fetch", AudioSource, lambda: self._media.fetch(source, key), announce=(Stage.DOWNLOADED,)
        )
        # a step's result says that the file was there; an operator may have emptied the store since
        if not await asyncio.to_thread(self._media.exists, key):
            fetched = await self._media.fetch(source, key)
        return fetched.url

    async def _measure(self, audio: SharedResult, steps: Steps) -> FrameFeatures:
        started = time.monotonic()
        frames = await self._call.with_shared(self._models.analyzer, "measure", audio)
        steps.seconds["measure"] = time.monotonic() - started
        return frames

    async def _diarize(
        self, request: AnalysisRequest, audio: SharedResult, activity: SpeechActivity, steps: Steps
    ) -> Diarization:
        if not activity.regions:
            return Diarization((), "none")
        candidates = [placed for placed in self._models.diarizers if request.enable_gpu or not placed.on_gpu]
        if not candidates:
            raise ProcessingError(
                "enable_gpu is false, but no CPU replicas of Diarizer are configured: set diarizer.cpu_fallback"
            )

        async def work() -> Diarization:
            notes: tuple[str, ...] = ()
            for placed in candidates:
                try:
                    found = await self._call.with_shared(
                        placed.handle,
                        "diarize",
                        audio,
                        request.num_speakers,
                        request.min_speakers,
                        request.max_speakers,
                    )
                except GpuMemoryError:
                    if placed is candidates[-1]:
                        raise
                    notes = ("diarization ran out of GPU memory and was repeated on the CPU",)
                else:
                    return Diarization(found.turns, found.model_version, notes + tuple(found.notes))
            raise AssertionError("candidates is not empty")

        return await steps.run("diarize", Diarization, work)

    async def _transcribe(
        self, audio: SharedResult, activity: SpeechActivity, chosen: ChosenBackend, hearing: Hearing, steps: Steps
    ) -> Transcript:
        """Hear all pieces, and tell the time of them all as one stage."""
        started = time.monotonic()
        heard = [piece async for piece in self._speech.pieces(audio, activity, chosen, hearing, steps)]
        for name in [name for name in steps.seconds if name.startswith("transcribe/")]:
            del steps.seconds[name]
        steps.seconds["transcribe"] = time.monotonic() - started
        if chosen.start_s:
            steps.seconds["backend_start"] = chosen.start_s
        return join_transcripts(heard, language=hearing.language, notes=chosen.notes, speech=activity.regions)

    async def _recognize_emotion(
        self, request: AnalysisRequest, audio: SharedResult, segments: Sequence[Segment], steps: Steps
    ) -> _Emotions:
        if not request.emotion_detection:
            return _Emotions()
        if not self._models.emotion:
            return _Emotions(notes=("emotion recognition was skipped: no model for it is configured",))
        if not segments:
            return _Emotions()
        candidates = [placed for placed in self._models.emotion if request.enable_gpu or not placed.on_gpu]
        if not candidates:
            return _Emotions(notes=("emotion recognition was skipped: enable_gpu is false, and it runs on GPUs only",))
        states = await self._health()
        candidates = [placed for placed in candidates if states.get(placed.name) in USABLE]
        if not candidates:
            return _Emotions(notes=("emotion recognition was skipped: its deployment is not healthy",))
        regions = [SpeechRegion(segment.start_s, segment.end_s) for segment in segments]
        free = asyncio.Semaphore(request.max_workers)

        async def recognize(first: int) -> _Emotions:
            async with free:
                return await steps.run(
                    f"recognize_emotion/{first:05d}",
                    _Emotions,
                    lambda: self._emotions_of(audio, regions[first : first + _EMOTION_BATCH], candidates),
                )

        started = time.monotonic()
        parts = await _all(*(recognize(first) for first in range(0, len(regions), _EMOTION_BATCH)))
        for name in [name for name in steps.seconds if name.startswith("recognize_emotion/")]:
            del steps.seconds[name]
        steps.seconds["recognize_emotion"] = time.monotonic() - started
        return _Emotions(
            tuple(scores for part in parts for scores in part.scores),
            next((part.model_version for part in parts if part.model_version), None),
            tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        )

    async def _emotions_of(
        self, audio: SharedResult, regions: Sequence[SpeechRegion], candidates: Sequence[PlacedDeployment]
    ) -> _Emotions:
        """Return one answer a region; a failing model leaves them out, for the words are worth more than the mood."""
        notes: tuple[str, ...] = ()
        for placed in candidates:
            try:
                scores = await self._call.with_shared(placed.handle, "recognize", audio, list(regions))
                model_version = await self._call(placed.handle, "model_version")
            except GpuMemoryError as error:
                if placed is candidates[-1]:
                    notes = (*notes, f"emotion recognition was skipped for a part of the file: {error.detail}")
                else:
                    notes = ("emotion recognition ran out of GPU memory and was repeated on the CPU",)
            except ModelError as error:
                notes = (*notes, f"emotion recognition was skipped for a part of the file: {error.detail}")
                break
            else:
                return _Emotions(tuple(scores), model_version, notes)
        return _Emotions((None,) * len(regions), None, notes)


class DirectAnalysis:
    """`services.AnalysisService` over the deployments' handles."""

    def __init__(self, pipeline: VideoPipeline, media: MediaSource, max_at_once: int) -> None:
        self._pipeline = pipeline
        self._media = media
        self._free = asyncio.Semaphore(max_at_once)

    async def analyze(self, request: AnalysisRequest) -> Mapping[str, Any]:
        """Run the video pipeline while the caller waits."""
        if self._free.locked():
            raise Unavailable("all synchronous analyses are busy; submit a job instead", _RETRY_AFTER_S)
        async with self._free:
            folder = job_key(f"direct-{uuid.uuid4().hex}")
            try:
                return await self._pipeline.analyze(request, folder, PlainSteps())
            finally:
                await asyncio.shield(asyncio.to_thread(self._media.discard, folder))


@dataclass(frozen=True, slots=True)
class _Emotions:
    """One answer for each segment, None where there is none."""

    scores: tuple[LabelScores | None, ...] = ()
    model_version: str | None = None
    notes: tuple[str, ...] = ()


async def _all(*works: Awaitable[Any]) -> list[Any]:
    """Return all results; at the first failure, end the others and raise that failure as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_await(work)) for work in works]
    except BaseExceptionGroup as failures:
        ours = [error for error in failures.exceptions if isinstance(error, ServeAppError)]
        raise (ours or failures.exceptions)[0] from None
    return [task.result() for task in tasks]


async def _await(work: Awaitable[T]) -> T:
    return await work
