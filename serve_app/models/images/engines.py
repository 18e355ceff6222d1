"""`Engine`: pixels to probabilities, by one of three libraries; each is imported only for its own engine.

| engine | device | precision | best for |
| --- | --- | --- | --- |
| `openvino` | CPU | bf16, fp32, int8 | ResNet-50 on a CPU with bfloat16 instructions (AVX512-BF16, AMX) |
| `onnxruntime` | CPU | fp32, int8 | MobileNetV3-Small; any CPU without bfloat16 |
| `pytorch` | CUDA, CPU | fp16, bf16, fp32 | GPUs; the others are compared with it |

docs/models/images.md has the measurements. The head always runs in float32 (`converted.Head`): it costs little time,
and rounding there would show in the probabilities.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from serve_app.models.gpu_memory import counted, gpu_errors, loading_errors
from serve_app.models.images.converted import BACKBONE, BACKBONE_INT8, INPUT, OUTPUT, WEIGHTS, ModelFacts, read_head


class EngineName(StrEnum):
    """A library that runs networks."""

    PYTORCH = "pytorch"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


class Precision(StrEnum):
    """Number format of the backbone."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


class Engine(Protocol):
    """A loaded network; used by one thread at a time."""

    name: EngineName
    precision: Precision
    device: str

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return (batch, classes) float32 for images (batch, 224, 224, 3) uint8; GpuMemoryError, ProcessingError."""


def open_engine(
    name: EngineName, precision: Precision, folder: Path, facts: ModelFacts, *, device: str, num_threads: int
) -> Engine:
    """Return an engine over a converted model, or raise ModelLoadingError.

    From here on numpy's BLAS uses one thread in this process: for the head's small products it would wake a thread for
    each core, and those spin.
    """
    threadpool_limits(1, user_api="blas")
    with loading_errors(f"loading {facts.file_name} with {name} in {precision} on {device}"):
        if name is EngineName.ONNXRUNTIME:
            return OnnxRuntimeEngine(precision, folder, facts, num_threads)
        if name is EngineName.OPENVINO:
            return OpenVinoEngine(precision, folder, facts, num_threads)
        return TorchEngine(precision, folder, facts, device, num_threads)


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU."""

    name, device = EngineName.ONNXRUNTIME, "cpu"

    def __init__(self, precision: Precision, folder: Path, facts: ModelFacts, num_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # threads that wait by spinning take the cores from the decoders
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # the probe has another batch size than the first request: memory would be planned twice
        options.enable_mem_pattern = False
        self.precision = precision
        self._head = read_head(folder, facts.activation)
        self._session = onnxruntime.InferenceSession(
            str(_backbone(folder, precision, (Precision.FP32, Precision.INT8))),
            options,
            providers=["CPUExecutionProvider"],
        )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        with gpu_errors(f"classifying {counted(len(images), 'image')} with ONNX Runtime"):
            [features] = self._session.run([OUTPUT], {INPUT: images})
        return self._head.probabilities(features)


class OpenVinoEngine:
    """OpenVINO on the CPU."""

    name, device = EngineName.OPENVINO, "cpu"

    def __init__(self, precision: Precision, folder: Path, facts: ModelFacts, num_threads: int) -> None:
        # OpenVINO reports its use to its maker on import unless this package is missing
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        backbone = _backbone(folder, precision, (Precision.FP32, Precision.BF16, Precision.INT8))
        self.precision = precision
        self._head = read_head(folder, facts.activation)
        compiled = openvino.Core().compile_model(
            str(backbone),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision is Precision.BF16 else "f32",
                "INFERENCE_NUM_THREADS": num_threads,
                "NUM_STREAMS": 1,
                # replicas share the machine: each would be pinned to the first cores
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request = compiled.create_infer_request()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        with gpu_errors(f"classifying {counted(len(images), 'image')} with OpenVINO"):
            self._request.infer({INPUT: images}, share_inputs=True)
            features = self._request.get_output_tensor(0).data
            return self._head.probabilities(features)  # a copy: the next call writes over the features


class TorchEngine:
    """PyTorch on any device, channels last."""

    name = EngineName.PYTORCH

    def __init__(self, precision: Precision, folder: Path, facts: ModelFacts, device: str, num_threads: int) -> None:
        import torch
        from safetensors.torch import load_file

        from serve_app.models.images.networks import PixelNetwork, converted_network

        dtypes = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
        if precision not in dtypes:
            raise ValueError(f"PyTorch computes in {', '.join(dtypes)}, not in {precision}")
        if device == "cpu":
            torch.set_num_threads(num_threads)
        backbone = PixelNetwork(converted_network(facts, load_file(folder / WEIGHTS)), dtypes[precision])
        self.precision, self.device = precision, device
        self._torch = torch
        self._network: Any = backbone.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._head = read_head(folder, facts.activation)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        torch = self._torch
        with gpu_errors(f"classifying {counted(len(images), 'image')} with PyTorch"), torch.inference_mode():
            pixels = torch.from_numpy(images).to(self.device, non_blocking=True)
            return self._head.probabilities(self._network(pixels).float().cpu().numpy())


def has_bfloat16() -> bool:
    """Return whether this machine's CPU computes in bfloat16 itself; emulation is slow."""
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _backbone(folder: Path, precision: Precision, allowed: tuple[Precision, ...]) -> Path:
    if precision not in allowed:
        raise ValueError(f"it computes in {', '.join(allowed)}, not in {precision}")
    path = folder / (BACKBONE_INT8 if precision is Precision.INT8 else BACKBONE)
    if not path.exists():
        raise ValueError("8 bits need calibration images whose check passed")
    return path
