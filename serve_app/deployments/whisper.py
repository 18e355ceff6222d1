"""Deployments: the Whisper backends, side by side, each over the same checkpoint.

All three take the same calls as `SpeechRecognizer`. Pieces of several requests are batched inside a replica, and a
long file's pieces spread over all replicas of the backend.

Memory and cold start: see docs/models/whisper.md for what was measured of each.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray import serve

from serve_app.deployments.batching import Batcher
from serve_app.deployments.load_failure import LoadFailure
from serve_app.deployments.logs import join_serve_log
from serve_app.deployments.worker_threads import WorkerThreads
from serve_app.errors import GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.speech.whisper import SAMPLE_RATE_HZ, BackendName, SpeechPiece
from serve_app.results import SpeechRegion, SpeechTask, Transcript

if TYPE_CHECKING:
    from serve_app.models.speech.whisper_loading import LoadedWhisper
    from serve_app.models.speech.whisper_options import WhisperOptions

logger = logging.getLogger("ray.serve")

WHISPER_MICRO = "embedded:whisper-micro"
_OF_WHISPER_MICRO = "whisper-micro knows a few hundred words of synthetic speech: real recordings need another model"


@dataclass(frozen=True, slots=True)
class RecognizerInfo:
    """What a recogniser's replica tells of itself.

    Attributes:
        model_version: what it loaded.
        notes: models that it could not load before that one, and why; what to know of that one.
        uptime_s: since its constructor began.
    """

    model_version: str
    notes: tuple[str, ...]
    uptime_s: float


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
        from serve_app.models.speech.whisper_loading import load_whisper

        join_serve_log()
        self._failure = LoadFailure()
        self._threads = WorkerThreads(1, self.backend_name)
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
        self._pieces = Batcher(self._transcribed, max_items=batching.max_pieces, wait_s=batching.wait_s)

    def check_health(self) -> None:
        """Raise once the failure to load a model has been told for a while."""
        self._failure.check_health()

    async def prepare(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> RecognizerInfo:
        """Return what is loaded.

        Raises:
            TaskUnsupported: what is loaded can't translate.
            LanguageUnsupported: it can't hear the language.
            ModelLoadingError: nothing is loaded.
        """
        loaded = self._ready()
        loaded.backend.check_task(task)
        loaded.backend.check_language(language)
        notes = (*loaded.notes, _OF_WHISPER_MICRO) if loaded.spec == WHISPER_MICRO else loaded.notes
        return RecognizerInfo(loaded.backend.model_version, notes, self._failure.uptime_s)

    async def transcribe(
        self,
        audio: Any,
        piece: SpeechRegion,
        language: str,
        prompt: str | None = None,
        task: SpeechTask = SpeechTask.TRANSCRIBE,
    ) -> Transcript:
        """Return what is said in one piece of `media.decode.DecodedAudio`; times are from the start of the file.

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
        samples = audio.samples[round(piece.start_s * SAMPLE_RATE_HZ) : round(piece.end_s * SAMPLE_RATE_HZ)]
        return await self._pieces.submit(SpeechPiece(samples, piece.start_s, language, prompt, task))

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
