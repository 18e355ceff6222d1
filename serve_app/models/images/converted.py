"""The folder of a converted file of weights: everything that an engine reads. Imports no torch.

| file | holds |
| --- | --- |
| `facts.json` | architecture, head, classes, the weights file's name and SHA-256, how its names were understood |
| `weights.safetensors` | the network's state_dict in our names, float32: for PyTorch |
| `backbone.onnx` | (batch, 224, 224, 3) uint8 to features (batch, features), normalisation inside: for the others |
| `head.safetensors` | the head's layers: they run in float32 whatever the backbone's number format |
| `probe.safetensors` | images, and PyTorch's features and probabilities of them in float32, to compare engines with |
| `backbone-int8.onnx` | the backbone in 8 bits, where calibration images were given and the check passed |
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from serve_app.errors import ModelLoadingError
from serve_app.sentences import Sentence

FACTS, WEIGHTS, BACKBONE, BACKBONE_INT8 = "facts.json", "weights.safetensors", "backbone.onnx", "backbone-int8.onnx"
HEAD, PROBE = "head.safetensors", "probe.safetensors"
INPUT, OUTPUT = "images", "features"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about converted weights."""

    architecture: str  # of the backbone, torchvision's name
    hidden_widths: tuple[int, ...]  # of the head's layers but the last
    activation: str  # between the head's layers
    classes: tuple[str, ...]  # by output
    file_name: str  # of the weights, without folders
    sha256: str  # of the weights' file
    findings: tuple[str, ...]  # how the file's names were understood
    int8: str = ""  # how 8 bits did on the calibration images; empty where none were given

    @property
    def model_version(self) -> str:
        """Name of the weights' file and the beginning of its SHA-256."""
        return f"{self.file_name} ({self.sha256[:8]})"


@dataclass(frozen=True, slots=True)
class Head:
    """Fully connected layers: features to probabilities, in float32."""

    weights: tuple[np.ndarray, ...]  # of each layer, (out, in)
    biases: tuple[np.ndarray, ...]  # of each layer, (out,)
    activation: str  # between the layers

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return (batch, classes) for features (batch, features)."""
        values = features
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                values = _activated(values, self.activation)
            values = values @ weight.T + bias
        return softmax(values)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities, (batch, classes), of logits of the same shape."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _activated(values: np.ndarray, activation: str) -> np.ndarray:
    if activation == "relu":
        return np.maximum(values, 0.0)
    if activation == "hardswish":
        return values * np.clip(values + 3.0, 0.0, 6.0) / 6.0
    if activation == "gelu":
        from scipy.special import erf  # the others need no scipy

        return values * 0.5 * (1.0 + erf(values / math.sqrt(2.0)))
    return values


def read_facts(folder: Path) -> ModelFacts:
    """Return the facts of a converted model; ModelLoadingError where its folder is damaged."""
    try:
        content: dict[str, Any] = json.loads((folder / FACTS).read_text("utf-8"))
        lists = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
        return ModelFacts(**content | lists)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelLoadingError(
            Sentence("The converted model in {folder} is damaged: remove that folder", folder=folder)
        ) from error


def write_facts(folder: Path, facts: ModelFacts) -> None:
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=2, ensure_ascii=False), "utf-8")


def read_head(folder: Path, activation: str) -> Head:
    layers = load_file(folder / HEAD)
    numbers = range(len(layers) // 2)
    return Head(
        tuple(layers[f"{number}.weight"] for number in numbers),
        tuple(layers[f"{number}.bias"] for number in numbers),
        activation,
    )


def read_probe(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the probe's images (batch, 224, 224, 3) uint8, and PyTorch's probabilities (batch, classes)."""
    probe = load_file(folder / PROBE)
    return probe["images"], probe["probabilities"]


def read_probe_features(folder: Path) -> np.ndarray:
    """Return PyTorch's features of the probe's images, (batch, features)."""
    return load_file(folder / PROBE)["features"]


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path)
