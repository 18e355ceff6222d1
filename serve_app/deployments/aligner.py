"""Deployment: words' times by forced alignment (whisperx)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import serve

from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.media.decode import SAMPLE_RATE_HZ
from serve_app.results import SpeechRegion, Transcript


@dataclass(frozen=True, slots=True)
class AlignerOptions:
    """Where and how align models run.

    Attributes:
        device: "auto" (a GPU where the replica sees one), "cpu", "cuda" or a torch device string.
        num_threads: of torch; threads × replicas must not exceed the cores.
        cache_dir: where models that were fetched are kept.
        hf_token: opens gated models.
    """

    device: str
    num_threads: int
    cache_dir: Path
    hf_token: str | None = field(default=None, repr=False)


@serve.deployment(name="Aligner")
class Aligner:
    """Times words anew, one piece of decoded audio at a time: more at once need more replicas.

    Batching: none; a piece is heard in one pass, and pieces of different length would pad each other. Cold start: the
    libraries; a language's model is loaded when its first piece comes. Measured with random weights of
    wav2vec2-base's shape (95 M) on one CPU core, 2026-11-20: 0.8 GB before the model, 1.3 GB at the peak of a piece of
    10 s and 1.8 GB of one of 30 s; 1.7 and 5.5 s of CPU time for these two. Each further language adds its weights
    (0.4 GB for this shape). Not measured on a GPU.

    Args:
        models: align model of each language, by two-letter code; see `models.speech.aligner`.
        options: where they run.
    """

    def __init__(self, models: Mapping[str, str], options: AlignerOptions) -> None:
        from serve_app.models.speech.alignment.aligner import ForcedAligner

        self._model = LoadedModel(
            "Aligner",
            lambda: ForcedAligner(
                models,
                device=options.device,
                num_threads=options.num_threads,
                cache_dir=options.cache_dir,
                hf_token=options.hf_token,
            ),
            lambda aligner: ", ".join(aligner.languages),
        )
        self._threads = WorkerThreads(1, "aligner")

    def check_health(self) -> None:
        """Raise where the device is not there, after a while."""
        self._model.check_health()

    async def languages(self) -> list[str]:
        """Return the codes of the languages that have a model."""
        return list(self._model.get().languages)

    async def align(self, audio: Any, piece_transcript: Transcript, piece: SpeechRegion) -> Transcript:
        """Return the transcript of one piece of `media.decode.DecodedAudio` with its words timed anew.

        Raises:
            ModelLoadingError: the language's model can't be had, or the device is not there.
            GpuMemoryError: the device has no memory left.
            ProcessingError: the model failed.
        """
        aligner = self._model.get()
        return await self._threads.run(
            lambda should_stop: aligner.align(
                audio.samples[round(piece.start_s * SAMPLE_RATE_HZ) : round(piece.end_s * SAMPLE_RATE_HZ)],
                piece_transcript,
                piece.start_s,
                should_stop=should_stop,
            )
        )
