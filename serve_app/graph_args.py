"""`GraphArgs`: arguments of the application in a Serve config file (`args:`), one section of options a deployment.

Each section is declared beside the code that uses it. Replicas, GPU fractions, concurrency and queue bounds stand under
`deployments:` in the same file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from serve_app.models.captions.options import CaptionerOptions
from serve_app.models.drums.options import DrumModelOptions
from serve_app.models.images.options import ClassifierArgs
from serve_app.models.music.options import MusicOptions
from serve_app.models.options import Options
from serve_app.models.speech.options import (
    AlignerOptions,
    AnalyzerOptions,
    BackendChoice,
    DiarizerOptions,
    EmotionOptions,
)
from serve_app.models.speech.whisper.options import WhisperArgs
from serve_app.workers.options import IngressOptions, RunnerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageArgs(Options):
    """The image classifiers.

    Attributes:
        container: tells reusable containers from disposable ones.
        beverage: tells whether a container holds a drink.
    """

    container: ClassifierArgs = field(default_factory=ClassifierArgs)
    beverage: ClassifierArgs = field(default_factory=ClassifierArgs)


class GraphArgs(BaseModel):
    """Arguments of the application in a Serve config file.

    Attributes:
        analyzer: decoding, voice activity, acoustics.
        speech: which speech backend is used.
        whisper: the Whisper backends.
        aligner: forced alignment of words.
        diarizer: who speaks when.
        emotion: how speech sounds.
        drums: drum transcription.
        images: the image classifiers.
        captions: descriptions of pictures, for music.
        music: music from pictures.
        job_runner: the job queue's consumers.
        ingress: work that HTTP callers wait for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    analyzer: AnalyzerOptions = AnalyzerOptions()
    speech: BackendChoice = BackendChoice()
    whisper: WhisperArgs = WhisperArgs()
    aligner: AlignerOptions = AlignerOptions()
    diarizer: DiarizerOptions = DiarizerOptions()
    emotion: EmotionOptions = EmotionOptions()
    drums: DrumModelOptions = DrumModelOptions()
    images: ImageArgs = ImageArgs()
    captions: CaptionerOptions = CaptionerOptions()
    music: MusicOptions = MusicOptions()
    job_runner: RunnerOptions = RunnerOptions()
    ingress: IngressOptions = IngressOptions()
