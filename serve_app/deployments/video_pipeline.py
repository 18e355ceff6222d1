"""The video DAG, written once: JobRunner runs it with durable steps, the ingress's synchronous route with plain ones.

fetch ─ decode ─ detect speech ─┬─ diarize ───────────────┬─ merge
                                ├─ transcribe, by pieces ─┤
                                └─ measure acoustics ─────┘
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from serve_app.deployments.calls import Calls, SharedResult
from serve_app.deployments.media_source import MediaSource
from serve_app.deployments.steps import Steps
from serve_app.errors import GpuMemoryError, ProcessingError, ServeAppError
from serve_app.media.acoustics import FrameFeatures, features_of
from serve_app.messages import Stage
from serve_app.models.speech.assembly import RunFacts, assemble, join_transcripts
from serve_app.models.speech.attribution import attribute
from serve_app.models.speech.pieces import recognizer_pieces
from serve_app.results import AudioSource, Diarization, SpeechActivity, SpeechRegion, Transcript
from serve_app.services import AnalysisRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlacedDeployment:
    """A deployment and where its replicas run."""

    handle: DeploymentHandle
    on_gpu: bool


@dataclass(frozen=True, slots=True)
class VideoModels:
    """Handles of the deployments that the DAG is made of.

    Attributes:
        diarizers: in order of preference; a later one takes over when GPU memory ran out.
    """

    analyzer: DeploymentHandle
    recognizer: DeploymentHandle
    diarizers: Sequence[PlacedDeployment]


class VideoPipeline:
    """Analyzes one file after another.

    Args:
        models: the deployments.
        media: where files come from and are kept meanwhile.
        patience_s: how long to wait for a full queue or a lost replica before giving up.
    """

    def __init__(self, models: VideoModels, media: MediaSource, patience_s: float) -> None:
        self._models = models
        self._media = media
        self._call = Calls(patience_s)

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
        await self._call(self._models.recognizer, "check_language", request.language)
        source = await self._fetched(request.source_url, key, steps)
        decoding = time.monotonic()
        audio = self._call.shared(self._models.analyzer, "decode", source.url)
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
            self._transcribe(request, audio, activity, steps),
        )
        await steps.announce(Stage.RECOGNIZING_EMOTION)
        notes = list(activity.notes)
        if request.emotion_detection:
            notes.append("emotion recognition was skipped: no model for it is configured")
        await steps.announce(Stage.MERGING)
        merging = time.monotonic()

        def merge() -> dict[str, Any]:
            spoken = attribute(transcript.segments, diarization.turns)
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
            return assemble(spoken, features, transcript=transcript, diarization=diarization, facts=facts)

        return await asyncio.to_thread(merge)

    async def _fetched(self, url: str, key: str, steps: Steps) -> AudioSource:
        source = await steps.run(
            "fetch", AudioSource, lambda: self._media.fetch(url, key), announce=(Stage.DOWNLOADED,)
        )
        # a step's result says that the file was there; an operator may have emptied the store since
        if not await asyncio.to_thread(self._media.exists, key):
            source = await self._media.fetch(url, key)
        return source

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
        self, request: AnalysisRequest, audio: SharedResult, activity: SpeechActivity, steps: Steps
    ) -> Transcript:
        """Recognize pieces between silences, at most `max_workers` at once, each a step of its own."""
        started = time.monotonic()
        pieces = recognizer_pieces(activity.regions, activity.duration_s)
        free = asyncio.Semaphore(request.max_workers)

        async def recognize(number: int, piece: SpeechRegion) -> Transcript:
            async with free:
                return await steps.run(
                    f"transcribe/{number:05d}",
                    Transcript,
                    lambda: self._call.with_shared(
                        self._models.recognizer, "transcribe", audio, piece, request.language
                    ),
                )

        heard = await _all(*(recognize(number, piece) for number, piece in enumerate(pieces)))
        for name in [name for name in steps.seconds if name.startswith("transcribe/")]:
            del steps.seconds[name]
        steps.seconds["transcribe"] = time.monotonic() - started
        return join_transcripts(heard, language=request.language)


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
