"""What is measured with: pictures and weights that are at hand, or else made; and the machine's name."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from loadtests.images.graph import ROUTES
from loadtests.images.peers.settings import Settings
from loadtests.images.photographs import write_photographs
from serve_app.models.images.tasks import TASKS

TASK_OF = {"resnet50": "container", "mobilenet_v3_small": "beverage"}
NUM_PHOTOGRAPHS = 64
# They make OpenVINO and PyTorch leave out instructions that the CPU has; ONNX Runtime knows no such limit.
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def jpegs(given: Path | None, folder: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder, or made-up ones."""
    if given is None:
        return write_photographs(folder / "photographs", NUM_PHOTOGRAPHS)
    found = tuple(sorted(path for path in given.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")))
    if not found:
        raise SystemExit(f"{given} has no .jpg")
    return found


def settings_for(network: str, weights_dir: Path | None, images: Sequence[Path], folder: Path) -> Settings:
    """Return what all servers serve; with random weights where there are none."""
    task = TASK_OF[network]
    weights = weights_dir / TASKS[task].weights_file if weights_dir else None
    if weights is None or not weights.exists():
        weights = folder / "weights" / TASKS[task].weights_file
        print(f"{network}: random weights", flush=True)
        weights_in_new_process(weights, network, task, images)
    return Settings(str(weights.resolve()), network, task, ROUTES[task], port=0)


def machine() -> str:
    """Return the processor, its cores and the memory, in words."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    known = Path("/proc/cpuinfo").read_text().split()
    has = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if name in known]
    limits = [f"{name}={os.environ[name]}" for name in ISA_LIMITS if name in os.environ]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{os.cpu_count()} cores {models[0] if models else platform.machine()} ({', '.join([*has, *limits])}), "
        f"{memory_gb:.0f} GB"
    )


def weights_in_new_process(weights: Path, network: str, task: str, images: Sequence[Path], seed: int = 0) -> None:
    """Write random weights; in a process of its own, so that torch does not stay in this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_write_weights, weights, network, task, tuple(images), seed).result()


def _write_weights(weights: Path, network: str, task: str, images: Sequence[Path], seed: int) -> None:
    from loadtests.images.weights import write_weights
    from serve_app.models.images.architectures import Architecture

    write_weights(weights, Architecture(network), task, images, seed)
