"""Protocols of the deployments: the methods that flows call, with their types.

A deployment implements several of them, and several deployments may implement one. `serve_app.flows.handles` calls
their methods over Ray's handles: `await call(placed, Diarizes.diarize, audio)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serve_app.errors import ServeAppError
from serve_app.results import (
    Caption,
    Diarization,
    Emotions,
    EncodedMusic,
    MasteredMusic,
    MusicPlan,
    PictureFeatures,
    PreparedPicture,
    RenderedMusic,
    SpeechActivity,
    SpeechRegion,
    SpeechTask,
    Transcript,
)
from serve_app.services import DrumOptions, DrumTranscription, ImageClassification, ImageEmbedding, ReplicaModel

if TYPE_CHECKING:
    from serve_app.media.acoustics import FrameFeatures
    from serve_app.media.samples import DecodedAudio

_DRUM_DEFAULTS = DrumOptions()


@dataclass(frozen=True, slots=True)
class RecognizerInfo:
    """Facts of a speech backend's replica.

    Attributes:
        model_version: of the loaded model.
        notes: the models that could not be loaded, and why; the loaded model's limits.
        uptime_s: since its constructor began.
        can_detect_languages: whether it implements `DetectsLanguages`.
        is_stand_in: whether the model is whisper-micro, which demonstrates and tests the backends.
    """

    model_version: str
    notes: tuple[str, ...]
    uptime_s: float
    can_detect_languages: bool = False
    is_stand_in: bool = False


class AnalyzesAudio(Protocol):
    """AudioAnalyzer."""

    async def length_s(self, source: str) -> float | None:
        """Return the seconds of sound that an artefact's header tells; None where it tells none."""
        ...

    async def decode(self, source: str | bytes, *, audio_track: int | None = None) -> DecodedAudio:
        """Return the audio of an artefact or of a file's bytes."""
        ...

    async def detect_speech(self, audio: DecodedAudio) -> SpeechActivity:
        """Return where somebody speaks."""
        ...

    async def measure(self, audio: DecodedAudio) -> FrameFeatures:
        """Return the acoustic features of the whole file, frame by frame."""
        ...


class TranscribesSpeech(Protocol):
    """The Whisper backends and pocketsphinx."""

    async def prepare(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> RecognizerInfo:
        """Return the replica's facts; LanguageUnsupported, TaskUnsupported, ModelLoadingError."""
        ...

    async def transcribe(
        self,
        audio: DecodedAudio,
        piece: SpeechRegion,
        language: str,
        prompt: str | None = None,
        task: SpeechTask = SpeechTask.TRANSCRIBE,
        speech: Sequence[SpeechRegion] | None = None,
        likely_language: str | None = None,
    ) -> Transcript:
        """Return the words of one piece of a file; times are from the start of the file."""
        ...


class DetectsLanguages(TranscribesSpeech, Protocol):
    """The Whisper backends."""

    async def detect_languages(self, audio: DecodedAudio, pieces: Sequence[SpeechRegion]) -> list[dict[str, float]]:
        """Return the probability of each language for each piece of a file."""
        ...


class Aligns(Protocol):
    """Aligner."""

    async def align(self, audio: DecodedAudio, piece_transcript: Transcript, piece: SpeechRegion) -> Transcript:
        """Return the transcript of one piece of a file with aligned words."""
        ...


class Diarizes(Protocol):
    """Diarizer."""

    async def diarize(
        self,
        audio: DecodedAudio,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> Diarization:
        """Return who spoke when."""
        ...

    def diarize_with_progress(
        self,
        audio: DecodedAudio,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> AsyncIterator[float | Diarization]:
        """Yield the share that is done, rising; at last who spoke when."""
        ...


class RecognizesEmotion(Protocol):
    """EmotionRecognizer."""

    async def recognize(self, audio: DecodedAudio, regions: Sequence[SpeechRegion]) -> Emotions:
        """Return the emotions of each region of a file."""
        ...


class TranscribesDrums(Protocol):
    """DrumTranscriber."""

    async def transcribe(
        self, source: str | bytes, options: DrumOptions = _DRUM_DEFAULTS, filename: str = "drums"
    ) -> DrumTranscription:
        """Return the strokes of a recording."""
        ...


class ClassifiesImages(Protocol):
    """ContainerClassifier and BeverageDetector."""

    async def classify_many(self, images: Sequence[bytes]) -> list[ImageClassification | ServeAppError]:
        """Return the scores, or the error, of each picture, in order."""
        ...

    async def embed_many(self, images: Sequence[bytes]) -> list[ImageEmbedding | ServeAppError]:
        """Return the features, or the error, of each picture, in order."""
        ...


class CaptionsPictures(Protocol):
    """Captioner."""

    async def prepare(self, image: bytes) -> PreparedPicture:
        """Return a caller's picture, cleaned and measured; ImageUnreadable, ImageTooLarge."""
        ...

    async def caption(self, jpeg: bytes, features: PictureFeatures) -> Caption:
        """Return what a prepared picture shows, by the first captioner of the configuration that answers.

        Raises:
            ModelError: none of them answers.
        """
        ...


class MakesMusic(Protocol):
    """MusicGenerator."""

    async def start(self, engine: str, plan: MusicPlan) -> str | None:
        """Begin a remote engine's task and return its id, to be stored before `render`; None: the engine has none."""
        ...

    def render(self, engine: str, plan: MusicPlan, task: str | None = None) -> AsyncIterator[float | RenderedMusic]:
        """Yield the share that is done, between 0 and 1, now and then, and at last the piece.

        Args:
            engine: one of the configuration's.
            plan: of the piece.
            task: what `start` returned; the remote engine is asked for it before a new one is begun.

        Raises:
            MusicRefused: the engine will not make this piece.
            ModelLoadingError: the engine has no model, or is not configured.
            GpuMemoryError: it ran out of GPU memory.
            ProcessingError: it failed, or did not end in time.
        """
        ...

    async def master(self, audio: bytes, plan: MusicPlan) -> MasteredMusic:
        """Return a rendered piece, trimmed to its length, faded, and as loud as all others; and what is wrong."""
        ...

    async def encode(self, audio: bytes) -> EncodedMusic:
        """Return a mastered piece as files."""
        ...


class Describes(Protocol):
    """Every deployment of a model that `GET /models` lists."""

    async def describe(self) -> ReplicaModel:
        """Return the model of this replica."""
        ...


class Reloads(Describes, Protocol):
    """Deployments whose weights can be replaced while they serve."""

    async def reload(self) -> ReplicaModel:
        """Load the weights again; return the model that then serves."""
        ...


class HostsModels(Protocol):
    """Ingress, for the models that its own process has loaded."""

    async def describe_model(self, name: str) -> ReplicaModel:
        """Return a model of this process."""
        ...

    async def reload_model(self, name: str) -> ReplicaModel:
        """Load the weights of a model of this process again; return the model that then serves."""
        ...
