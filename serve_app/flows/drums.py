"""Uploaded drums, written down while the caller waits: `services.DrumService` over the deployments' handles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from serve_app.errors import GpuMemoryError, Unavailable
from serve_app.flows.calls import Calls
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import PlacedDeployment
from serve_app.services import DrumOptions, DrumRecording, DrumTranscription

_RETRY_AFTER_S = 5.0


class DirectDrums:
    """Transcribes uploads.

    Args:
        transcribers: the deployment, and after it the one that takes over when its GPU memory ran out.
        media: where large uploads are kept meanwhile.
        patience_s: how long to wait for a full queue or a lost replica.
        max_at_once: requests in one ingress replica; more are answered 503.
        max_recordings: of one request at once: enough to fill a batch of the network.
    """

    def __init__(
        self,
        transcribers: Sequence[PlacedDeployment],
        media: MediaSource,
        patience_s: float,
        max_at_once: int,
        max_recordings: int = 4,
    ) -> None:
        self._transcribers = transcribers
        self._media = media
        self._call = Calls(patience_s)
        self._free = asyncio.Semaphore(max_at_once)
        self._max_recordings = max_recordings

    async def transcribe(
        self, recordings: Sequence[DrumRecording], options: DrumOptions
    ) -> Sequence[DrumTranscription | Exception]:
        """Return an answer for each recording, in order; what one of them failed with stands in its place."""
        if self._free.locked():
            raise Unavailable("all synchronous drum transcriptions are busy", _RETRY_AFTER_S)
        few = asyncio.Semaphore(self._max_recordings)

        async def answer(recording: DrumRecording) -> DrumTranscription | Exception:
            async with few:
                try:
                    return await self._transcribed(recording, options)
                except Exception as error:
                    return error

        # a group, not gather: when the caller leaves it waits for all, which still read the caller's files
        async with self._free, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(recording)) for recording in recordings]
        return [task.result() for task in tasks]

    async def _transcribed(self, recording: DrumRecording, options: DrumOptions) -> DrumTranscription:
        started = time.monotonic()
        async with self._media.handed_over(recording.file) as source:
            heard = await self._heard(source, options, recording.filename)
        return replace(heard, took_s=time.monotonic() - started)

    async def _heard(self, source: bytes | str, options: DrumOptions, filename: str) -> DrumTranscription:
        for placed in self._transcribers:
            try:
                heard = await self._call(placed.handle, "transcribe", source, options, filename)
            except GpuMemoryError:
                if placed is self._transcribers[-1]:
                    raise
            else:
                if placed is self._transcribers[0]:
                    return heard
                note = "drum transcription ran out of GPU memory and was repeated on the CPU"
                return replace(heard, transcript=replace(heard.transcript, notes=(*heard.transcript.notes, note)))
        raise AssertionError("there is at least one deployment")
