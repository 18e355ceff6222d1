"""Deployment: who spoke when (pyannote)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve

from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.worker_threads import ShouldStop, WorkerThreads
from serve_app.results import Diarization
from serve_app.services import ReplicaModel


@dataclass(frozen=True, slots=True)
class DiarizerSource:
    """Where the models come from.

    Attributes:
        segmentation: see `serve_app.models.diarization.networks.load_networks`.
        embeddings: the same.
        cache_dir: where what is fetched is kept.
        model_id: Hugging Face id of a pyannote pipeline, in place of the two.
        hf_token: needed where something is gated.
        mirror: URL or folder of a mirror of the catalog.
    """

    segmentation: str
    embeddings: tuple[str, ...]
    cache_dir: Path
    model_id: str | None = None
    hf_token: str | None = None
    mirror: str | None = None


@serve.deployment(name="Diarizer")
class Diarizer:
    """Finds speakers' turns in decoded audio, one file at a time.

    Args:
        device: "cpu", "cuda" or a torch device string.
        num_threads: of torch; threads × replicas must not exceed the cores.
        source: which networks, or which pipeline.
    """

    def __init__(self, device: str, num_threads: int, source: DiarizerSource) -> None:
        from serve_app.models.diarization.networks import load_networks
        from serve_app.models.diarization.pipeline import SpeakerDiarizer

        def load() -> SpeakerDiarizer:
            networks = None
            if source.model_id is None:
                networks = load_networks(
                    source.segmentation,
                    source.embeddings,
                    cache_dir=source.cache_dir,
                    hf_token=source.hf_token,
                    mirror=source.mirror,
                )
            return SpeakerDiarizer(
                networks=networks,
                device=device,
                num_threads=num_threads,
                model_id=source.model_id,
                hf_token=source.hf_token,
            )

        self._model = LoadedModel("Diarizer", load, lambda diarizer: diarizer.model_version)
        self._spec = source.model_id or " + ".join((source.segmentation, *source.embeddings))
        self._device = device
        # pyannote's pipeline keeps state between its steps: one file at a time
        self._threads = WorkerThreads(1, "diarizer")

    def check_health(self) -> None:
        """Raise where the models could not be loaded, after a while."""
        self._model.check_health()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        return self._model.describe(spec=self._spec, engine="pyannote.audio", device=self._device)

    async def diarize(
        self,
        audio: Any,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> Diarization:
        """Return the turns in `media.decode.DecodedAudio`; ModelLoadingError where the models can't be loaded."""
        diarizer = self._model.get()

        def work(should_stop: ShouldStop) -> Diarization:
            def on_progress(step: str, fraction: float) -> None:
                if should_stop():
                    raise asyncio.CancelledError

            return diarizer.diarize(
                audio.samples,
                num_speakers=num_speakers,
                min_speakers=min_speakers,
                max_speakers=max_speakers,
                on_progress=on_progress,
            )

        return await self._threads.run(work)
