"""`SpeechFlow`: transcribes uploads while the caller waits (`services.SpeechService`)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from serve_app.deployments.protocols import AnalyzesAudio
from serve_app.flows.handles import RECORDING_RETRY_AFTER_S, Calls, Health, Seats, given, require_deployed
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import SpeechOptions, SpeechToText
from serve_app.flows.steps import PlainSteps
from serve_app.flows.video import VideoModels
from serve_app.models.speech.joining import join_transcripts
from serve_app.results import Segment, SpeechTask, Transcript
from serve_app.sentences import Sentence
from serve_app.services import SpeechBackend, Transcription, TranscriptionRequest


class SpeechFlow:
    """Transcribes uploads with the backend that the caller names.

    Args:
        models: the deployments.
        media: keeps large uploads meanwhile.
        patience_s: how long a full queue or a lost replica is waited for.
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
        self._seats = Seats(max_at_once, Sentence("transcriptions"), RECORDING_RETRY_AFTER_S)
        self._max_pieces = max_pieces
        self._created_at = time.time()

    async def backends(self) -> Sequence[SpeechBackend]:
        """Return the deployed backends in the order of `BackendName`."""
        health = await self._speech.healthy()
        return [
            SpeechBackend(name, self._models.speech.models[name], healthy, self._created_at)
            for name, healthy in health.items()
        ]

    async def transcribe(self, request: TranscriptionRequest) -> Transcription:
        """Return an upload's transcription."""
        parts = [part async for part in self.stream(request)]
        assert isinstance(parts[-1], Transcription)
        return parts[-1]

    async def stream(self, request: TranscriptionRequest) -> AsyncIterator[Segment | Transcription]:
        """Yield segments in order of time as soon as they are transcribed, then the whole."""
        async with self._seats:
            num_pieces = min(request.max_workers or self._max_pieces, self._max_pieces)
            options = SpeechOptions(
                request.language, request.enable_gpu, num_pieces, request.prompt, request.align, request.task
            )
            steps = PlainSteps()
            require_deployed([self._models.analyzer])
            chosen = await self._speech.choose(options, backend=request.backend)
            async with self._media.handed_over(request.file) as upload:
                audio = self._call.shared(
                    self._models.analyzer, AnalyzesAudio.decode, upload, **given(audio_track=request.audio_track)
                )
                with steps.timed("decode"):
                    await audio.reference()
                with steps.timed("detect_speech"):
                    activity = await self._call.with_shared(self._models.analyzer, AnalyzesAudio.detect_speech, audio)
                pieces: list[Transcript] = []
                with steps.timed("transcribe"):
                    async for piece in self._speech.pieces(audio, activity, chosen, options, steps):
                        pieces.append(piece)
                        for segment in piece.segments:
                            yield segment
                transcript = join_transcripts(
                    pieces,
                    language=request.language,
                    notes=(*request.notes, *chosen.notes, *activity.notes),
                    # the times of a translation's words are not those of the speech
                    speech=activity.regions if request.task is SpeechTask.TRANSCRIBE else None,
                )
                if chosen.start_s:
                    steps.seconds["backend_start"] = chosen.start_s
                yield Transcription(transcript, activity.duration_s, chosen.name, steps.seconds)
