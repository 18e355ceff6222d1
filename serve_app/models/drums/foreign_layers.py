"""`layers_of`: the layers of another maker's state_dict, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from serve_app.sentences import Sentence

RECURRENT = {4: nn.LSTM, 3: nn.GRU, 1: nn.RNN}  # by rows of the weights for each unit
RECURRENT_NAME = re.compile(r"(?:weight|bias)_(?:ih|hh)_l(\d+)(_reverse)?")
_NORM_TENSORS = {"weight", "bias", "running_mean", "running_var"}
_ORDER = {"conv2d": 0, "conv1d": 1, "linear": 2, "recurrent": 2}


class Unfit(Exception):
    """What does not fit, as the rest of a sentence that begins with the file's name."""


@dataclass(slots=True)
class Layer:
    """The tensors of one layer of a state_dict, by the rest of their names, and the batch norm behind it."""

    name: str
    kind: str
    tensors: dict[str, Tensor]
    norm: dict[str, Tensor] | None = None
    pool: int = 1
    sizes: tuple[int, int] = field(default=(0, 0))  # in, out

    def __str__(self) -> str:
        shapes = ", ".join(str(tuple(each.shape)) for key, each in self.tensors.items() if key.startswith("weight"))
        return f"{self.name or 'the top'} {shapes}"


def input_bands(tensors: Mapping[str, Tensor]) -> int | None:
    """Return the bands of the network's input where its first layer says so; None for 2-D convolutions. Unfit."""
    layers = [each for each in layers_of(tensors) if each.kind != "norm"]
    return None if not layers or layers[0].kind == "conv2d" else layers[0].sizes[0]


def num_outputs(tensors: Mapping[str, Tensor]) -> int:
    """Return how many outputs the network has for each frame; Unfit."""
    return layers_of(tensors)[-1].sizes[1]


def layers_of(tensors: Mapping[str, Tensor]) -> list[Layer]:
    """Return the layers from the input to the head, batch norms with their convolutions."""
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        owner, _, leaf = name.rpartition(".")
        if leaf != "num_batches_tracked":
            groups[owner][leaf] = value
    layers = [_layer(name, own) for name, own in groups.items()]
    if not any(each.kind != "norm" for each in layers):
        raise Unfit(Sentence("it holds no layers"))
    return _with_norms(layers)


def _layer(name: str, own: dict[str, Tensor]) -> Layer:
    for leaf, value in own.items():
        if value.is_quantized or not value.is_floating_point() or not torch.isfinite(value).all():
            raise Unfit(Sentence("{name} is quantized, or not finite everywhere", name=f"{name}.{leaf}"))
    own = {leaf: value.float().contiguous() for leaf, value in own.items()}
    weight = own.get("weight")
    if all(RECURRENT_NAME.fullmatch(leaf) for leaf in own) and "weight_hh_l0" in own:
        rows, units = own["weight_hh_l0"].shape
        if rows // units in RECURRENT and rows % units == 0:
            ways = 2 if "weight_hh_l0_reverse" in own else 1
            return Layer(name, "recurrent", own, sizes=(own["weight_ih_l0"].shape[1], units * ways))
    elif set(own) == _NORM_TENSORS and own["running_mean"].ndim == 1:
        return Layer(name, "norm", own, sizes=(len(own["running_mean"]),) * 2)
    elif weight is not None and set(own) <= {"weight", "bias"} and weight.ndim in (2, 3, 4):
        kind = {2: "linear", 3: "conv1d", 4: "conv2d"}[weight.ndim]
        if all(size % 2 for size in weight.shape[2:]):
            sizes = (weight.shape[1], weight.shape[0])
            # a convolution of width 1 is a fully connected layer
            return Layer(name, "linear" if tuple(weight.shape[2:]) == (1,) else kind, own, sizes=sizes)
    shapes = ", ".join(f"{leaf} {tuple(value.shape)}" for leaf, value in own.items())
    raise Unfit(
        Sentence(
            "its layer {name} with {shapes} is no convolution of odd width, batch norm, recurrent or fully connected "
            "layer",
            name=name or "('')",
            shapes=shapes,
        )
    )


def _with_norms(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers without the batch norms, which are given to their convolutions."""
    others = [each for each in layers if each.kind != "norm"]
    convolutions = [each for each in others if each.kind in ("conv1d", "conv2d")]
    norms = [each for each in layers if each.kind == "norm"]
    first = [norms.pop(0)] if norms and layers[0] is norms[0] else []
    alike = [each.sizes[1] for each in convolutions] == [each.sizes[0] for each in norms]
    before = {id(norm): layer for layer, norm in pairwise(layers) if norm.kind == "norm"}
    for place, norm in enumerate(norms):
        owner = convolutions[place] if alike else before[id(norm)]
        if owner not in convolutions or owner.norm is not None or owner.sizes[1] != norm.sizes[0]:
            raise Unfit(Sentence("it is not clear which convolution its batch norm {layer} follows", layer=norm))
        owner.norm = norm.tensors
    return first + sorted(others, key=lambda layer: _ORDER[layer.kind])
