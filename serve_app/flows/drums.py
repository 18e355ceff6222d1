"""`DrumFlow`: transcribes uploaded drums while the caller waits (`services.DrumService`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from serve_app.deployments.protocols import TranscribesDrums
from serve_app.flows.handles import (
    RECORDING_RETRY_AFTER_S,
    Calls,
    Placed,
    Seats,
    answer_each,
    require_deployed,
    with_fallback,
)
from serve_app.flows.media_source import MediaSource
from serve_app.sentences import Sentence
from serve_app.services import DrumOptions, DrumRecording, DrumTranscription


class DrumFlow:
    """Transcribes uploads.

    Args:
        transcribers: in order of preference; the next one is called when GPU memory ran out.
        media: keeps large uploads meanwhile.
        patience_s: how long a full queue or a lost replica is waited for.
        max_at_once: requests in one ingress replica; more are answered 503.
        max_recordings: of one request at once: enough to fill a batch of the network.
    """

    def __init__(
        self,
        transcribers: Sequence[Placed[TranscribesDrums]],
        media: MediaSource,
        patience_s: float,
        max_at_once: int,
        max_recordings: int = 4,
    ) -> None:
        self._transcribers = transcribers
        self._media = media
        self._call = Calls(patience_s)
        self._seats = Seats(max_at_once, Sentence("drum transcriptions"), RECORDING_RETRY_AFTER_S)
        self._max_recordings = max_recordings

    async def transcribe(
        self, recordings: Sequence[DrumRecording], options: DrumOptions
    ) -> Sequence[DrumTranscription | Exception]:
        """Return the transcription, or the error, of each recording, in order."""
        require_deployed(self._transcribers)
        async with self._seats:
            return await answer_each(
                recordings, lambda recording: self._transcribe(recording, options), self._max_recordings
            )

    async def _transcribe(self, recording: DrumRecording, options: DrumOptions) -> DrumTranscription:
        started = time.monotonic()
        notes: list[str] = []
        async with self._media.handed_over(recording.file) as source:
            transcription = await with_fallback(
                self._transcribers,
                lambda placed: self._call(placed, TranscribesDrums.transcribe, source, options, recording.filename),
                Sentence("drum transcription"),
                notes,
            )
        transcript = replace(transcription.transcript, notes=(*transcription.transcript.notes, *notes))
        return replace(transcription, transcript=transcript, took_s=time.monotonic() - started)
