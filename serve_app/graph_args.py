"""Arguments of the application in a Serve config file (`args:`): what deployments' constructors take.

Replicas, GPU fractions, concurrency and queue bounds stand under `deployments:` in the same file.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from serve_app.models.images.architectures import Activation
from serve_app.models.images.engines import EngineName, Precision
from serve_app.models.images.preprocessing import Fit
from serve_app.models.speech.whisper.backend import BackendName


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnalyzerArgs(_Args):
    """Decoding, voice activity, acoustics: threads of one replica."""

    num_threads: int = Field(default=2, ge=1)


class DiarizerArgs(_Args):
    """Diarization.

    Attributes:
        device: "cpu" or "cuda"; None: what `DEVICE` says, "auto" meaning the CPU (a GPU needs `num_gpus` beside it, so
            a config that has one says so here too).
        num_threads: of torch in one replica.
        segmentation: the network that tells local speakers: a name of the model catalog, a path, or
            `embedded:whisperx-segmentation`, which also serves where the named one can't be had.
        embeddings: one or two networks that tell voices apart, of `campplus-zh-en` (or a path) and
            `embedded:speaker-embedding`; of two, the similarities are added. One that can't be had is left out.
        model_id: Hugging Face id of a pyannote pipeline, in place of the two.
        cpu_fallback: beside GPU replicas, keep a CPU deployment (`DiarizerCPU`) for jobs with `enable_gpu: false` and
            for files that run out of GPU memory.
    """

    device: str | None = None
    num_threads: int = Field(default=1, ge=1)
    segmentation: str = Field(default="pyannote-segmentation-3.0", min_length=1)
    embeddings: list[str] = Field(default=["campplus-zh-en"], min_length=1, max_length=2)
    model_id: str | None = None
    cpu_fallback: bool = False


class BackendArgs(_Args):
    """One Whisper backend; replicas, GPU fraction and queue stand under `deployments:`.

    Attributes:
        enabled: false leaves it out of the graph.
        batch_size: pieces in one call of the model.
        batch_wait_s: how long a free model waits for more pieces.
        num_threads: CPU threads of one replica; threads × replicas must not exceed the cores.
        beam_size: hypotheses kept while decoding; 1: greedy; None: 2 for faster-whisper, 1 for the others.
        cpu_fallback: beside GPU replicas, keep a CPU deployment (its name ends in CPU) for requests with
            `enable_gpu: false` and for pieces that run out of GPU memory.
    """

    enabled: bool = True
    batch_size: int = Field(default=8, ge=1)
    batch_wait_s: float = Field(default=0.01, ge=0)
    num_threads: int = Field(default=1, ge=1)
    beam_size: int | None = Field(default=None, ge=1)
    cpu_fallback: bool = False


class WhisperArgs(_Args):
    """The checkpoint that all Whisper backends serve, and the backends.

    Attributes:
        models: Hugging Face id, folder (in Hugging Face or CTranslate2 form), `.pt` file of openai-whisper, fsspec URL
            of either, or `embedded:whisper-micro`; the first that loads is served, so name a smaller size after a
            larger one.
        device: None: what `STT_DEVICE`, else `DEVICE` says, "auto" meaning the CPU (a GPU needs `num_gpus` beside it).
        compute_type: None: what `STT_COMPUTE_TYPE` says, else float16 on a GPU and float32 on a CPU. int8 and int16 are
            faster-whisper's alone: the others compute as if nothing was said, and `model_version` tells in what.
        max_pause_s: a silence of so long ends a piece. Pieces of up to 30 s are the fastest, and what Whisper was
            trained on; a model that hears one utterance better than several wants them apart.
    """

    models: tuple[str, ...] = Field(default=("embedded:whisper-micro",), min_length=1)
    device: str | None = None
    compute_type: str | None = None
    max_pause_s: float = Field(default=5.0, gt=0)
    faster_whisper: BackendArgs = BackendArgs()
    transformers: BackendArgs = BackendArgs()
    openai_whisper: BackendArgs = BackendArgs()


class SpeechArgs(_Args):
    """Which speech backend is used.

    Attributes:
        video_order: of video jobs: the first that is healthy and hears the job's language. Uploads to `/transcribe`
            that name none follow the contract's order.
    """

    video_order: tuple[BackendName, ...] = Field(default=tuple(BackendName), min_length=1)


class AlignerArgs(_Args):
    """Forced alignment of words.

    Attributes:
        models: language → Hugging Face id or folder of a CTC model; not deployed without any.
        device: as the diarizer's.
        num_threads: of torch in one replica.
    """

    models: dict[str, str] = {}
    device: str | None = None
    num_threads: int = Field(default=1, ge=1)


class EmotionArgs(_Args):
    """Emotion recognition.

    Attributes:
        model_id: Hugging Face id or folder of an audio-classification model; not deployed without one.
        device: as the diarizer's.
        num_threads: of torch in one replica.
        cpu_fallback: as the diarizer's (`EmotionRecognizerCPU`).
    """

    model_id: str | None = None
    device: str | None = None
    num_threads: int = Field(default=1, ge=1)
    cpu_fallback: bool = False


class DrumArgs(_Args):
    """Drum transcription; replicas, GPU fraction and queue stand under `deployments:`.

    Attributes:
        model: spec of the weights (`models.weights`): `embedded:drum-net`, a path, an address, a Hugging Face id.
        device: as the diarizer's.
        num_threads: of the network in one replica; on a CPU more than one is slower wherever something else runs, as
            threads wait for each other at each step of the GRU.
        num_readers: recordings that one replica decodes side by side.
        batch_size: pieces of 30 s, of several requests, in one call of the network.
        batch_wait_s: how long a free network waits for more pieces.
        half: compute in float16 on a GPU.
        cpu_fallback: as the diarizer's (`DrumTranscriberCPU`).
    """

    model: str = "embedded:drum-net"
    device: str | None = None
    num_threads: int = Field(default=1, ge=1)
    num_readers: int = Field(default=4, ge=1)
    batch_size: int = Field(default=4, ge=1)
    batch_wait_s: float = Field(default=0.0, ge=0)
    half: bool = False
    cpu_fallback: bool = False


class ClassifierArgs(_Args):
    """One image classifier; replicas, GPU fraction and queue stand under `deployments:`.

    Attributes:
        enabled: false leaves it out of the graph.
        model: spec of the weights (`models.weights`): `embedded:…`, a path, an address, a Hugging Face id. None: those
            that come with serve_app, which know drawings, not photographs.
        device: as the diarizer's.
        engine: `pytorch`, `onnxruntime` or `openvino`; None: the fastest that computes right (docs/models/images.md).
        precision: `fp32`, `bf16`, `fp16` or `int8`; None: the fastest that computes right.
        max_difference: in bfloat16 and float16, by how much a probability may differ from PyTorch's in float32 on the
            images that an engine is tried on before it serves; one that differs more is passed over.
        activation: between the head's layers, which a state_dict does not tell; None: ReLU, or Hardswish where the
            head is torchvision's own.
        fit: how a picture becomes square: `crop` (Resize(224), CenterCrop(224)) or `stretch` (Resize((224, 224))).
        calibration: folder of photographs like those that will be sent; with it, 8 bits are tried.
        num_threads: of the network in one replica; threads × replicas must not exceed the cores.
        num_decoders: pictures that one replica decodes side by side.
        batch_size: pictures, of several requests, in one call of the network.
        batch_wait_s: how long a free network waits for more pictures.
        cpu_fallback: as the diarizer's.
        in_ingress: HTTP requests are answered by a classifier inside each ingress replica, on the CPU: for networks
            that cost less than the hop to another process does. The deployment stays for callers by handle.
    """

    enabled: bool = True
    in_ingress: bool = False
    model: str | None = None
    device: str | None = None
    engine: EngineName | None = None
    precision: Precision | None = None
    max_difference: float = Field(default=0.02, gt=0, lt=1)
    activation: Activation | None = None
    fit: Fit = Fit.CROP
    calibration: str = ""
    num_threads: int = Field(default=1, ge=1)
    num_decoders: int = Field(default=2, ge=1)
    batch_size: int = Field(default=8, ge=1, le=256)
    batch_wait_s: float = Field(default=0.0, ge=0)
    cpu_fallback: bool = False


class ImageArgs(_Args):
    """The image classifiers."""

    container: ClassifierArgs = ClassifierArgs()
    beverage: ClassifierArgs = ClassifierArgs()


class RunnerArgs(_Args):
    """The job queue's consumers; they scale between the two numbers on the depth of the job table."""

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=3, ge=1)
    upscale_delay_s: float = Field(default=2.0, ge=0)
    downscale_delay_s: float = Field(default=60.0, ge=0)
    jobs_per_replica: int = Field(default=1, ge=1)
    lease_s: float = Field(default=15.0, gt=0)
    poll_interval_s: float = Field(default=0.5, gt=0)
    max_attempts: int = Field(default=3, ge=1)


class IngressArgs(_Args):
    """HTTP: work that callers wait for, in one replica at once; see `DirectLimits` and `ImageLimits`."""

    max_direct_analyses: int = Field(default=2, ge=1)
    max_direct_transcriptions: int = Field(default=32, ge=1)
    max_direct_pieces: int = Field(default=16, ge=1)
    max_direct_drums: int = Field(default=16, ge=1)
    max_direct_images: int = Field(default=128, ge=1)
    max_image_calls: int = Field(default=4, ge=1)


class GraphArgs(_Args):
    """Arguments of the application in a Serve config file."""

    analyzer: AnalyzerArgs = AnalyzerArgs()
    speech: SpeechArgs = SpeechArgs()
    whisper: WhisperArgs = WhisperArgs()
    aligner: AlignerArgs = AlignerArgs()
    diarizer: DiarizerArgs = DiarizerArgs()
    emotion: EmotionArgs = EmotionArgs()
    drums: DrumArgs = DrumArgs()
    images: ImageArgs = ImageArgs()
    job_runner: RunnerArgs = RunnerArgs()
    ingress: IngressArgs = IngressArgs()
