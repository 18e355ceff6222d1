"""`load_classifier`: the weights that an operator names, on the fastest engine whose probabilities are right."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve_app.errors import ModelError, ModelLoadingError
from serve_app.models.built_folder import is_whole
from serve_app.models.devices import AUTO, torch_device
from serve_app.models.file_hashes import read_note, sha256_of, write_note
from serve_app.models.images.architectures import Architecture
from serve_app.models.images.conversion import converted_folder
from serve_app.models.images.converted import BACKBONE_INT8, ModelFacts, read_facts, read_probe
from serve_app.models.images.engines import Engine, EngineName, Precision, has_bfloat16, open_engine
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.quantization import MAX_DIFFERENCE
from serve_app.models.images.tasks import ImageTask
from serve_app.models.weights import weights_file

_log = logging.getLogger(__name__)

# In float32 an engine may only round differently. 8 bits have passed a check on more images (`quantization`).
_BOUNDS = {Precision.FP32: 1e-4, Precision.INT8: MAX_DIFFERENCE}
_ENDINGS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True, slots=True)
class LoadedClassifier:
    """A classifier with a warm engine, which is for one thread at a time."""

    engine: Engine
    facts: ModelFacts
    spec: str
    difference: float  # the largest from PyTorch's probabilities on the probe
    notes: tuple[str, ...]  # engines that were passed over, and why; weights that could not be loaded
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
        notes.append(f"the weights that served before are used: {error.detail}")
    facts = replace(read_facts(folder), file_name=name)
    engine, difference, passed_over = _engine(folder, facts, options)
    for size in batch_sizes:
        engine.probabilities(np.zeros((size, *read_probe(folder)[0].shape[1:]), np.uint8))
    write_note(pointer, {"folder": folder.name, "name": name})
    if facts.int8:
        notes.append(facts.int8)
    return LoadedClassifier(engine, facts, spec, difference, (*notes, *passed_over), time.time())


def identity(spec: str, task: ImageTask, options: ClassifierOptions) -> tuple[str, str]:
    """Return the name and the SHA-256 of the file that a spec names now; ModelLoadingError."""
    path = weights_path(spec, task, options)
    try:
        return path.name, sha256_of(path, options.cache_dir)
    except OSError as error:
        raise ModelLoadingError(f"The weights {path.name!r} can't be read: {error.strerror or error}") from error


def weights_path(spec: str, task: ImageTask, options: ClassifierOptions) -> Path:
    return weights_file(
        spec,
        options.cache_dir,
        what="weights",
        usual_name=task.weights_file,
        endings=_ENDINGS,
        hf_token=options.hf_token,
    )


def candidates(
    architecture: Architecture, has_int8: bool, options: ClassifierOptions
) -> list[tuple[EngineName, Precision]]:
    """Return engines to try, fastest first (docs/models/images.md).

    8 bits come first where the operator gave calibration images. The last one is PyTorch in float32, with which the
    others are compared.
    """
    plain = (EngineName.PYTORCH, Precision.FP32)
    if options.device != "cpu":
        tried = [(EngineName.PYTORCH, options.precision or Precision.FP16)]
    elif options.engine is not None or options.precision is not None:
        precision = options.precision or Precision.FP32
        tried = [(options.engine or _ENGINE_OF[precision], precision)]
    else:
        tried = [(EngineName.ONNXRUNTIME, Precision.FP32)]
        if architecture is Architecture.RESNET50 and has_bfloat16():
            tried.insert(0, (EngineName.OPENVINO, Precision.BF16))
        if architecture is Architecture.RESNET50 and has_int8:
            tried.insert(0, (EngineName.OPENVINO, Precision.INT8))
    return [*tried, plain] if plain not in tried else tried


_ENGINE_OF = {
    Precision.FP32: EngineName.ONNXRUNTIME,
    Precision.BF16: EngineName.OPENVINO,
    Precision.INT8: EngineName.OPENVINO,
    Precision.FP16: EngineName.PYTORCH,
}


def _engine(folder: Path, facts: ModelFacts, options: ClassifierOptions) -> tuple[Engine, float, tuple[str, ...]]:
    """Return the first engine that computes right, its largest difference, and why those before it were passed over."""
    images, expected = read_probe(folder)
    passed_over: list[str] = []
    has_int8 = (folder / BACKBONE_INT8).exists()
    for name, precision in candidates(Architecture(facts.architecture), has_int8, options):
        try:
            engine = open_engine(name, precision, folder, facts, device=options.device, num_threads=options.num_threads)
            found = np.concatenate(
                [engine.probabilities(images[start : start + 8]) for start in range(0, len(images), 8)]
            )
        except ModelError as error:
            passed_over.append(f"{name} in {precision} was passed over: {error.detail}")
        else:
            difference = float(np.abs(found - expected).max()) if np.isfinite(found).all() else float("inf")
            bound = _BOUNDS.get(precision, options.max_difference)
            if difference <= bound:
                return engine, difference, tuple(passed_over)
            passed_over.append(
                f"{name} in {precision} was passed over: its probabilities differ by {difference:.2g} from PyTorch's "
                f"in float32, and {bound:g} is allowed"
            )
        _log.warning("%s: %s", facts.model_version, passed_over[-1])
    raise ModelLoadingError(f"No engine runs {facts.model_version}: {'; '.join(passed_over)}")
