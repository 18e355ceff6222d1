"""`EmotionRecognizer`: deployment of an audio-classification model of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import serve

from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.options import EmotionOptions
from serve_app.results import Emotions, SpeechRegion


@serve.deployment(name="EmotionRecognizer")
class EmotionRecognizer:
    """Classifies stretches of decoded audio, one call at a time; `model_id` must be given.

    Batching: within a call, up to 8 stretches of similar length and 60 s of audio, padding included; one by one where
    the network was trained without a mask (wav2vec2-base). Cold start: the libraries and the model. Memory and speed:
    docs/operate/running.md.
    """

    def __init__(self, options: EmotionOptions, environment: ModelEnvironment) -> None:
        from serve_app.models.speech.emotion import SpeechEmotionRecognizer

        self._model = LoadedModel(
            "EmotionRecognizer",
            lambda: SpeechEmotionRecognizer(
                options.model_id or "",
                device=replica_device(options.device),
                num_threads=options.num_threads,
                cache_dir=environment.models_dir,
                hf_token=environment.hf_token,
            ),
            lambda recognizer: recognizer.model_version,
        )
        self._threads = WorkerThreads(1, "emotion")

    def check_health(self) -> None:
        """Raise once the model has been missing for a while."""
        self._model.check_health()

    async def recognize(self, audio: Any, regions: Sequence[SpeechRegion]) -> Emotions:
        """Return the emotions of each region of `media.samples.DecodedAudio`; None for a region that is too short.

        Raises:
            ModelLoadingError: the model can't be loaded.
            GpuMemoryError: the device has no memory left, for one region alone too.
            ProcessingError: the model failed.
        """
        recognizer = self._model.get()
        scores = await self._threads.run(
            lambda should_stop: recognizer.recognize(audio.samples, regions, should_stop=should_stop)
        )
        return Emotions(tuple(scores), recognizer.model_version)
