"""`Aligner`: deployment of forced alignment (whisperx), which times words."""

from __future__ import annotations

from typing import Any

from ray import serve

from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.options import AlignerOptions
from serve_app.results import SpeechRegion, Transcript


@serve.deployment(name="Aligner")
class Aligner:
    """Times the words of one piece of decoded audio at a time; more at once need more replicas.

    Batching: none, as pieces of different length would pad each other. Cold start: the libraries; a language's model is
    loaded with its first piece. Memory and speed: docs/operate/running.md.
    """

    def __init__(self, options: AlignerOptions, environment: ModelEnvironment) -> None:
        from serve_app.models.speech.alignment.aligner import ForcedAligner

        self._model = LoadedModel(
            "Aligner",
            lambda: ForcedAligner(
                options.models,
                device=replica_device(options.device),
                num_threads=options.num_threads,
                cache_dir=environment.models_dir,
                hf_token=environment.hf_token,
            ),
            lambda aligner: ", ".join(aligner.languages),
        )
        self._threads = WorkerThreads(1, "aligner")

    def check_health(self) -> None:
        """Raise once the device has been missing for a while."""
        self._model.check_health()

    async def languages(self) -> list[str]:
        """Return the codes of the languages that have a model."""
        return list(self._model.get().languages)

    async def align(self, audio: Any, piece_transcript: Transcript, piece: SpeechRegion) -> Transcript:
        """Return the transcript of one piece of `media.samples.DecodedAudio` with aligned words.

        Raises:
            ModelLoadingError: the language's model can't be loaded, or the device is not there.
            GpuMemoryError: the device has no memory left.
            ProcessingError: the model failed.
        """
        aligner = self._model.get()
        return await self._threads.run(
            lambda should_stop: aligner.align(
                audio.cut(piece), piece_transcript, piece.start_s, should_stop=should_stop
            )
        )
