"""Options of an image classifier: its section of `args:`, and the options of `load_classifier`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Le, Lt

from serve_app.models.images.architectures import Activation
from serve_app.models.images.engines import EngineName, Precision
from serve_app.models.images.preprocessing import Fit
from serve_app.models.options import Count, Options, WaitSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierArgs(Options):
    """One image classifier; replicas, GPU fraction and queue stand under `deployments:`.

    Attributes:
        enabled: false leaves it out of the graph.
        in_ingress: HTTP requests are answered by a classifier inside each ingress replica, on the CPU: for networks
            that cost less than the hop to another process does. The deployment stays for callers by handle.
        model: spec of the weights (`models.weights`): `embedded:…`, a path, an address, a Hugging Face id. None: those
            that come with serve_app, which know drawings, not photographs.
        device: as the diarizer's.
        engine: `pytorch`, `onnxruntime` or `openvino`; None: the fastest that computes right (docs/models/images.md).
        precision: `fp32`, `bf16`, `fp16` or `int8`; None: the fastest that computes right.
        max_difference: in bfloat16 and float16, by how much a probability may differ from PyTorch's in float32 on the
            images that an engine is tried on before it serves; one that differs more is passed over. In float32 the
            bound is 1e-4, in 8 bits that of their own check.
        activation: between the head's layers, which a state_dict does not tell; None: ReLU, or Hardswish where the
            head is torchvision's own.
        fit: how a picture becomes square: `crop` (Resize(224), CenterCrop(224)) or `stretch` (Resize((224, 224))).
        calibration: folder of photographs like those that will be sent; with it, 8 bits are tried.
        num_threads: cores that the network of one replica may use; None: as many as its `num_cpus`, or all where that
            is less than 1 (docs/models/images.md).
        num_decoders: pictures that one replica decodes side by side; others wait for their turn.
        batch_size: pictures, of several requests, in one call of the network.
        batch_wait_s: how long a free network waits for more pictures.
        cpu_fallback: as the diarizer's.
    """

    enabled: bool = True
    in_ingress: bool = False
    model: str | None = None
    device: str | None = None
    engine: EngineName | None = None
    precision: Precision | None = None
    max_difference: Annotated[float, Gt(0), Lt(1)] = 0.02
    activation: Activation | None = None
    fit: Fit = Fit.CROP
    calibration: str = ""
    num_threads: Count | None = None
    num_decoders: Count = 2
    batch_size: Annotated[Count, Le(256)] = 8
    batch_wait_s: WaitSeconds = 0.0
    cpu_fallback: bool = False


@dataclass(frozen=True, slots=True)
class ClassifierOptions(ClassifierArgs):
    """Options of `load_classifier`: those of `args:`, with the device (`models.devices`) and the folder of models."""

    cache_dir: Path
    _: KW_ONLY
    device: str = "cpu"
    hf_token: str | None = field(default=None, repr=False)
