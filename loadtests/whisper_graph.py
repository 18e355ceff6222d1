"""A graph that serves one Whisper by CTranslate2 and nothing else that costs CPU, and what was going on beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from serve_app.models.speech.pieces import MAX_PAUSE_S

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the backend's work is spread.

    Attributes:
        replicas: of FasterWhisper.
        threads: of each.
        batch_size: pieces in one call of the model.
    """

    replicas: int = 1
    threads: int = 2
    batch_size: int = 8

    def __str__(self) -> str:
        return f"{self.replicas} x {self.threads}, batch {self.batch_size}"


def write_config(path: Path, model: str, layout: Layout, *, max_pause_s: float = MAX_PAUSE_S, **args: Any) -> Path:
    """Write configs/local.yaml with that model and layout; what uploads don't need stays at zero replicas.

    Args:
        path: of the file to write.
        model: spec of a checkpoint.
        layout: of FasterWhisper.
        max_pause_s: a longer silence ends a piece.
        **args: more of the application's arguments.
    """
    config = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    [application] = config["applications"]
    off = {"enabled": False}
    backend = {"num_threads": layout.threads, "batch_size": layout.batch_size}
    application["args"]["whisper"] = {
        "models": [model],
        "device": "cpu",
        "max_pause_s": max_pause_s,
        "faster_whisper": backend,
        "transformers": off,
        "openai_whisper": off,
    }
    application["args"].update(args)
    kept = [each for each in application["deployments"] if each["name"] not in ("TransformersWhisper", "OpenAIWhisper")]
    for deployment in kept:
        if deployment["name"] in ("Diarizer", "SpeechRecognizer"):
            deployment.pop("num_replicas", None)
            deployment["autoscaling_config"] = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}
        if deployment["name"] == "FasterWhisper":
            # not num_replicas: the deployment's own autoscaling, which ends at one replica, would win
            deployment["autoscaling_config"] = {"min_replicas": layout.replicas, "max_replicas": layout.replicas}
    application["deployments"] = kept
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def wait_for_replicas(pid: int, num: int, timeout_s: float = 300.0) -> None:
    """Return once so many replicas of FasterWhisper run below `pid`."""
    deadline_s = time.monotonic() + timeout_s
    found = 0
    while found < num:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{found} of {num} replicas had started after {timeout_s:.0f} s")
        time.sleep(0.5)
        children = psutil.Process(pid).children(recursive=True)
        found = sum("ServeReplica:serve_app:FasterWhisper" in " ".join(_command(child)) for child in children)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return []


@dataclass(frozen=True, slots=True)
class Run:
    """What a piece of work took.

    Attributes:
        wall_s: by the clock.
        cpu_s: of the processes that did it.
        others_cores: cores that the rest of the machine kept busy meanwhile.
        answer: of the work.
    """

    wall_s: float
    cpu_s: float
    others_cores: float
    answer: Any = field(repr=False)


def timed(work: Callable[[], Any], pids: Sequence[int] = ()) -> Run:
    """Do the work and measure it.

    Args:
        work: what to do.
        pids: processes that do it beside this one; their descendants count too.
    """
    all_before, own_before, started = _machine_cpu_s(), _cpu_s(pids), time.perf_counter()
    answer = work()
    wall_s = time.perf_counter() - started
    own_s, all_s = _cpu_s(pids) - own_before, _machine_cpu_s() - all_before
    return Run(wall_s, own_s, max(0.0, all_s - own_s) / wall_s, answer)


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.softirq + times.irq


def _cpu_s(pids: Sequence[int]) -> float:
    """Return CPU seconds of this process and of those, with what their ended children took."""
    own = time.process_time()
    for root in map(psutil.Process, pids):
        for process in [root, *root.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            own += times.user + times.system
    return own
