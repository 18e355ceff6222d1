"""Deployment: who spoke when (pyannote)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ray import serve

from serve_app.deployments.replica_facts import replica_facts
from serve_app.deployments.worker_threads import ShouldStop, WorkerThreads
from serve_app.results import Diarization
from serve_app.services import ReplicaModel


@serve.deployment(name="Diarizer")
class Diarizer:
    """Finds speakers' turns in decoded audio, one file at a time.

    Args:
        device: "cpu", "cuda" or a torch device string.
        num_threads: of torch; threads × replicas must not exceed the cores.
        model_id: Hugging Face id of a pyannote pipeline; None uses the embedded models.
        hf_token: needed where the id is gated.
    """

    def __init__(self, device: str, num_threads: int, model_id: str | None = None, hf_token: str | None = None) -> None:
        from serve_app.models.diarization.pipeline import SpeakerDiarizer

        self._diarizer = SpeakerDiarizer(device=device, num_threads=num_threads, model_id=model_id, hf_token=hf_token)
        self._spec, self._device, self._loaded_at = model_id or "embedded", device, time.time()
        # pyannote's pipeline keeps state between its steps: one file at a time
        self._threads = WorkerThreads(1, "diarizer")

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        return replica_facts(
            spec=self._spec,
            model_version=self._diarizer.model_version,
            engine="pyannote.audio",
            device=self._device,
            loaded_at=self._loaded_at,
        )

    async def diarize(
        self,
        audio: Any,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> Diarization:
        """Return the turns in `media.decode.DecodedAudio`."""

        def work(should_stop: ShouldStop) -> Diarization:
            def on_progress(step: str, fraction: float) -> None:
                if should_stop():
                    raise asyncio.CancelledError

            return self._diarizer.diarize(
                audio.samples,
                num_speakers=num_speakers,
                min_speakers=min_speakers,
                max_speakers=max_speakers,
                on_progress=on_progress,
            )

        return await self._threads.run(work)
