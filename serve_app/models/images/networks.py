"""The networks: torchvision's backbones, each with a head of fully connected layers in place of ImageNet's classes.

| architecture | backbone | features | head in the owners' notebooks |
| --- | --- | --- | --- |
| `resnet50` | ResNet-50 (He et al. 2015; strides in the 3×3 convolutions) | 2048 | FC(2048→512→2) |
| `mobilenet_v3_small` | MobileNetV3-Small (Howard et al. 2019) | 576 | FC(576→256→3) |
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torchvision import models

from serve_app.models.images.architectures import (
    HEAD_NAME,
    HIDDEN_WIDTH,
    NUM_FEATURES,
    Activation,
    Architecture,
)

_ACTIVATIONS = {
    Activation.RELU: nn.ReLU,
    Activation.HARDSWISH: nn.Hardswish,
    Activation.GELU: nn.GELU,
    Activation.NONE: nn.Identity,
}


def build_network(
    architecture: Architecture,
    num_classes: int,
    *,
    hidden_widths: Sequence[int] | None = None,
    activation: Activation = Activation.RELU,
    dropout: float = 0.0,
) -> nn.Module:
    """Return a network with random weights: images (batch, 3, 224, 224), normalised, to logits (batch, num_classes).

    Its state_dict has torchvision's names, and the head's layers `fc.0`, `fc.3`, … (`classifier.…` for MobileNetV3):
    Linear, activation and Dropout take turns, as in the owners' notebooks.

    Args:
        architecture: of the backbone.
        num_classes: outputs.
        hidden_widths: of the head's layers but the last; None: one, as wide as in the notebooks.
        activation: between the head's layers.
        dropout: behind each activation; only matters in training.
    """
    widths = [HIDDEN_WIDTH[architecture]] if hidden_widths is None else list(hidden_widths)
    network = getattr(models, architecture.value)(weights=None, num_classes=1)
    setattr(
        network,
        HEAD_NAME[architecture],
        _head([NUM_FEATURES[architecture], *widths, num_classes], activation, dropout),
    )
    return network


def backbone_shapes(architecture: Architecture) -> dict[str, torch.Size]:
    """Return the names and shapes in a backbone's state_dict, in torchvision's order, without the head.

    `num_batches_tracked`, which only training looks at, is left out.
    """
    with torch.device("meta"):
        network = getattr(models, architecture.value)(weights=None, num_classes=1)
    head = f"{HEAD_NAME[architecture]}."
    return {
        name: value.shape
        for name, value in network.state_dict().items()
        if not name.startswith(head) and not name.endswith("num_batches_tracked")
    }


def _head(widths: Sequence[int], activation: Activation, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(widths):
        if layers:
            layers += [_ACTIVATIONS[activation](), nn.Dropout(dropout)]
        layers.append(nn.Linear(num_in, num_out))
    return nn.Sequential(*layers)
