"""What the owners' notebooks may have left: networks of several make, and their files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torchvision import models

from serve_app.models.images.architectures import Activation
from serve_app.models.images.converted import ModelFacts
from serve_app.models.images.networks import converted_network
from serve_app.models.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from serve_app.models.images.quantization import probe_images
from serve_app.models.images.state_dict import FittedWeights

CONTAINERS = ("disposable", "reusable")
BEVERAGES = ("empty", "with_beverage", "unclear")


def lively(network: nn.Module, seed: int = 0, step: int = 4) -> nn.Module:
    """Make a network react to its input as trained ones do; random weights alone give all images the same answer.

    The statistics of the batch norms become those of some images, each parameter of them another number, and the last
    layer's outputs spread over a few units. Of the images every `step`th pixel is seen: 1 for networks that will see
    whole ones.
    """
    torch.manual_seed(seed)
    seen = _seen(step)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
        norm.momentum = None  # the plain mean of all batches
        norm.reset_running_stats()
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        network.train()(seen)
        found = network.eval()(seen)
        factor = 0.8 / found.std(0)
        last.weight *= factor[:, None]
        if last.bias is not None:
            last.bias.copy_((last.bias - found.mean(0)) * factor)
    return network


def _seen(step: int) -> torch.Tensor:
    pixels = (
        torch.from_numpy(probe_images()[:: 2 if step > 1 else 1, ::step, ::step].copy()).permute(0, 3, 1, 2) / 255.0
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels - mean) / std


def mobilenet(seed: int = 0, head: nn.Module | None = None, step: int = 4) -> nn.Module:
    """Return what `models.mobilenet_v3_small` with another classifier is in a notebook."""
    torch.manual_seed(seed)
    network = models.mobilenet_v3_small(weights=None, num_classes=1)
    network.classifier = head or nn.Sequential(nn.Linear(576, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 3))
    return lively(network, seed, step)


def resnet(seed: int = 0) -> nn.Module:
    """Return what `models.resnet50` with another fc is in a notebook."""
    torch.manual_seed(seed)
    network = models.resnet50(weights=None, num_classes=1)
    network.fc = nn.Sequential(nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 2))
    return lively(network, seed)


def saved(content: Any, *, legacy: bool = False) -> bytes:
    """Return what torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def as_safetensors(state: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return a safetensors file's bytes."""
    return safetensors.torch.save({name: value.contiguous() for name, value in state.items()}, metadata)


def renamed(state: Mapping[str, torch.Tensor], *changes: tuple[str, str]) -> dict[str, torch.Tensor]:
    """Return a state_dict under other names: of each name the first beginning that is in `changes` is replaced."""
    result = {}
    for name, value in state.items():
        old, new = next(((old, new) for old, new in changes if name.startswith(old)), ("", ""))
        result[new + name.removeprefix(old)] = value
    return result


def served(fitted: FittedWeights, classes: tuple[str, ...], activation: Activation = Activation.RELU) -> nn.Module:
    """Return the network that is served from fitted weights: normalised images to logits."""
    facts = ModelFacts(
        fitted.architecture.value, fitted.hidden_widths, activation.value, classes, "w.pth", "0" * 64, fitted.findings
    )
    return converted_network(facts, fitted.state, with_head=True)


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    """Return normalised images; the networks take any side."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def logits(network: nn.Module) -> torch.Tensor:
    """Return what a network says of `images`."""
    with torch.inference_mode():
        return network.eval()(images())
