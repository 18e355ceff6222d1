"""`read_segmentation`: the description and the tensors in a checkpoint of pyannote's segmentation network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyannote.audio.core.task import Problem, Resolution, Specifications

from serve_app.models.pickled import PlainObject, Refused, read_checkpoint
from serve_app.sentences import Sentence

# what Lightning and omegaconf store beside the tensors; nothing of it is made
_TASK = "pyannote.audio.core.task."
_PLAIN = (
    *(f"{_TASK}{name}" for name in ("Problem", "Resolution", "Specifications")),
    "pyannote.audio.core.model.Introspection",
    *(f"omegaconf.{name}" for name in ("base.ContainerMetadata", "base.Metadata", "listconfig.ListConfig")),
    "omegaconf.nodes.AnyNode",
    "typing.Any",
    *(f"builtins.{name}" for name in ("dict", "int", "list", "long")),
)
_SIZES: Mapping[str, Mapping[str, type]] = {
    "sincnet": {"stride": int, "sample_rate": int},
    "lstm": {
        "hidden_size": int,
        "num_layers": int,
        "bidirectional": bool,
        "monolithic": bool,
        "dropout": float,
        "batch_first": bool,
    },
    "linear": {"hidden_size": int, "num_layers": int},
}
_LARGEST = {"num_layers": 16, "num_channels": 8, "sample_rate": 192_000}
_LARGEST_SIZE = 4096
_MAX_CLASSES = 16
_MAX_CHUNK_S = 120.0


@dataclass(frozen=True, slots=True)
class SegmentationFile:
    """The content of a checkpoint: arguments of PyanNet, what it predicts, and its tensors by name."""

    arguments: dict[str, Any]
    specifications: Specifications
    tensors: dict[str, torch.Tensor]


def read_segmentation(path: Path) -> SegmentationFile:
    """Return the content of the file; Refused says what is wrong with it, OSError why it can't be read."""
    content = _table(read_checkpoint(path, _PLAIN), "content")
    tensors = _table(content.get("state_dict"), "state_dict")
    if not all(isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in tensors.items()):
        raise Refused(Sentence("its state_dict is no table of tensors"))
    stated = _table(content.get("pyannote.audio"), "pyannote.audio").get("specifications")
    return SegmentationFile(_arguments(content.get("hyper_parameters")), _specifications(stated), tensors)


def _table(value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise Refused(Sentence("its {name} is no table: it is no segmentation network of pyannote.audio", name=name))
    return value


def _arguments(given: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in _table(given, "hyper_parameters").items():
        if name in _SIZES:
            kinds = _SIZES[name]
            sizes = _table(value, f"hyper-parameter {name}")
            arguments[name] = {key: _bounded(key, size, kinds.get(key)) for key, size in sizes.items()}
        elif name in ("sample_rate", "num_channels"):
            arguments[name] = _bounded(name, value, int)
    return arguments


def _bounded(name: Any, value: Any, kind: type | None) -> Any:
    if type(value) is not kind or not isinstance(value, bool | int | float):
        raise Refused(Sentence("its hyper-parameters are not those of pyannote's PyanNet"))
    if not 0 <= value <= _LARGEST.get(name, _LARGEST_SIZE):
        raise Refused(
            Sentence(
                "its hyper-parameter {name} is {value}, more than {get}",
                name=name,
                value=value,
                get=_LARGEST.get(name, _LARGEST_SIZE),
            )
        )
    return value


def _specifications(given: Any) -> Specifications:
    state = given.state if isinstance(given, PlainObject) and given.name == f"{_TASK}Specifications" else None
    stated = _table(state, "specifications")
    classes, most, warm_up = (stated.get(name) for name in ("classes", "powerset_max_classes", "warm_up"))
    duration, permuted = stated.get("duration"), stated.get("permutation_invariant", False)
    if (
        not isinstance(classes, list)
        or not 0 < len(classes) <= _MAX_CLASSES
        or not all(isinstance(name, str) for name in classes)
        or not (most is None or (type(most) is int and 0 < most <= len(classes)))
        or not (type(duration) is float and 0 < duration <= _MAX_CHUNK_S)
        or not (isinstance(warm_up, tuple) and len(warm_up) == 2 and all(type(each) is float for each in warm_up))
        or not isinstance(permuted, bool)
    ):
        raise Refused(Sentence("its specifications are not those of a segmentation network"))
    return Specifications(
        problem=_member(Problem, stated.get("problem")),
        resolution=_member(Resolution, stated.get("resolution")),
        duration=duration,
        warm_up=warm_up,
        classes=classes,
        powerset_max_classes=most,
        permutation_invariant=permuted,
    )


def _member(kind: Any, given: Any) -> Any:
    """Return the member of an enumeration that a pickle names by its number."""
    if isinstance(given, PlainObject) and given.name == f"{_TASK}{kind.__name__}" and len(given.arguments) == 1:
        for member in kind:
            if type(given.arguments[0]) is int and member.value == given.arguments[0]:
                return member
    raise Refused(Sentence("its specifications name no {kind} of pyannote.audio", kind=kind.__name__))
