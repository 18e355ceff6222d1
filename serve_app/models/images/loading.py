"""`load_classifier`: the weights that an operator names, on the fastest engine whose probabilities are right."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve_app.errors import ModelError, ModelLoadingError, errno_text
from serve_app.models.built_folder import is_whole
from serve_app.models.devices import AUTO, torch_device
from serve_app.models.file_hashes import read_note, sha256_of, write_note
from serve_app.models.images.conversion import converted_folder
from serve_app.models.images.converted import ModelFacts, read_facts, read_probe, read_probe_features
from serve_app.models.images.engines import Engine, EngineName, Layout, Precision, open_engine
from serve_app.models.images.machine import available_cores
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.quantization import MAX_DIFFERENCE
from serve_app.models.images.speed import Measured, Plan, Timing, measured, plans, usual_layout
from serve_app.models.images.tasks import ImageTask
from serve_app.models.weights import weights_file
from serve_app.sentences import Sentence, joined

_log = logging.getLogger(__name__)

# In float32 an engine may only round differently. 8 bits have passed a check on more images (`quantization`).
_BOUNDS = {Precision.FP32: 1e-4, Precision.INT8: MAX_DIFFERENCE}
LEAST_COSINE = 0.9999  # of an embedding to PyTorch's in float32
_ENDINGS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True, slots=True)
class LoadedClassifier:
    """A classifier with a warm engine, which is for one thread at a time."""

    engine: Engine
    facts: ModelFacts
    spec: str
    folder: Path  # of the converted model
    difference: float  # the largest from PyTorch's probabilities on the probe
    notes: tuple[str, ...]  # engines that were passed over, and why; weights that could not be loaded
    timings: tuple[Timing, ...]  # of the candidates on this machine; none on a GPU
    loaded_at: float  # seconds since the epoch


def load_classifier(
    spec: str, task: ImageTask, options: ClassifierOptions, *, batch_sizes: Iterable[int] = (1,), keep_last: bool = True
) -> LoadedClassifier:
    """Return the classifier of a spec (`models.weights`), compared with PyTorch and warm. Blocks.

    Args:
        batch_sizes: sizes for which the engine is warmed.
        keep_last: where the file can't be loaded now, load the weights that this spec named last time, with a note.

    Raises:
        ModelLoadingError: the file can't be fetched, does not fit, or no engine computes right with it.
    """
    if options.device == AUTO:
        options = replace(options, device=str(torch_device(AUTO)))
    pointer = options.cache_dir / "images" / f"last-{task.name}-{hashlib.sha256(spec.encode()).hexdigest()[:16]}.json"
    notes: list[str] = []
    try:
        path = weights_path(spec, task, options)
        folder, _ = converted_folder(
            path,
            options.cache_dir,
            purpose=f"{task.name} classifier",
            classes=task.classes,
            activation=options.activation,
            calibration=options.calibration,
        )
        name = path.name
    except ModelLoadingError as error:
        last = read_note(pointer) if keep_last else {}
        folder, name = pointer.parent / str(last.get("folder")), str(last.get("name"))
        if not is_whole(folder):
            raise
        notes.append(Sentence("the weights that served before are used: {reason}", reason=error.detail))
    facts = replace(read_facts(folder), file_name=name)
    found = _measured(folder, options)
    engine, difference, passed_over = _engine(folder, facts, options, found)
    for size in batch_sizes:
        engine.probabilities(np.zeros((size, *read_probe(folder)[0].shape[1:]), np.uint8))
    write_note(pointer, {"folder": folder.name, "name": name})
    if facts.int8:
        notes.append(facts.int8)
    return LoadedClassifier(engine, facts, spec, folder, difference, (*notes, *passed_over), found.timings, time.time())


def embedding_engine(loaded: LoadedClassifier) -> Engine:
    """Return an engine whose features point where PyTorch's do in float32: the classifier's own, or one in float32.

    Blocks for a second where it opens one.

    Raises:
        ModelError: it can't be opened, or fails.
    """
    images, _ = read_probe(loaded.folder)
    found = np.concatenate([loaded.engine.features(images[start : start + 8]) for start in range(0, len(images), 8)])
    alike = (unit_length(found) * unit_length(read_probe_features(loaded.folder))).sum(axis=1)
    if loaded.engine.device != "cpu" or alike.min() >= LEAST_COSINE:
        return loaded.engine
    return open_engine(
        EngineName.ONNXRUNTIME, Precision.FP32, loaded.folder, loaded.facts, device="cpu", layout=loaded.engine.layout
    )


def unit_length(features: np.ndarray) -> np.ndarray:
    """Return vectors (batch, features) divided by their lengths (L2)."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, np.finfo(features.dtype).tiny)


def identity(spec: str, task: ImageTask, options: ClassifierOptions) -> tuple[str, str]:
    """Return the name and the SHA-256 of the file that a spec names now; ModelLoadingError."""
    path = weights_path(spec, task, options)
    try:
        return path.name, sha256_of(path, options.cache_dir)
    except OSError as error:
        raise ModelLoadingError(
            Sentence("The weights {name} can't be read: {reason}", name=repr(path.name), reason=errno_text(error))
        ) from error


def weights_path(spec: str, task: ImageTask, options: ClassifierOptions) -> Path:
    return weights_file(
        spec,
        options.cache_dir,
        what="weights",
        usual_name=task.weights_file,
        endings=_ENDINGS,
        hf_token=options.hf_token,
    )


def candidates(options: ClassifierOptions, found: Measured) -> list[Plan]:
    """Return engines to try, best first: those that the operator asks for, else by their times on this machine.

    The last one is PyTorch in float32, with which the others are compared.
    """
    cores = options.num_threads or available_cores()
    usual = usual_layout(cores)
    plain = Plan(EngineName.PYTORCH, Precision.FP32, Layout(cores, 1, cores))
    if options.device != "cpu":
        tried = [Plan(EngineName.PYTORCH, options.precision or Precision.FP16, usual)]
    else:
        tried = [
            plan
            for plan in plans(found, cores, lambda precision: bound(precision, options))
            if options.engine in (None, plan.engine) and options.precision in (None, plan.precision)
        ]
        if options.engine is not None and options.precision is None:  # as exact as PyTorch, unless asked for
            tried = [plan for plan in tried if plan.precision is Precision.FP32]
        if not tried:
            precision = options.precision or Precision.FP32
            tried = [Plan(options.engine or _ENGINE_OF[precision], precision, usual)]
    return tried if any(same_kind(plan, plain) for plan in tried) else [*tried, plain]


def same_kind(one: Plan, other: Plan) -> bool:
    """Return whether two plans have the same engine and number format, whatever their use of the cores."""
    return (one.engine, one.precision) == (other.engine, other.precision)


def bound(precision: Precision, options: ClassifierOptions) -> float:
    """Return the largest difference of a probability from PyTorch's in float32 that is allowed."""
    return _BOUNDS.get(precision, options.max_difference)


_ENGINE_OF = {
    Precision.FP32: EngineName.ONNXRUNTIME,
    Precision.BF16: EngineName.OPENVINO,
    Precision.INT8: EngineName.OPENVINO,
    Precision.FP16: EngineName.PYTORCH,
}


def _measured(folder: Path, options: ClassifierOptions) -> Measured:
    if options.device != "cpu" or options.precision is Precision.FP16:
        return Measured()
    return measured(folder, options.num_threads or available_cores())


def _engine(
    folder: Path, facts: ModelFacts, options: ClassifierOptions, found: Measured
) -> tuple[Engine, float, tuple[str, ...]]:
    """Return the first engine that computes right, its largest difference, and why those before it were passed over."""
    images, expected = read_probe(folder)
    passed_over: list[str] = []
    for plan in candidates(options, found):
        name, precision = plan.engine, plan.precision
        try:
            engine = open_engine(name, precision, folder, facts, device=options.device, layout=plan.layout)
            answers = np.concatenate(
                [engine.probabilities(images[start : start + 8]) for start in range(0, len(images), 8)]
            )
        except ModelError as error:
            passed_over.append(
                Sentence(
                    "{engine} in {precision} was passed over: {reason}",
                    engine=name,
                    precision=precision,
                    reason=error.detail,
                )
            )
        else:
            difference = float(np.abs(answers - expected).max()) if np.isfinite(answers).all() else float("inf")
            allowed = bound(precision, options)
            if difference <= allowed:
                return engine, difference, tuple(passed_over)
            passed_over.append(
                Sentence(
                    "{engine} in {precision} was passed over: its probabilities differ by {difference:.2g} from "
                    "PyTorch's in float32, and {allowed:g} is allowed",
                    engine=name,
                    precision=precision,
                    difference=difference,
                    allowed=allowed,
                )
            )
        _log.warning("%s: %s", facts.model_version, passed_over[-1])
    raise ModelLoadingError(
        Sentence("No engine runs {model}: {reasons}", model=facts.model_version, reasons=joined("; ", passed_over))
    )
