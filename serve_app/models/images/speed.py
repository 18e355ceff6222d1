"""`measured`: how fast each engine, number format and use of the cores runs a converted model on this machine.

Two things are timed: one image alone, and several at once. They are timed in turns and the shortest time counts, as
other work on the machine can only add to it; what is clearly slower is left out of the next turns. The images are the
probe's, so that each candidate's probabilities are compared with PyTorch's as well.

`python -m serve_app.models.images.speed` measures in a process of its own, so that a serving process neither keeps the
memory of the candidates nor ends with one that the CPU can't run. A note in the model's folder keeps the result; on a
busy machine for a while only, and without the use of the cores (docs/decisions/0009-image-engines.md).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from serve_app.errors import ModelError
from serve_app.models.file_hashes import read_note, write_note
from serve_app.models.images.converted import BACKBONE_INT8, read_facts, read_probe
from serve_app.models.images.engines import Engine, EngineName, Layout, Precision, has_bfloat16, open_engine
from serve_app.models.images.machine import machine

_log = logging.getLogger(__name__)

_VERSION = 1  # of the note and of the way to measure: another number measures anew
_TIMED_S = 1.5  # of the turns; two take place in any case
_MOST_TURNS = 8
_FAR, _NEAR = 2.0, 1.3  # × the fastest: left out after the first turns, after later ones
_OPENED_S = 10.0  # after that no further candidate is opened: on a busy machine each takes seconds
_LONGEST_S = 60.0
_BUSY = 1.15  # seconds a CPU second of one thread: other work takes the cores
_BUSY_KEPT_S, _MOST_IMAGES = 600.0, 8
# What decoding and answering a picture takes beside the network: against it, a millisecond less is little.
_BESIDE_MS = 5.0
_ALIKE = 1.1  # × the fastest: the choice among these does not depend on chance

# In doubt the first: exact before rounded, and PyTorch, which takes 300 MB more, at the end.
PREFERENCE = (
    (EngineName.ONNXRUNTIME, Precision.FP32),
    (EngineName.OPENVINO, Precision.FP32),
    (EngineName.OPENVINO, Precision.BF16),
    (EngineName.OPENVINO, Precision.INT8),
    (EngineName.ONNXRUNTIME, Precision.INT8),
    (EngineName.PYTORCH, Precision.FP32),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """A candidate, and how fast it was.

    Attributes:
        engine: library.
        precision: number format of the backbone.
        layout: of the cores.
        lone_ms: milliseconds of one image alone.
        batch_ms: milliseconds an image, of several at once.
        difference: the largest from PyTorch's probabilities in float32, on the images timed; None: it could not run.
        failure: why it could not run; empty: it did.
    """

    engine: EngineName
    precision: Precision
    layout: Layout
    lone_ms: float = 0.0
    batch_ms: float = 0.0
    difference: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine to open, and its milliseconds an image, of one alone and of several; NaN: they were not measured."""

    engine: EngineName
    precision: Precision
    layout: Layout
    lone_ms: float = math.nan
    batch_ms: float = math.nan


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of the candidates.

    Attributes:
        timings: in the order of `PREFERENCE`, those that could not run at the end.
        is_busy: other work took the cores meanwhile.
    """

    timings: tuple[Timing, ...] = ()
    is_busy: bool = False


_MEASURED = TypeAdapter(Measured)


def measured(folder: Path, cores: int) -> Measured:
    """Return the times of a converted model's candidates on at most so many cores; none where measuring failed.

    They are measured once for a model's content and a machine, by one process at a time. Blocks, for some seconds.
    """
    here = machine(cores) | {"version": _VERSION}
    note = folder / f"speed-{hashlib.sha256(json.dumps(here).encode()).hexdigest()[:16]}.json"
    if known := _kept(note, here):
        return known
    with _alone(folder.parent / "measuring.lock"):
        if known := _kept(note, here):  # of a replica that started together with this one
            return known
        try:
            done = subprocess.run(
                [sys.executable, "-m", "serve_app.models.images.speed"],
                input=json.dumps({"folder": str(folder), "cores": cores}),
                capture_output=True,
                text=True,
                timeout=_LONGEST_S,
                check=True,
            )
            found = _MEASURED.validate_json(done.stdout.strip().splitlines()[-1])
        except (subprocess.SubprocessError, OSError, IndexError, ValidationError) as error:
            _log.warning("the engines could not be measured: %s", getattr(error, "stderr", None) or error)
            return Measured()
        write_note(note, {"machine": here, "at": time.time(), "measured": _MEASURED.dump_python(found, mode="json")})
    return found


def _kept(note: Path, here: dict[str, Any]) -> Measured | None:
    content = read_note(note)
    try:
        found = _MEASURED.validate_python(content["measured"])
        is_fresh = 0.0 <= time.time() - content["at"] < _BUSY_KEPT_S
    except (KeyError, TypeError, ValidationError):  # damaged: it is measured again
        return None
    return found if content.get("machine") == here and (is_fresh or not found.is_busy) else None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from measuring at the same time, where the folder can be written and they do not hang."""
    lock = FileLock(path)
    with suppress(OSError, Timeout):
        lock.acquire(timeout=_LONGEST_S)
    try:
        yield
    finally:
        lock.release()


def plans(found: Measured, cores: int, allowed: Callable[[Precision], float]) -> list[Plan]:
    """Return what to open, best first: for each engine and number format, its fastest uses of the cores.

    Args:
        allowed: returns the largest difference of a probability from PyTorch's by number format; candidates that differ
            by more are left out.
    """
    made = []
    for engine, precision in PREFERENCE:
        right = [
            each
            for each in found.timings
            if (each.engine, each.precision) == (engine, precision)
            and each.difference is not None
            and each.difference <= allowed(precision)
        ]
        if not right:
            continue
        lone = min(right, key=lambda each: each.lone_ms)
        batch = min(right, key=lambda each: each.batch_ms)
        for each in right:  # one network for both takes half the memory
            if each.lone_ms <= _ALIKE * lone.lone_ms and each.batch_ms <= _ALIKE * batch.batch_ms:
                lone = batch = each
                break
        layout = Layout(lone.layout.lone_threads, batch.layout.batch_calls, batch.layout.batch_threads)
        if found.is_busy:
            layout = usual_layout(cores)
        made.append(Plan(engine, precision, layout, lone.lone_ms, batch.batch_ms))
    costs = {plan: math.sqrt((plan.lone_ms + _BESIDE_MS) * (plan.batch_ms + _BESIDE_MS)) for plan in made}
    fastest = min(costs.values(), default=0.0)
    return sorted(made, key=lambda plan: 0.0 if costs[plan] <= _ALIKE * fastest else costs[plan])


def usual_layout(cores: int) -> Layout:
    """Return the use of the cores that is fastest on most machines."""
    return Layout(cores, cores, 1)


def layouts(engine: EngineName, cores: int) -> list[Layout]:
    """Return uses of at most so many cores that are worth trying."""
    together = Layout(cores, 1, cores)
    if cores == 1 or engine is EngineName.PYTORCH:
        return [together]
    few = [Layout(4, 1, 4)] if cores > 4 else []  # one image keeps few cores busy
    return [together, *few, Layout(1, cores, 1)]


@dataclass
class _Candidate:
    engine: Engine
    times: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})  # seconds, by "several"
    difference: float = 0.0

    def best_s(self, is_several: bool) -> float:
        """Return the shortest time, of one image or of several."""
        return min(self.times[is_several])


def measure(folder: Path, cores: int) -> Measured:
    """Time every candidate in this process."""
    facts = read_facts(folder)
    images, expected = read_probe(folder)
    given = {False: images[:1], True: images[: max(2, min(cores, _MOST_IMAGES))]}
    failed: list[Timing] = []
    candidates: list[_Candidate] = []
    opened_until = time.monotonic() + _OPENED_S
    was_cut = is_busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    # likely the fastest first: on a busy machine the time may not do for all
    for name, precision in sorted(
        PREFERENCE, key=lambda each: (each[0] is EngineName.PYTORCH, each[1] is Precision.FP32)
    ):
        if (precision is Precision.BF16 and not has_bfloat16()) or (
            precision is Precision.INT8 and not (folder / BACKBONE_INT8).exists()
        ):
            continue
        for layout in layouts(name, cores):
            # of a busy machine PyTorch's import alone would take too long
            if candidates and (time.monotonic() > opened_until or (is_busy and name is EngineName.PYTORCH)):
                was_cut = True
                break
            try:
                candidate = _Candidate(open_engine(name, precision, folder, facts, device="cpu", layout=layout))
                for is_several, sent in given.items():
                    differences = np.abs(candidate.engine.probabilities(sent) - expected[: len(sent)])
                    candidate.difference = max(candidate.difference, float(np.nan_to_num(differences, nan=1.0).max()))
                    began = time.perf_counter()
                    candidate.engine.features(sent)
                    candidate.times[is_several].append(time.perf_counter() - began)
            except ModelError as error:
                failed.append(Timing(name, precision, layout, failure=error.detail))
            else:
                candidates.append(candidate)
    slowness = _take_turns(candidates, given)
    candidates.sort(key=lambda each: PREFERENCE.index((each.engine.name, each.engine.precision)))
    timings = [
        Timing(
            each.engine.name,
            each.engine.precision,
            each.engine.layout,
            round(1000 * each.best_s(False), 3),
            round(1000 * each.best_s(True) / len(given[True]), 3),
            each.difference,
        )
        for each in candidates
    ]
    return Measured((*timings, *failed), was_cut or statistics.median(slowness or [1.0]) > _BUSY)


def _take_turns(candidates: Sequence[_Candidate], images: dict[bool, np.ndarray]) -> list[float]:
    """Time the candidates in turns; return the seconds a CPU second of the calls on one thread."""
    running = {is_several: list(candidates) for is_several in images}
    slowness: list[float] = []
    ends_at = time.monotonic() + _TIMED_S
    for turn in range(_MOST_TURNS):
        for is_several, left in running.items():
            bound = (_NEAR if turn > 1 else _FAR) * min((each.best_s(is_several) for each in left), default=0.0)
            running[is_several] = left = [each for each in left if each.best_s(is_several) <= bound]
            for each in left:
                if turn > 1 and time.monotonic() > ends_at:
                    return slowness
                began, cpu = time.perf_counter(), time.process_time()
                each.engine.features(images[is_several])
                each.times[is_several].append(time.perf_counter() - began)
                if not is_several and each.engine.layout.lone_threads == 1:
                    slowness.append(each.times[is_several][-1] / (time.process_time() - cpu))
    return slowness


def main() -> None:
    """Measure what standard input asks for, and write the times to standard output."""
    asked = json.load(sys.stdin)
    found = measure(Path(asked["folder"]), asked["cores"])
    sys.stdout.write(f"\n{_MEASURED.dump_json(found).decode()}\n")


if __name__ == "__main__":
    main()
