"""Protocols of the deployments: the methods that flows call, with their types.

A deployment serves several of them, and several deployments may serve one. `serve_app.flows.handles` calls their
methods over Ray's handles: `await call(placed, Diarizes.diarize, audio)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serve_app.errors import ServeAppError
from serve_app.results import Diarization, Emotions, SpeechActivity, SpeechRegion, SpeechTask, Transcript
from serve_app.services import DrumOptions, DrumTranscription, ImageClassification, ReplicaModel

if TYPE_CHECKING:
    from serve_app.media.acoustics import FrameFeatures
    from serve_app.media.decode import DecodedAudio

_DRUM_DEFAULTS = DrumOptions()


@dataclass(frozen=True, slots=True)
class RecognizerInfo:
    """What a replica of a speech backend reports about itself.

    Attributes:
        model_version: what it loaded.
        notes: models that it could not load before that one, and why; limits of that one.
        uptime_s: since its constructor began.
        can_detect_languages: whether it serves `DetectsLanguages`.
        is_stand_in: whether it serves whisper-micro, which is there to show and test the backends.
    """

    model_version: str
    notes: tuple[str, ...]
    uptime_s: float
    can_detect_languages: bool = False
    is_stand_in: bool = False


class AnalyzesAudio(Protocol):
    """AudioAnalyzer."""

    async def decode(self, source: str | bytes) -> DecodedAudio:
        """Return the sound of an artefact or of a file's bytes."""
        ...

    async def detect_speech(self, audio: DecodedAudio) -> SpeechActivity:
        """Return where somebody speaks."""
        ...

    async def measure(self, audio: DecodedAudio) -> FrameFeatures:
        """Return how the whole file sounds, frame by frame."""
        ...


class TranscribesSpeech(Protocol):
    """The Whisper backends and pocketsphinx."""

    async def prepare(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> RecognizerInfo:
        """Return what is loaded; LanguageUnsupported, TaskUnsupported, ModelLoadingError."""
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
        """Return what is said in one piece of a file; times are from the start of the file."""
        ...


class DetectsLanguages(TranscribesSpeech, Protocol):
    """The Whisper backends."""

    async def detect_languages(self, audio: DecodedAudio, pieces: Sequence[SpeechRegion]) -> list[dict[str, float]]:
        """Return the probability of each language for each piece of a file."""
        ...


class Aligns(Protocol):
    """Aligner."""

    async def align(self, audio: DecodedAudio, piece_transcript: Transcript, piece: SpeechRegion) -> Transcript:
        """Return the transcript of one piece of a file with its words timed anew."""
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


class RecognizesEmotion(Protocol):
    """EmotionRecognizer."""

    async def recognize(self, audio: DecodedAudio, regions: Sequence[SpeechRegion]) -> Emotions:
        """Return one answer for each region of a file."""
        ...


class TranscribesDrums(Protocol):
    """DrumTranscriber."""

    async def transcribe(
        self, source: str | bytes, options: DrumOptions = _DRUM_DEFAULTS, filename: str = "drums"
    ) -> DrumTranscription:
        """Return what is played in a recording."""
        ...


class ClassifiesImages(Protocol):
    """ContainerClassifier and BeverageDetector."""

    async def classify_many(self, images: Sequence[bytes]) -> list[ImageClassification | ServeAppError]:
        """Return an answer for each picture, in order; what one of them failed with stands in its place."""
        ...


class Describes(Protocol):
    """Every deployment of a model that `GET /models` lists."""

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        ...


class Reloads(Describes, Protocol):
    """Deployments whose weights can be replaced while they serve."""

    async def reload(self) -> ReplicaModel:
        """Read the weights anew; return what serves then."""
        ...


class HostsModels(Protocol):
    """Ingress, for the models that its own process has loaded."""

    async def describe_model(self, name: str) -> ReplicaModel:
        """Return what this process serves of a model."""
        ...

    async def reload_model(self, name: str) -> ReplicaModel:
        """Have this process read a model's weights anew; return what serves then."""
        ...
