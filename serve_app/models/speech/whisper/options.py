"""Options of Whisper: the section of `args:`, and those that one backend is loaded with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from serve_app.models.options import Count, ModelEnvironment, Options, PositiveSeconds, WaitSeconds
from serve_app.models.speech.backends import BackendName


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions(Options):
    """One Whisper backend; replicas, GPU fraction and queue stand under `deployments:`.

    Attributes:
        enabled: false removes it from the graph.
        batch_size: pieces encoded and decoded in one call of the model. On 2 cores more than 8 gain nothing; on a GPU
            16 pieces of large-v3 take 2 GB more than 8.
        batch_wait_s: how long a free model waits for more pieces.
        num_threads: CPU threads of one replica; threads × replicas must not exceed the cores.
        beam_size: hypotheses kept while decoding; 1: greedy; None: 2 for faster-whisper (fewer errors for a few
            percent more time, docs/models/whisper.md) and 1 for the others, which search window by window.
        cpu_fallback: beside GPU replicas, keep a CPU deployment (its name ends in CPU) for requests with
            `enable_gpu: false` and for pieces that run out of GPU memory.
    """

    enabled: bool = True
    batch_size: Count = 8
    batch_wait_s: WaitSeconds = 0.01
    num_threads: Count = 1
    beam_size: Count | None = None
    cpu_fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperOptions(BackendOptions):
    """A backend's options, and where and how it computes.

    Attributes:
        cache_dir: `<state dir>/models`: downloaded, completed and converted checkpoints.
        device: as in `models.devices`: "auto", "cpu", "cuda", "cuda:N", "mps".
        compute_type: number format, by CTranslate2's names; None, "default" and "auto": the backend chooses.
        hf_token: opens gated models on the Hugging Face hub.
        model_mirror: URL or folder of a mirror of the catalog's models.
    """

    cache_dir: Path
    device: str = "auto"
    compute_type: str | None = None
    hf_token: str | None = field(default=None, repr=False)
    model_mirror: str | None = field(default=None, repr=False)

    @property
    def chosen_compute_type(self) -> str | None:
        """The configured number format; None: float16 on a GPU, float32 on a CPU."""
        return None if self.compute_type in (None, "default", "auto") else self.compute_type


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperArgs(Options):
    """The checkpoint that all Whisper backends serve, and the backends.

    Attributes:
        models: Hugging Face id, folder (in Hugging Face or CTranslate2 form), `.pt` file of openai-whisper, fsspec URL
            of either, or `embedded:whisper-micro`; the first that loads is served, so name a smaller size after a
            larger one.
        device: as the diarizer's; None: the value of `STT_DEVICE`, else of `DEVICE`.
        compute_type: None: the value of `STT_COMPUTE_TYPE`, else float16 on a GPU and float32 on a CPU. int8 and int16
            apply to faster-whisper alone; the others ignore them. `model_version` ends with the format in use.
        max_pause_s: a longer silence ends a piece. Pieces of up to 30 s are the fastest, and Whisper was trained on
            them; a model that transcribes one utterance better than several needs a smaller value.
        faster_whisper, transformers, openai_whisper: the backend of that name.
    """

    models: Annotated[tuple[str, ...], MinLen(1)] = ("embedded:whisper-micro",)
    device: str | None = None
    compute_type: str | None = None
    max_pause_s: PositiveSeconds = 5.0
    faster_whisper: BackendOptions = BackendOptions()
    transformers: BackendOptions = BackendOptions()
    openai_whisper: BackendOptions = BackendOptions()

    def backend(self, name: BackendName) -> BackendOptions:
        """Return the options of a backend."""
        options: BackendOptions = getattr(self, name.replace("-", "_"))
        return options

    def to_load(self, name: BackendName, device: str, environment: ModelEnvironment) -> WhisperOptions:
        """Return the options that a backend is loaded with on a device."""
        # the other backends must load even where a number format of CTranslate2 is set
        is_foreign = name is not BackendName.FASTER_WHISPER and (self.compute_type or "").startswith("int")
        return WhisperOptions(
            **asdict(self.backend(name)),
            cache_dir=environment.models_dir,
            device=device,
            compute_type=None if is_foreign else self.compute_type,
            hf_token=environment.hf_token,
            model_mirror=environment.mirror,
        )
