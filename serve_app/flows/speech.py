"""Uploads put into words while the caller waits: `services.SpeechService` over the deployments' handles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from serve_app.errors import Unavailable
from serve_app.flows.calls import Calls, SharedResult
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import Health, Hearing, SpeechToText
from serve_app.flows.steps import PlainSteps
from serve_app.flows.video import VideoModels
from serve_app.models.speech.joining import join_transcripts
from serve_app.results import Segment, SpeechActivity, SpeechTask, Transcript
from serve_app.services import SpeechBackend, Transcription, TranscriptionRequest

_RETRY_AFTER_S = 5.0


class DirectTranscription:
    """Transcribes uploads with whatever backend the caller names.

    Args:
        models: the deployments.
        media: where large uploads are kept meanwhile.
        patience_s: how long to wait for a full queue or a lost replica.
        health: every deployment's state by name.
        max_at_once: requests in one ingress replica; more are answered 503.
        max_pieces: of one file at once: enough to fill a batch on several replicas.
    """

    def __init__(
        self,
        models: VideoModels,
        media: MediaSource,
        patience_s: float,
        health: Health,
        max_at_once: int,
        max_pieces: int,
    ) -> None:
        self._models = models
        self._media = media
        self._call = Calls(patience_s)
        self._speech = SpeechToText(models.speech, self._call, health)
        self._free = asyncio.Semaphore(max_at_once)
        self._max_pieces = max_pieces
        self._created_at = time.time()

    async def backends(self) -> Sequence[SpeechBackend]:
        """Return the deployed backends in the contract's order."""
        health = await self._speech.healthy()
        return [
            SpeechBackend(name, self._models.speech.models[name], healthy, self._created_at)
            for name, healthy in health.items()
        ]

    async def transcribe(self, request: TranscriptionRequest) -> Transcription:
        """Return an upload's words."""
        async for heard in self.stream(request):
            if isinstance(heard, Transcription):
                return heard
        raise AssertionError("a stream ends with the whole")

    async def stream(self, request: TranscriptionRequest) -> AsyncIterator[Segment | Transcription]:
        """Yield segments in order of time as soon as they are known, then the whole."""
        if self._free.locked():
            raise Unavailable("all synchronous transcriptions are busy", _RETRY_AFTER_S)
        async with self._free:
            hearing = Hearing(request.language, True, self._max_pieces, request.prompt, request.align, request.task)
            steps = PlainSteps()
            chosen = await self._speech.choose(hearing, backend=request.backend)
            async with self._media.handed_over(request.file) as upload:
                audio = self._call.shared(self._models.analyzer, "decode", upload)
                activity = await self._heard_of(audio, steps)
                started = time.monotonic()
                pieces: list[Transcript] = []
                async for piece in self._speech.pieces(audio, activity, chosen, hearing, steps):
                    pieces.append(piece)
                    for segment in piece.segments:
                        yield segment
                transcript = join_transcripts(
                    pieces,
                    language=request.language,
                    notes=(*chosen.notes, *activity.notes),
                    # a translation's words are not where the speech is
                    speech=activity.regions if request.task is SpeechTask.TRANSCRIBE else None,
                )
                seconds = {name: value for name, value in steps.seconds.items() if "/" not in name}
                seconds["transcribe"] = time.monotonic() - started
                if chosen.start_s:
                    seconds["backend_start"] = chosen.start_s
                yield Transcription(transcript, activity.duration_s, chosen.name, seconds)

    async def _heard_of(self, audio: SharedResult, steps: PlainSteps) -> SpeechActivity:
        """Return where somebody speaks; decoding is timed apart."""
        started = time.monotonic()
        await audio.reference()
        steps.seconds["decode"] = time.monotonic() - started
        return await steps.run(
            "detect_speech",
            SpeechActivity,
            lambda: self._call.with_shared(self._models.analyzer, "detect_speech", audio),
        )
