"""`VideoPipeline`: the video DAG. JobRunner runs it with durable steps, the synchronous route with plain ones.

fetch ─ decode ─ detect speech ─┬─ diarize ───────────────┬─ recognize emotion ─ merge
                                ├─ transcribe, by pieces ─┤
                                └─ measure acoustics ─────┘
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from serve_app.analysis.assembly import RunFacts, assemble
from serve_app.analysis.attribution import attribute
from serve_app.analysis.result import AnalysisResult
from serve_app.deployments.protocols import AnalyzesAudio, Diarizes, RecognizesEmotion
from serve_app.errors import ModelError, ProcessingError, ServeAppError
from serve_app.flows.handles import (
    ANALYSIS_RETRY_AFTER_S,
    Calls,
    Health,
    Placed,
    Seats,
    given,
    require_deployed,
    with_fallback,
)
from serve_app.flows.health import USABLE
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import ChosenBackend, SpeechModels, SpeechOptions, SpeechToText
from serve_app.flows.steps import PlainSteps, Steps
from serve_app.jobs.record import VideoRequest
from serve_app.media.acoustics import FrameFeatures, features_of
from serve_app.messages import Stage
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.joining import join_transcripts
from serve_app.results import (
    AudioSource,
    Diarization,
    Emotions,
    Segment,
    SpeechActivity,
    SpeechRegion,
    Transcript,
)
from serve_app.sentences import Locale, Sentence, translated
from serve_app.services import AnalysisRequest
from serve_app.threads import FILES

if TYPE_CHECKING:
    from serve_app.flows.speech_to_text import Audio

_EMOTION_BATCH = 64  # segments in one call: a step of some seconds
_LENGTH_S = 5.0  # for opening a file, which takes milliseconds where the analyzer is free


@dataclass(frozen=True, slots=True)
class VideoModels:
    """The deployments of the DAG.

    Attributes:
        analyzer: decodes files, detects speech and measures acoustics.
        speech: the speech backends.
        speech_order: a job uses the first of these backends that is healthy and transcribes its language.
        diarizers: in order of preference; the next one is called when GPU memory ran out.
        emotion: recognisers of emotion in order of preference; empty where no model is configured.
    """

    analyzer: Placed[AnalyzesAudio]
    speech: SpeechModels
    speech_order: tuple[BackendName, ...]
    diarizers: Sequence[Placed[Diarizes]]
    emotion: Sequence[Placed[RecognizesEmotion]] = ()

    def placed(self) -> list[Placed[Any]]:
        """Return all deployments."""
        speech = (placed for backend in self.speech.backends.values() for placed in backend)
        aligner = (self.speech.aligner,) if self.speech.aligner else ()
        return [self.analyzer, *speech, *aligner, *self.diarizers, *self.emotion]

    def needed(self) -> list[Placed[Any]]:
        """Return the deployments without which no file can be analyzed; of the speech backends one is enough."""
        speech = [placed for backend in self.speech.backends.values() for placed in backend]
        spoken = [placed for placed in speech if placed.missing is None] or speech
        return [*self.diarizers, self.analyzer, *spoken[:1]]


class VideoPipeline:
    """Analyzes files.

    Args:
        models: the deployments.
        media: fetches files, and keeps them meanwhile.
        patience_s: how long a full queue or a lost replica is waited for.
        health: every deployment's state by name.
    """

    def __init__(self, models: VideoModels, media: MediaSource, patience_s: float, health: Health) -> None:
        self._models = models
        self._media = media
        self._call = Calls(patience_s)
        self._at_once = Calls(0.0)
        self._speech = SpeechToText(models.speech, self._call, health)
        self._health = health

    async def run_job(self, request: VideoRequest, steps: Steps) -> AnalysisResult:
        """Return the result of a video job, with notes in its language; errors as `analyze`."""
        analysis = AnalysisRequest(request.video_url, **request.options())
        result = await self.analyze(analysis, f"jobs/{steps.place}", steps)
        locale = request.locale or Locale.EN
        result["metadata"]["notes"] = [translated(note, locale) for note in result["metadata"].get("notes", ())]
        return result

    async def analyze(self, request: AnalysisRequest, folder: str, steps: Steps) -> AnalysisResult:
        """Return the result of the analysis.

        Args:
            request: the file, and the options.
            folder: of this run's artefacts in the artefact store.
            steps: run the steps.

        Raises:
            ServeAppError: of the failing stage.
            LeaseLost: another runner has the job.
        """
        require_deployed(self._models.needed())
        started = time.monotonic()
        # before the download: an unsupported language is reported at once
        options = SpeechOptions(request.language, request.enable_gpu, request.workers, request.prompt, request.align)
        chosen = await steps.run(
            "choose_backend",
            ChosenBackend,
            lambda: self._speech.choose(options, backend=request.backend, order=self._models.speech_order),
        )
        media = await self._fetch(request.source, folder, steps)
        audio = self._call.shared(
            self._models.analyzer, AnalyzesAudio.decode, media, **given(audio_track=request.audio_track)
        )
        with steps.timed("decode"):
            await audio.reference()

        await steps.announce(Stage.DETECTING_SPEECH)
        activity = await steps.run(
            "detect_speech",
            SpeechActivity,
            lambda: self._detect_speech(audio, steps),
            announce=(Stage.DIARIZING,),
        )
        await steps.announce(Stage.TRANSCRIBING)
        both = _SlowerOf(steps)
        async with _task_group() as group:
            measuring = group.create_task(self._measure(audio, steps))
            diarizing = group.create_task(self._diarize(request, audio, activity, steps, both.diarized))
            transcribing = group.create_task(
                self._transcribe(audio, activity, chosen, options, steps, both.transcribed)
            )
        frames, diarization, transcript = measuring.result(), diarizing.result(), transcribing.result()
        spoken = await asyncio.to_thread(attribute, transcript.segments, diarization.turns)
        await steps.announce(Stage.RECOGNIZING_EMOTION)
        emotions = await self._recognize_emotion(request, audio, [part.segment for part in spoken], steps)
        notes = [*request.option_notes(), *activity.notes, *emotions.notes]
        await steps.announce(Stage.MERGING)
        merging = time.monotonic()

        def merge() -> AnalysisResult:
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

    async def _fetch(self, source: BinaryIO | str, folder: str, steps: Steps) -> bytes | str:
        """Return the file for the analyzer."""
        if not isinstance(source, str):
            return await self._media.hand_over(source, folder)  # no step: the caller of an upload waits

        async def fetch() -> AudioSource:
            fetched = await self._media.fetch(source, folder)
            if steps.is_followed and (length_s := await self._length_s(fetched.url)) is not None:
                await steps.note_sound(length_s)
            return fetched

        fetched = await steps.run("fetch", AudioSource, fetch, announce=(Stage.DOWNLOADED,))
        # an operator may have emptied the store since the step
        if not await FILES.run(self._media.has_located, fetched.url):
            fetched = await self._media.fetch(source, folder)
        return fetched.url

    async def _length_s(self, url: str) -> float | None:
        """Return the length of a file's sound by its header; None where it is not known soon.

        An estimate is no reason to wait, or to fail.
        """
        with suppress(ServeAppError, TimeoutError):
            async with asyncio.timeout(_LENGTH_S):
                return await self._at_once(self._models.analyzer, AnalyzesAudio.length_s, url)
        return None

    async def _detect_speech(self, audio: Audio, steps: Steps) -> SpeechActivity:
        activity = await self._call.with_shared(self._models.analyzer, AnalyzesAudio.detect_speech, audio)
        await steps.note_sound(activity.duration_s, sum(each.end_s - each.start_s for each in activity.regions))
        return activity

    async def _measure(self, audio: Audio, steps: Steps) -> FrameFeatures:
        with steps.timed("measure"):
            return await self._call.with_shared(self._models.analyzer, AnalyzesAudio.measure, audio)

    async def _diarize(
        self,
        request: AnalysisRequest,
        audio: Audio,
        activity: SpeechActivity,
        steps: Steps,
        on_share: Callable[[float], Awaitable[None]],
    ) -> Diarization:
        if not activity.regions:
            return Diarization((), "none")
        candidates = [placed for placed in self._models.diarizers if placed.is_allowed(request.enable_gpu)]
        if not candidates:
            raise ProcessingError(
                Sentence(
                    "enable_gpu is false, but no CPU replicas of Diarizer are configured: set diarizer.cpu_fallback"
                )
            )

        async def work() -> Diarization:
            notes: list[str] = []
            diarization = await with_fallback(
                candidates,
                lambda placed: self._call.last_with_shared(
                    placed,
                    Diarizes.diarize_with_progress,
                    on_share,
                    audio,
                    request.num_speakers,
                    request.min_speakers,
                    request.max_speakers,
                ),
                Sentence("diarization"),
                notes,
            )
            return replace(diarization, notes=(*notes, *diarization.notes))

        diarization = await steps.run("diarize", Diarization, work)
        await on_share(1.0)
        return diarization

    async def _transcribe(
        self,
        audio: Audio,
        activity: SpeechActivity,
        chosen: ChosenBackend,
        options: SpeechOptions,
        steps: Steps,
        on_share: Callable[[float], Awaitable[None]],
    ) -> Transcript:
        with steps.timed("transcribe"):
            heard = self._speech.pieces(audio, activity, chosen, options, steps, on_share)
            pieces = [piece async for piece in heard]
        if chosen.start_s:
            steps.seconds["backend_start"] = chosen.start_s
        return join_transcripts(pieces, language=options.language, notes=chosen.notes, speech=activity.regions)

    async def _recognize_emotion(
        self, request: AnalysisRequest, audio: Audio, segments: Sequence[Segment], steps: Steps
    ) -> Emotions:
        if not request.emotion_detection:
            return Emotions()
        if not self._models.emotion:
            return _skipped(Sentence("no model for it is configured"))
        if not segments:
            return Emotions()
        allowed = [placed for placed in self._models.emotion if placed.is_allowed(request.enable_gpu)]
        if not allowed:
            return _skipped(Sentence("enable_gpu is false, and it runs on GPUs only"))
        if (missing := allowed[0].missing) is not None:
            return _skipped(missing)
        states = await self._health()
        usable = [placed for placed in allowed if states.get(placed.name) in USABLE]
        if not usable:
            return _skipped(Sentence("its deployment is not healthy"))
        regions = [SpeechRegion(segment.start_s, segment.end_s) for segment in segments]
        free = asyncio.Semaphore(request.workers)
        num_done = 0

        async def recognize(first: int) -> Emotions:
            part = regions[first : first + _EMOTION_BATCH]
            async with free:
                emotions = await steps.run(
                    f"recognize_emotion/{first:05d}", Emotions, lambda: self._recognize_part(audio, part, usable)
                )
            nonlocal num_done
            num_done += len(part)
            await steps.advance(Stage.RECOGNIZING_EMOTION, Stage.MERGING, num_done / len(regions))
            return emotions

        with steps.timed("recognize_emotion"):
            async with _task_group() as group:
                tasks = [group.create_task(recognize(first)) for first in range(0, len(regions), _EMOTION_BATCH)]
        parts = [task.result() for task in tasks]
        return Emotions(
            tuple(scores for part in parts for scores in part.scores),
            next((part.model_version for part in parts if part.model_version), None),
            tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        )

    async def _recognize_part(
        self, audio: Audio, regions: Sequence[SpeechRegion], candidates: Sequence[Placed[RecognizesEmotion]]
    ) -> Emotions:
        """Return the emotions of each region; where the model fails, None and a note: the words matter more."""
        notes: list[str] = []
        try:
            emotions = await with_fallback(
                candidates,
                lambda placed: self._call.with_shared(placed, RecognizesEmotion.recognize, audio, regions),
                Sentence("emotion recognition"),
                notes,
            )
        except ModelError as error:
            skipped = Sentence("emotion recognition was skipped for a part of the file: {reason}", reason=error.detail)
            return Emotions((None,) * len(regions), None, (*notes, skipped))
        return replace(emotions, notes=(*notes, *emotions.notes))


class _SlowerOf:
    """Progress of diarization and transcription, which run side by side: that of the one that is less far."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._diarized = self._transcribed = 0.0

    async def diarized(self, share: float) -> None:
        """Report the share of the diarization that is done."""
        self._diarized = share
        await self._report()

    async def transcribed(self, share: float) -> None:
        """Report the share of the transcription that is done."""
        self._transcribed = share
        await self._report()

    async def _report(self) -> None:
        share = min(self._diarized, self._transcribed)
        await self._steps.advance(Stage.TRANSCRIBING, Stage.RECOGNIZING_EMOTION, share)


class AnalysisFlow:
    """Runs the video pipeline while the caller waits (`services.AnalysisService`)."""

    def __init__(self, pipeline: VideoPipeline, media: MediaSource, max_at_once: int) -> None:
        self._pipeline = pipeline
        self._media = media
        self._seats = Seats(max_at_once, Sentence("analyses"), ANALYSIS_RETRY_AFTER_S, Sentence("submit a job instead"))

    async def analyze(self, request: AnalysisRequest) -> AnalysisResult:
        """Return the result of the analysis."""
        async with self._seats, self._media.folder() as folder:
            return await self._pipeline.analyze(request, folder, PlainSteps())


def _skipped(reason: str) -> Emotions:
    return Emotions(notes=(Sentence("emotion recognition was skipped: {reason}", reason=reason),))


@asynccontextmanager
async def _task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Yield a group of tasks; the first failure cancels the others, and is raised without an exception group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        ours = [error for error in failures.exceptions if isinstance(error, ServeAppError)]
        raise (ours or failures.exceptions)[0] from None
