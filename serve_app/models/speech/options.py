"""Options of speech models other than Whisper: sections of `args:` in a config file.

Those of the diarizer are here too: importing anything of `models.diarization` imports torch, which the graph must not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import MaxLen, MinLen

from serve_app.models.options import Count, Name, Options
from serve_app.models.speech.backends import BackendName

PINNED_PIPELINE = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)@(?P<revision>[0-9a-f]{40})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzerOptions(Options):
    """Decoding, voice activity, acoustics.

    Attributes:
        num_threads: calls that one replica runs at the same time.
    """

    num_threads: Count = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendChoice(Options):
    """Which speech backend is used.

    Attributes:
        video_order: backends of video jobs: the first that is healthy and transcribes the job's language. Uploads to
            `/transcribe` that name none use the order of the default.
    """

    video_order: Annotated[tuple[BackendName, ...], MinLen(1)] = tuple(BackendName)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiarizerOptions(Options):
    """Diarization.

    Attributes:
        device: `cpu`, `cuda`, `cuda:N`, `mps`, or `auto`: a GPU where the deployment was given one (`num_gpus`), else
            the CPU. None: the value of `DEVICE`.
        num_threads: of torch in one replica; threads × replicas must not exceed the cores.
        segmentation: the network that finds local speakers: a name of the model catalog, a path, or
            `embedded:whisperx-segmentation`, which also replaces a named one that can't be loaded.
        embeddings: one or two networks that distinguish voices: `campplus-zh-en` (or a path) and
            `embedded:speaker-embedding`. The similarities of two are added. One that can't be loaded is skipped.
        model_id: pyannote pipeline that replaces both: ORG/NAME@COMMIT of the Hugging Face hub, with all 40 digits of
            the commit, or an absolute folder. Its checkpoints are pickles that may run code: it needs `allow_code`.
        allow_code: whether code in the checkpoints of `model_id` may run, with all rights of this service.
        cpu_fallback: beside GPU replicas, keep a CPU deployment (`DiarizerCPU`) for jobs with `enable_gpu: false` and
            for files that run out of GPU memory.
    """

    device: str | None = None
    num_threads: Count = 1
    segmentation: Name = "pyannote-segmentation-3.0"
    embeddings: Annotated[tuple[str, ...], MinLen(1), MaxLen(2)] = ("campplus-zh-en",)
    model_id: str | None = None
    allow_code: bool = False
    cpu_fallback: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError where a pipeline of the hub may run code that nobody has allowed."""
        if self.model_id is not None:
            require_allowed_pipeline(self.model_id, self.allow_code)


def require_allowed_pipeline(model_id: str, allow_code: bool) -> None:
    """Raise ValueError unless code of a pipeline is allowed, and the pipeline is one that can't be replaced."""
    if not allow_code:
        raise ValueError(
            "checkpoints of pyannote pipelines may run code: set diarizer.allow_code: true if you trust this one, or "
            "leave diarizer.model_id out"
        )
    if not PINNED_PIPELINE.fullmatch(model_id) and not model_id.startswith(("/", "~")):
        raise ValueError(
            "diarizer.model_id must be pinned: ORG/NAME@COMMIT with all 40 digits of the commit, or an absolute folder"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignerOptions(Options):
    """Forced alignment of words.

    Attributes:
        models: language → a CTC model: Hugging Face id, folder, URL, name of the model catalog, or `whisperx` for that
            library's choice; without any, there is no deployment.
        device: as the diarizer's.
        num_threads: of torch in one replica.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    num_threads: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionOptions(Options):
    """Emotion recognition.

    Attributes:
        model_id: Hugging Face id or folder of an audio-classification model; without one, there is no deployment.
        device: as the diarizer's.
        num_threads: of torch in one replica.
        cpu_fallback: as the diarizer's (`EmotionRecognizerCPU`).
    """

    model_id: str | None = None
    device: str | None = None
    num_threads: Count = 1
    cpu_fallback: bool = False
