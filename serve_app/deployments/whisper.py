"""`FasterWhisper`, `TransformersWhisper`, `OpenAIWhisper`: deployments of the Whisper backends over one checkpoint.

A replica batches pieces of several requests; a long file's pieces spread over all replicas of the backend. Memory and
cold start: docs/models/whisper.md.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray import serve

from serve_app.deployments.protocols import RecognizerInfo
from serve_app.deployments.replica.batching import Batcher
from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.errors import GpuMemoryError, ProcessingError
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.backend import WHISPER_MICRO, SpeechPiece
from serve_app.models.speech.whisper.options import WhisperArgs
from serve_app.results import SpeechRegion, SpeechTask, Transcript
from serve_app.sentences import Sentence
from serve_app.services import ReplicaModel

if TYPE_CHECKING:
    from serve_app.models.speech.whisper.loading import LoadedWhisper

logger = logging.getLogger("ray.serve")

_OF_WHISPER_MICRO = Sentence(
    "whisper-micro knows a few hundred words of synthetic speech: real recordings need another model"
)


class WhisperReplica:
    """A replica of one backend; `options` are those of all three."""

    backend_name: BackendName

    def __init__(self, options: WhisperArgs, environment: ModelEnvironment) -> None:
        from serve_app.models.speech.whisper.loading import load_whisper

        self._models, self._device = options.models, replica_device(options.device)
        to_load = options.to_load(self.backend_name, self._device, environment)
        self._model: LoadedModel[LoadedWhisper] = LoadedModel(
            type(self).__name__,
            lambda: load_whisper(self.backend_name, options.models, to_load),
            lambda loaded: loaded.backend.model_version,
        )
        for note in loaded.notes if (loaded := self._model.or_none) else ():
            logger.warning("%s", note)
        self._threads = WorkerThreads(1, self.backend_name)
        self._pieces = Batcher(
            self._transcribed,
            max_items=to_load.batch_size,
            wait_s=to_load.batch_wait_s,
            isolate=(ProcessingError, GpuMemoryError),
        )

    def check_health(self) -> None:
        """Raise once the model has been missing for a while."""
        self._model.check_health()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        loaded = self._model.or_none
        return self._model.describe(
            spec=loaded.spec if loaded else self._models[0],
            engine=str(self.backend_name),
            device=self._device,
            notes=loaded.notes if loaded else (),
        )

    async def prepare(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> RecognizerInfo:
        """Return the loaded model's facts.

        Raises:
            TaskUnsupported: the model can't translate.
            LanguageUnsupported: it does not transcribe the language.
            ModelLoadingError: no model could be loaded.
        """
        loaded = self._model.get()
        loaded.backend.check_task(task)
        loaded.backend.check_language(language)
        is_stand_in = loaded.spec == WHISPER_MICRO
        return RecognizerInfo(
            loaded.backend.model_version,
            (*loaded.notes, _OF_WHISPER_MICRO) if is_stand_in else loaded.notes,
            self._model.uptime_s,
            loaded.backend.can_detect_languages,
            is_stand_in,
        )

    async def detect_languages(self, audio: Any, pieces: Sequence[SpeechRegion]) -> list[dict[str, float]]:
        """Return the probability of each language for each piece of a file; errors as `transcribe`."""
        backend = self._model.get().backend
        cut = [SpeechPiece(audio.cut(piece), piece.start_s) for piece in pieces]
        return await self._threads.run(lambda should_stop: backend.detect_languages(cut, should_stop=should_stop))

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

        Args:
            audio: the file.
            piece: at most 30 s.
            language: two-letter code, or "auto".
            prompt: text that the piece continues, or that has its spelling.
            task: transcribe, or translate into English.
            speech: where somebody speaks in the file; None: detected in the piece.
            likely_language: with "auto": the file's language, which the piece has unless it is surely in another.

        Raises:
            TaskUnsupported: the loaded model can't translate.
            LanguageUnsupported: the loaded model does not transcribe this language.
            ModelLoadingError: no model could be loaded.
            GpuMemoryError: out of GPU memory, with this piece alone too.
            ProcessingError: the model failed.
        """
        backend = self._model.get().backend
        backend.check_task(task)
        backend.check_language(language)
        return await self._pieces.submit(
            SpeechPiece(
                audio.cut(piece),
                piece.start_s,
                language,
                prompt,
                task,
                None if speech is None else tuple(speech),
                likely_language,
            )
        )

    async def _transcribed(self, pieces: list[SpeechPiece]) -> list[Transcript]:
        backend = self._model.get().backend
        return list(await self._threads.run(lambda should_stop: backend.transcribe(pieces, should_stop=should_stop)))


@serve.deployment(name="FasterWhisper", max_ongoing_requests=32)
class FasterWhisper(WhisperReplica):
    """Whisper with CTranslate2 (faster-whisper): the fastest on a CPU and the smallest on a GPU."""

    backend_name = BackendName.FASTER_WHISPER


@serve.deployment(name="TransformersWhisper", max_ongoing_requests=32)
class TransformersWhisper(WhisperReplica):
    """Whisper with Hugging Face transformers: loads any checkpoint as it is published."""

    backend_name = BackendName.TRANSFORMERS


@serve.deployment(name="OpenAIWhisper", max_ongoing_requests=32)
class OpenAIWhisper(WhisperReplica):
    """Whisper with its authors' code: the reference for the other two."""

    backend_name = BackendName.OPENAI_WHISPER
