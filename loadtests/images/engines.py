"""Every engine against plain PyTorch: `python -m loadtests.images.engines [--weights-dir DIR] [--images DIR]`.

Plain PyTorch is what the owners' notebooks did: PIL, torchvision's transforms, the network in float32. An engine is
what a replica runs: `read_image`, then `load_classifier` with that engine forced. In process, one thread each, engines
in turns over some rounds; CPU milliseconds an image, the largest and the mean difference of a probability, and how
often the class is the same. 8 bits are calibrated on half of the images and compared on the other half.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from loadtests.images.inputs import jpegs, machine, weights_in_new_process
from loadtests.images.measurement import expected_probabilities
from loadtests.images.peers.settings import Settings
from loadtests.images.photographs import write_photographs
from serve_app.errors import ModelLoadingError
from serve_app.models.images.architectures import Architecture
from serve_app.models.images.engines import Engine, EngineName, Precision
from serve_app.models.images.loading import load_classifier
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.preprocessing import read_image
from serve_app.models.images.tasks import BEVERAGE, CONTAINER, ImageTask

ENGINES = (
    (EngineName.PYTORCH, Precision.FP32),
    (EngineName.ONNXRUNTIME, Precision.FP32),
    (EngineName.OPENVINO, Precision.FP32),
    (EngineName.PYTORCH, Precision.BF16),
    (EngineName.OPENVINO, Precision.BF16),
    (EngineName.ONNXRUNTIME, Precision.INT8),
    (EngineName.OPENVINO, Precision.INT8),
)
BATCHES = (1, 8)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an engine's probabilities compare with plain PyTorch's.

    Attributes:
        largest: difference of a probability.
        mean: difference of a probability.
        same_class: share of images, 0 to 1.
        num: images compared.
    """

    largest: float
    mean: float
    same_class: float
    num: int


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.images.engines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights-dir", type=Path, help="with reusable_classifier.pth, beverage_detector.pth, or one")
    parser.add_argument("--images", type=Path, help="folder of JPEGs")
    parser.add_argument("--num", type=int, default=256, help="images, at the most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    print(f"{time.strftime('%F %H:%M')}, {machine()}, one thread", flush=True)
    figures = {}
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        made = write_photographs(Path(name) / "photographs", arguments.num) if arguments.images is None else ()
        images = list(made or jpegs(arguments.images, Path(name)))[: arguments.num]
        for task, architecture in ((CONTAINER, Architecture.RESNET50), (BEVERAGE, Architecture.MOBILENET_V3_SMALL)):
            weights = _weights(arguments.weights_dir, task, architecture, images, Path(name))
            figures[architecture.value] = _compare(task, architecture, weights, images, Path(name), arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def agreement(found: np.ndarray, expected: np.ndarray) -> Agreement:
    """Compare probabilities (images, classes)."""
    differences = np.abs(found - expected)
    same = found.argmax(axis=1) == expected.argmax(axis=1)
    return Agreement(float(differences.max()), float(differences.mean()), float(same.mean()), len(found))


def _weights(folder: Path | None, task: ImageTask, architecture: Architecture, images: list[Path], work: Path) -> Path:
    if folder is not None and (folder / task.weights_file).exists():
        return folder / task.weights_file
    print(f"{task.weights_file}: random weights, with statistics of these images")
    path = work / "weights" / task.weights_file
    weights_in_new_process(path, architecture.value, task.name, images)
    return path


def _compare(
    task: ImageTask, architecture: Architecture, weights: Path, images: list[Path], work: Path, rounds: int
) -> list[dict[str, object]]:
    rows = expected_probabilities(Settings(str(weights), architecture.value, task.name, path="", port=0), images)
    expected = np.array([[row[name] for name in task.classes] for row in rows])
    pixels = np.stack([read_image(image.read_bytes()) for image in images])
    half = len(images) // 2
    calibration = work / f"calibration-{task.name}"
    calibration.mkdir()
    for image in images[:half]:
        (calibration / image.name).write_bytes(image.read_bytes())
    engines: dict[str, Engine] = {}
    told: dict[str, str] = {}
    for name, precision in ENGINES:
        options = ClassifierOptions(
            work / "cache",
            engine=name,
            precision=precision,
            num_threads=1,
            max_difference=0.999,  # all are compared here, whatever they differ by
            calibration=str(calibration) if precision is Precision.INT8 else "",
        )
        label = f"{name} {precision}"
        try:
            loaded = load_classifier(str(weights), task, options, batch_sizes=BATCHES)
        except ModelLoadingError as error:
            told[label] = error.detail
            continue
        if loaded.engine.precision is precision and loaded.engine.name is name:
            engines[label] = loaded.engine
        told[label] = loaded.facts.int8 if precision is Precision.INT8 else "; ".join(loaded.notes)
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for label, engine in engines.items():
            for batch in BATCHES:
                costs[label, batch].append(_cpu_ms(partial(_all, engine, pixels[:64], batch)) / len(pixels[:64]))
    print(f"\n{architecture}, {weights.name}, {len(images)} images, medians of {rounds} rounds")
    print("| engine | CPU ms an image, batch of 1 | of 8 | largest difference | mean | same class |")
    print("| --- | --- | --- | --- | --- | --- |")
    figures: list[dict[str, object]] = []
    for label, engine in engines.items():
        compared = slice(half, None) if "int8" in label else slice(None)
        agreed = agreement(_all(engine, pixels[compared], 8), expected[compared])
        one, eight = (statistics.median(costs[label, batch]) for batch in BATCHES)
        print(
            f"| {label} | {one:.1f} | {eight:.1f} | {agreed.largest:.1e} | {agreed.mean:.1e} | "
            f"{agreed.same_class:.1%} of {agreed.num} |",
            flush=True,
        )
        figures.append(
            {"engine": label, "cpu_ms": [one, eight], "largest": agreed.largest, "mean": agreed.mean}
            | {"same_class": agreed.same_class, "num": agreed.num}
        )
    for label, note in told.items():
        if note or label not in engines:
            print(f"{label}: {note or 'was not run'}")
    return figures


def _all(engine: Engine, pixels: np.ndarray, batch: int) -> np.ndarray:
    return np.concatenate(
        [engine.probabilities(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    )


def _cpu_ms(work: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


if __name__ == "__main__":
    main()
