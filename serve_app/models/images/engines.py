"""`Engine`: pixels to probabilities, by one of three libraries; each is imported only for its own engine.

| engine | device | precision |
| --- | --- | --- |
| `openvino` | CPU | bf16, fp32, int8 |
| `onnxruntime` | CPU | fp32, int8 |
| `pytorch` | CUDA, CPU | fp16, bf16, fp32 |

`speed` measures which is the fastest on a machine. The head always runs in float32 (`converted.Head`): it costs little
time, and rounding there would show in the probabilities.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from serve_app.models.gpu_memory import counted, gpu_errors, loading_errors
from serve_app.models.images.converted import BACKBONE, BACKBONE_INT8, INPUT, OUTPUT, WEIGHTS, ModelFacts, read_head
from serve_app.sentences import Sentence


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


@dataclass(frozen=True, slots=True)
class Layout:
    """How an engine uses the cores.

    Attributes:
        lone_threads: of a call with one image.
        batch_calls: calls side by side, among which a batch is divided.
        batch_threads: of each of them.
    """

    lone_threads: int = 1
    batch_calls: int = 1
    batch_threads: int = 1

    def __str__(self) -> str:
        lone, batch = counted(self.lone_threads, "thread"), counted(self.batch_threads, "thread")
        return f"{lone} for one picture, {self.batch_calls} × {batch} for several"


Run = Callable[[np.ndarray], np.ndarray]


class Engine(ABC):
    """A loaded network; used by one thread at a time.

    Args:
        precision: of the backbone.
        folder: of the converted model.
        facts: of the model.
        layout: of the cores.
    """

    name: EngineName
    device = "cpu"

    def __init__(self, precision: Precision, folder: Path, facts: ModelFacts, layout: Layout) -> None:
        self.precision, self.layout = precision, layout
        self.head = read_head(folder, facts.activation)
        lone, calls, threads = layout.lone_threads, layout.batch_calls, layout.batch_threads
        self._batch = self._opened(folder, facts, threads, calls)
        # one call on one thread is the same thing whichever it was opened for
        self._lone = self._batch if (lone, 1) == (threads, calls) else self._opened(folder, facts, lone, 1)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the backbone's output, (batch, features) float32, for images (batch, 224, 224, 3) uint8.

        Raises:
            GpuMemoryError: out of GPU memory.
            ProcessingError: the library failed.
        """
        with gpu_errors(Sentence("classifying {num} pictures with {name}", num=len(images), name=self.name)):
            return (self._lone if len(images) == 1 else self._batch)(images)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return (batch, classes) float32; arguments and errors as of `features`."""
        return self.head.probabilities(self.features(images))

    @abstractmethod
    def _opened(self, folder: Path, facts: ModelFacts, num_threads: int, num_calls: int) -> Run:
        """Return a function from images to features, a copy, with so many calls side by side."""


def open_engine(
    name: EngineName, precision: Precision, folder: Path, facts: ModelFacts, *, device: str, layout: Layout
) -> Engine:
    """Return an engine over a converted model, or raise ModelLoadingError.

    From here on numpy's BLAS uses one thread in this process: for the head's small products it would wake a thread for
    each core, and those spin.
    """
    threadpool_limits(1, user_api="blas")
    what = Sentence(
        "loading {file} with {engine} in {precision} on {device}",
        file=facts.file_name,
        engine=name,
        precision=precision,
        device=device,
    )
    with loading_errors(what):
        if name is EngineName.ONNXRUNTIME:
            return OnnxRuntimeEngine(precision, folder, facts, layout)
        if name is EngineName.OPENVINO:
            return OpenVinoEngine(precision, folder, facts, layout)
        return TorchEngine(precision, folder, facts, layout, device)


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime on the CPU."""

    name = EngineName.ONNXRUNTIME

    def _opened(self, folder: Path, facts: ModelFacts, num_threads: int, num_calls: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # threads that wait by spinning take the cores from the decoders
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # the probe has another batch size than the first request: memory would be planned twice
        options.enable_mem_pattern = False
        session = onnxruntime.InferenceSession(
            str(_backbone(folder, self.precision, (Precision.FP32, Precision.INT8))),
            options,
            providers=["CPUExecutionProvider"],
        )

        def run(images: np.ndarray) -> np.ndarray:
            features: np.ndarray = session.run([OUTPUT], {INPUT: images})[0]
            return features

        if num_calls == 1:
            return run

        def run_side_by_side(images: np.ndarray) -> np.ndarray:
            parts = _parts(images, num_calls)
            with ThreadPoolExecutor(len(parts), thread_name_prefix="onnxruntime") as pool:
                return np.concatenate(list(pool.map(run, parts)))

        return run_side_by_side


class OpenVinoEngine(Engine):
    """OpenVINO on the CPU."""

    name = EngineName.OPENVINO

    def _opened(self, folder: Path, facts: ModelFacts, num_threads: int, num_calls: int) -> Run:
        # OpenVINO reports its use to its maker on import unless this package is missing
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        backbone = _backbone(folder, self.precision, (Precision.FP32, Precision.BF16, Precision.INT8))
        compiled = openvino.Core().compile_model(
            str(backbone),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if self.precision is Precision.BF16 else "f32",
                "INFERENCE_NUM_THREADS": num_threads * num_calls,
                "NUM_STREAMS": num_calls,
                # replicas share the machine: each would be pinned to the first cores
                "ENABLE_CPU_PINNING": False,
            },
        )
        requests = [compiled.create_infer_request() for _ in range(num_calls)]

        def run(images: np.ndarray) -> np.ndarray:
            parts = _parts(images, num_calls)
            used = requests[: len(parts)]
            for request, part in zip(used, parts, strict=True):
                request.start_async({INPUT: part}, share_inputs=True)
            for request in used:
                request.wait()
            return np.concatenate([request.get_output_tensor(0).data for request in used])

        return run


class TorchEngine(Engine):
    """PyTorch on any device, channels last."""

    name = EngineName.PYTORCH

    def __init__(self, precision: Precision, folder: Path, facts: ModelFacts, layout: Layout, device: str) -> None:
        self.device = device
        # PyTorch has one number of threads for the whole process
        threads = layout.lone_threads
        super().__init__(precision, folder, facts, Layout(threads, 1, threads))

    def _opened(self, folder: Path, facts: ModelFacts, num_threads: int, num_calls: int) -> Run:
        import torch
        from safetensors.torch import load_file

        from serve_app.models.images.networks import PixelNetwork, converted_network

        dtypes = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
        if self.precision not in dtypes:
            raise ValueError(f"PyTorch computes in {', '.join(dtypes)}, not in {self.precision}")
        backbone = PixelNetwork(converted_network(facts, load_file(folder / WEIGHTS)), dtypes[self.precision])
        network: Any = backbone.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def run(images: np.ndarray) -> np.ndarray:
            if self.device == "cpu" and torch.get_num_threads() != num_threads:
                torch.set_num_threads(num_threads)
            with torch.inference_mode():
                pixels = torch.from_numpy(images).to(self.device, non_blocking=True)
                features: np.ndarray = network(pixels).float().cpu().numpy()
                return features

        return run


def _parts(images: np.ndarray, num_calls: int) -> list[np.ndarray]:
    return np.array_split(images, min(num_calls, len(images)))


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
