"""Weights to begin with, and the trained ones: a plain state_dict, as the owners' notebooks and the server take it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models

from serve_app.models.images.architectures import HEAD_NAME, Architecture
from serve_app.models.images.networks import backbone_shapes
from serve_app.models.images.state_dict import fit_weights
from serve_app.models.images.weights_file import Unfit, read_weights

_IMAGENET_FILES = {
    Architecture.RESNET50: "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
    Architecture.MOBILENET_V3_SMALL: "https://download.pytorch.org/models/mobilenet_v3_small-047dcff4.pth",
}


class WeightsUnfit(ValueError):
    """Raised when a network can't begin with what `--init` names; says what to do."""


def initialise(network: nn.Module, architecture: Architecture, init: str, classes: Sequence[str]) -> str:
    """Put weights into a network; return what it begins with, in words.

    Args:
        network: of `build_network`.
        architecture: its backbone.
        init: `none`, `imagenet`, or a file with the backbone or with the whole state_dict.
        classes: by output.

    Raises:
        WeightsUnfit: they can't be had, or do not fit.
    """
    if init == "none":
        return "random weights"
    if init == "imagenet":
        _load_backbone(network, architecture, _imagenet(architecture), "torchvision's ImageNet weights")
        return "torchvision's ImageNet backbone"
    path = Path(init).expanduser()
    try:
        stored = read_weights(path.read_bytes())
    except (OSError, Unfit) as error:
        raise WeightsUnfit(f"--init {init}: {error}; it must be none, imagenet, or a file of weights") from error
    try:
        fitted = fit_weights(stored, classes)
    except Unfit:  # a backbone alone, or with a head for other classes
        _load_backbone(network, architecture, stored.tensors, init)
        return f"the backbone of {path.name}"
    if fitted.architecture is not architecture:
        raise WeightsUnfit(f"--init {init} is a {fitted.architecture}, not a {architecture}: give --backbone")
    own = network.state_dict()
    if any(own[name].shape != value.shape for name, value in fitted.state.items() if name in own):
        _load_backbone(network, architecture, fitted.state, init)
        return f"the backbone of {path.name}"
    network.load_state_dict(fitted.state, strict=False)  # but for num_batches_tracked it is complete
    return f"{path.name}, its head included"


def save(network: nn.Module, path: Path, classes: Sequence[str], *, half: bool = False) -> None:
    """Write a network's state_dict in one step: by `.safetensors` at the name's end, else by `torch.save`.

    Args:
        network: what to write.
        path: of the file; its folder is made.
        classes: by output; a safetensors file says them.
        half: whether real numbers are stored as float16.
    """
    state = {name: _stored(value, half) for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, part, metadata={"format": "pt", "classes": ",".join(classes)})
        part.chmod(0o644)  # safetensors makes it for its owner alone
    else:
        torch.save(state, part)
    os.replace(part, path)


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    return (value.half() if half and value.is_floating_point() else value).contiguous()


def _imagenet(architecture: Architecture) -> dict[str, Tensor]:
    try:
        weights = models.get_model_weights(architecture.value).DEFAULT
        return dict(weights.get_state_dict(check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, a proxy's page instead of the file
        address = _IMAGENET_FILES[architecture]
        raise WeightsUnfit(
            f"The ImageNet weights could not be downloaded ({error}): fetch {address} elsewhere and give its path "
            "as --init PATH, or begin with --init none"
        ) from error


def _load_backbone(network: nn.Module, architecture: Architecture, tensors: dict[str, Tensor], source: str) -> None:
    shapes = backbone_shapes(architecture)
    first = next(iter(shapes))
    prefixes = sorted((name.removesuffix(first) for name in tensors if name.endswith(first)), key=len)
    for prefix in prefixes:
        found = {name: tensors[prefix + name] for name in shapes if prefix + name in tensors}
        if all(name in found and found[name].shape == shape for name, shape in shapes.items()):
            network.load_state_dict({name: value.float() for name, value in found.items()}, strict=False)
            return
    raise WeightsUnfit(f"--init {source} holds no {architecture} backbone in torchvision's names ({first}, …)")


def head_of(network: nn.Module, architecture: Architecture) -> nn.Module:
    """Return a network's head: what is trained while the backbone is frozen."""
    return network.get_submodule(HEAD_NAME[architecture])
