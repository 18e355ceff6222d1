"""A notebook's file, and the folder that it is converted into: made once, and copied where a test changes them."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from serve_app.models.images import conversion, loading, quantization
from serve_app.models.images.conversion import Conversion, convert
from serve_app.models.images.converted import BACKBONE, ModelFacts
from serve_app.models.images.quantization import probe_images
from serve_app.models.images.speed import Measured
from tests.unit.models.images.notebooks import BEVERAGES, mobilenet, saved


@dataclass(frozen=True, slots=True)
class Finished:
    """Weights and what they were converted into; not to be changed."""

    notebook: nn.Module
    weights: Path
    folder: Path
    facts: ModelFacts


@pytest.fixture(autouse=True)
def not_measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test measure engines, which takes seconds, but those of `test_speed`."""
    if request.module.__name__.rpartition(".")[2] != "test_speed":
        monkeypatch.setattr(loading, "measured", lambda folder, cores: Measured())


def _few_images() -> np.ndarray:
    return probe_images()[:4]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Convert a MobileNetV3-Small in this process."""
    folder = tmp_path_factory.mktemp("finished")
    notebook = mobilenet(step=1)
    weights = folder / "beverage_detector.pth"
    stored = saved(notebook.state_dict())
    weights.write_bytes(stored)
    converted = folder / "converted"
    converted.mkdir()
    sha256 = hashlib.sha256(stored).hexdigest()
    request = Conversion(str(weights), sha256, "beverage classifier", BEVERAGES, "relu")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization, "probe_images", _few_images)
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's exporter
        return Finished(notebook, weights, converted, convert(request, converted))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, finished: Finished) -> list[Conversion]:
    """Convert in this process, without another export: the backbone is that of `finished`. Return what was asked for.

    Weights in a test may differ from `finished` in their head only; what does not differ is copied.
    """
    asked: list[Conversion] = []

    def convert_here(request: Conversion, folder: Path) -> None:
        asked.append(request)
        known = hashlib.sha256(Path(request.weights).read_bytes()).hexdigest() == finished.facts.sha256
        if known and request.classes == BEVERAGES and not request.calibration:
            shutil.copytree(finished.folder, folder, dirs_exist_ok=True)
        else:
            convert(request, folder)

    def copied(network: Any, path: Path) -> None:
        backbone, expected = network.network.state_dict(), finished.notebook.state_dict()
        counted = "num_batches_tracked"
        assert all(torch.equal(value, expected[name]) for name, value in backbone.items() if counted not in name)
        shutil.copy(finished.folder / BACKBONE, path)

    monkeypatch.setattr(conversion, "_convert_elsewhere", convert_here)
    monkeypatch.setattr(conversion, "_export", copied)
    monkeypatch.setattr(quantization, "probe_images", _few_images)
    return asked


def with_other_head(finished: Finished, path: Path, shift: float = 1.0) -> Path:
    """Write weights whose last bias differs."""
    state = dict(finished.notebook.state_dict())
    state["classifier.3.bias"] = state["classifier.3.bias"] + torch.tensor([shift, 0.0, -shift])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(saved(state))
    return path
