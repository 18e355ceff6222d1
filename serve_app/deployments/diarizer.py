"""`Diarizer`: deployment of speaker diarization (pyannote)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from ray import serve

from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device
from serve_app.deployments.replica.shares import OnShare, shares_then_result
from serve_app.deployments.replica.worker_threads import ShouldStop, WorkerThreads
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.options import DiarizerOptions
from serve_app.results import Diarization
from serve_app.services import ReplicaModel


@serve.deployment(name="Diarizer")
class Diarizer:
    """Finds speakers' turns in decoded audio, one file at a time."""

    def __init__(self, options: DiarizerOptions, environment: ModelEnvironment) -> None:
        from serve_app.models.diarization.networks import load_networks
        from serve_app.models.diarization.pipeline import SpeakerDiarizer

        self._device = replica_device(options.device)
        self._spec = options.model_id or " + ".join((options.segmentation, *options.embeddings))

        def load() -> SpeakerDiarizer:
            networks = None
            if options.model_id is None:
                networks = load_networks(
                    options.segmentation,
                    options.embeddings,
                    cache_dir=environment.models_dir,
                    hf_token=environment.hf_token,
                    mirror=environment.mirror,
                )
            return SpeakerDiarizer(
                networks=networks,
                device=self._device,
                num_threads=options.num_threads,
                model_id=options.model_id,
                allow_code=options.allow_code,
                hf_token=environment.hf_token,
            )

        self._model = LoadedModel("Diarizer", load, lambda diarizer: diarizer.model_version)
        # pyannote's pipeline keeps state between its steps: one file at a time
        self._threads = WorkerThreads(1, "diarizer")

    def check_health(self) -> None:
        """Raise once the models have been missing for a while."""
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
        """Return the turns in `media.samples.DecodedAudio`; ModelLoadingError where the models can't be loaded."""
        found = self.diarize_with_progress(audio, num_speakers, min_speakers, max_speakers)
        [*_, last] = [item async for item in found]
        assert isinstance(last, Diarization)
        return last

    async def diarize_with_progress(
        self,
        audio: Any,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> AsyncIterator[float | Diarization]:
        """Yield the share that is done, rising; at last what `diarize` returns. A caller who leaves ends the work."""
        diarizer = self._model.get()

        async def work(on_share: OnShare) -> Diarization:
            def in_thread(should_stop: ShouldStop) -> Diarization:
                def on_progress(step: str, fraction: float) -> None:
                    if should_stop():
                        raise asyncio.CancelledError
                    on_share(fraction)

                return diarizer.diarize(
                    audio.samples,
                    num_speakers=num_speakers,
                    min_speakers=min_speakers,
                    max_speakers=max_speakers,
                    on_progress=on_progress,
                )

            return await self._threads.run(in_thread)

        async with aclosing(shares_then_result(work)) as items:
            async for item in items:
                yield item
