"""Deployments: the Whisper backends, side by side, each over the same checkpoint.

All three take the same calls as `SpeechRecognizer`. Pieces of several requests are batched inside a replica, and a
long file's pieces spread over all replicas of the backend.

Memory and cold start: see docs/models/whisper.md for what was measured of each.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray import serve

from serve_app.deployments.protocols import RecognizerInfo
from serve_app.deployments.replica.batching import Batcher
from serve_app.deployments.replica.facts import replica_facts
from serve_app.deployments.replica.load_failure import LoadFailure
from serve_app.deployments.replica.logs import join_serve_log
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.errors import GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.speech.whisper.backend import SAMPLE_RATE_HZ, WHISPER_MICRO, BackendName, SpeechPiece
from serve_app.results import SpeechRegion, SpeechTask, Transcript
from serve_app.services import ReplicaModel

if TYPE_CHECKING:
    from serve_app.models.speech.whisper.loading import LoadedWhisper
    from serve_app.models.speech.whisper.options import WhisperOptions

logger = logging.getLogger("ray.serve")

_OF_WHISPER_MICRO = "whisper-micro knows a few hundred words of synthetic speech: real recordings need another model"


@dataclass(frozen=True, slots=True)
class Batching:
    """How a replica gathers pieces.

    Attributes:
        max_pieces: in one call of the model.
        wait_s: for more of them, once there is one.
    """

    max_pieces: int = 8
    wait_s: float = 0.01


class WhisperReplica:
    """What the backends' deployments have in common.

    What happens where no model can be loaded: `load_failure`.

    Args:
        models: specs of checkpoints (see `models.weights`), the first that loads is served.
        options: device, number format, threads.
        batching: of pieces.
    """

    backend_name: BackendName

    def __init__(self, models: Sequence[str], options: WhisperOptions, batching: Batching) -> None:
        from serve_app.models.speech.whisper.loading import load_whisper

        join_serve_log()
        self._failure = LoadFailure()
        self._threads = WorkerThreads(1, self.backend_name)
        self._models, self._device = models, options.device
        self._loaded: LoadedWhisper | None = None
        try:
            self._loaded = load_whisper(self.backend_name, models, options)
        except ModelLoadingError as error:
            self._failure.error = error
            logger.error("%s can't load any of its models: %s", self.backend_name, error.detail)
        else:
            for note in self._loaded.notes:
                logger.warning("%s", note)
            logger.info(
                "%s serves %s after %.1f s",
                self.backend_name,
                self._loaded.backend.model_version,
                self._failure.uptime_s,
            )
        self._loaded_at = time.time()
        self._pieces = Batcher(self._transcribed, max_items=batching.max_pieces, wait_s=batching.wait_s)

    def check_health(self) -> None:
        """Raise once the failure to load a model has been told for a while."""
        self._failure.check_health()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        loaded = self._loaded
        return replica_facts(
            spec=loaded.spec if loaded else self._models[0],
            model_version=loaded.backend.model_version if loaded else None,
            engine=str(self.backend_name),
            device=self._device,
            loaded_at=self._loaded_at,
            notes=loaded.notes if loaded else (),
            failure=self._failure.error.detail if self._failure.error else None,
        )

    async def prepare(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> RecognizerInfo:
        """Return what is loaded.

        Raises:
            TaskUnsupported: what is loaded can't translate.
            LanguageUnsupported: it does not transcribe the language.
            ModelLoadingError: nothing is loaded.
        """
        loaded = self._ready()
        loaded.backend.check_task(task)
        loaded.backend.check_language(language)
        is_stand_in = loaded.spec == WHISPER_MICRO
        return RecognizerInfo(
            loaded.backend.model_version,
            (*loaded.notes, _OF_WHISPER_MICRO) if is_stand_in else loaded.notes,
            self._failure.uptime_s,
            loaded.backend.can_detect_languages,
            is_stand_in,
        )

    async def detect_languages(self, audio: Any, pieces: Sequence[SpeechRegion]) -> list[dict[str, float]]:
        """Return the probability of each language for each piece of a file; errors as `transcribe`."""
        backend = self._ready().backend
        shown = [SpeechPiece(_samples(audio, piece), piece.start_s) for piece in pieces]
        return await self._threads.run(lambda should_stop: backend.detect_languages(shown, should_stop=should_stop))

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
        """Return what is said in one piece of `media.decode.DecodedAudio`; times are from the start of the file.

        Args:
            audio: the file.
            piece: what to transcribe, at most 30 s.
            language: two-letter code, or "auto".
            prompt: text that the piece continues, or whose spelling it shares.
            task: whether its words are wanted, or their translation into English.
            speech: where somebody speaks in the file; None: it is looked for in the piece.
            likely_language: with "auto": the file's language, which the piece has unless it is surely in another.

        Raises:
            TaskUnsupported: the loaded model can't translate.
            LanguageUnsupported: the loaded model does not hear this language.
            ModelLoadingError: no model could be loaded.
            GpuMemoryError: out of GPU memory, with this piece alone too.
            ProcessingError: the model failed.
        """
        backend = self._ready().backend
        backend.check_task(task)
        backend.check_language(language)
        return await self._pieces.submit(
            SpeechPiece(
                _samples(audio, piece),
                piece.start_s,
                language,
                prompt,
                task,
                None if speech is None else tuple(speech),
                likely_language,
            )
        )

    async def _transcribed(self, pieces: list[SpeechPiece]) -> list[Transcript | Exception]:
        try:
            return await self._heard(pieces)
        except (ProcessingError, GpuMemoryError) as error:
            if len(pieces) == 1:
                return [error]
        # one piece is at fault, or all at once were too many: the others must not suffer from it
        return [answer for piece in pieces for answer in await self._transcribed([piece])]

    async def _heard(self, pieces: list[SpeechPiece]) -> list[Transcript | Exception]:
        backend = self._ready().backend
        return list(await self._threads.run(lambda should_stop: backend.transcribe(pieces, should_stop=should_stop)))

    def _ready(self) -> LoadedWhisper:
        if self._loaded is None:
            raise self._failure.raised()
        return self._loaded


def _samples(audio: Any, piece: SpeechRegion) -> Any:
    return audio.samples[round(piece.start_s * SAMPLE_RATE_HZ) : round(piece.end_s * SAMPLE_RATE_HZ)]


@serve.deployment(name="FasterWhisper", max_ongoing_requests=32)
class FasterWhisper(WhisperReplica):
    """Whisper by CTranslate2 (faster-whisper): the fastest on a CPU and the smallest on a GPU."""

    backend_name = BackendName.FASTER_WHISPER


@serve.deployment(name="TransformersWhisper", max_ongoing_requests=32)
class TransformersWhisper(WhisperReplica):
    """Whisper by Hugging Face transformers: takes any checkpoint as it is published."""

    backend_name = BackendName.TRANSFORMERS


@serve.deployment(name="OpenAIWhisper", max_ongoing_requests=32)
class OpenAIWhisper(WhisperReplica):
    """Whisper by its authors' own code: the reference that the others are held to."""

    backend_name = BackendName.OPENAI_WHISPER
