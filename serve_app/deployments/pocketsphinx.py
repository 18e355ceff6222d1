"""`SpeechRecognizer`: deployment of the embedded English recogniser (pocketsphinx)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import serve

from serve_app.deployments.protocols import RecognizerInfo
from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.results import SpeechRegion, SpeechTask, Transcript
from serve_app.services import ReplicaModel


@serve.deployment(name="SpeechRecognizer")
class SpeechRecognizer:
    """Transcribes pieces of decoded audio, one at a time; more at once need more replicas."""

    def __init__(self) -> None:
        from serve_app.models.speech.pocketsphinx_recognizer import PocketsphinxRecognizer

        self._model = LoadedModel("SpeechRecognizer", PocketsphinxRecognizer, lambda model: model.model_version)
        self._threads = WorkerThreads(1, "recognizer")

    def check_health(self) -> None:
        """Raise once the model has been missing for a while."""
        self._model.check_health()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        return self._model.describe(spec="embedded:pocketsphinx-en-us", engine="pocketsphinx", device="cpu")

    async def check_language(self, language: str) -> None:
        """Raise LanguageUnsupported, which names the backends for it, for all but `auto` and `en`."""
        self._model.get().check_language(language)

    async def prepare(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> RecognizerInfo:
        """Return the model's facts; LanguageUnsupported as `check_language`, TaskUnsupported for a translation."""
        recognizer = self._model.get()
        recognizer.check_task(task)
        recognizer.check_language(language)
        return RecognizerInfo(recognizer.model_version, (), self._model.uptime_s)

    async def transcribe(
        self,
        audio: Any,
        piece: SpeechRegion,
        language: str,
        prompt: str | None = None,
        task: SpeechTask = SpeechTask.TRANSCRIBE,
        speech: Sequence[SpeechRegion] | None = None,
        likely_language: str | None = None,
    ) -> Transcript:
        """Return the words of one piece of `media.samples.DecodedAudio`; times are from the start of the file.

        The language model is fixed: the prompt, the detected speech and the likely language change nothing.
        """
        recognizer = self._model.get()
        recognizer.check_task(task)
        return await self._threads.run(
            lambda should_stop: recognizer.transcribe(
                audio.cut(piece), offset_s=piece.start_s, language=language, should_stop=should_stop
            )
        )
