"""`build_network`: torchvision's backbones, each with a head of fully connected layers for our classes.

| architecture | backbone | features | head in the owners' notebooks |
| --- | --- | --- | --- |
| `resnet50` | ResNet-50 (He et al. 2015; strides in the 3×3 convolutions) | 2048 | FC(2048→512→2) |
| `mobilenet_v3_small` | MobileNetV3-Small (Howard et al. 2019) | 576 | FC(576→256→3) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn
from torchvision import models

from serve_app.models.images.architectures import HEAD_NAME, HIDDEN_WIDTH, NUM_FEATURES, Activation, Architecture
from serve_app.models.images.converted import ModelFacts
from serve_app.models.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD

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
    """Return a network with random weights: normalised images (batch, 3, 224, 224) to logits (batch, num_classes).

    Its state_dict has torchvision's names. The head's layers are `fc.0`, `fc.3`, … (`classifier.…` for MobileNetV3),
    because Linear, activation and Dropout alternate, as in the owners' notebooks.

    Args:
        hidden_widths: of the head's layers but the last; None: one layer, as wide as in the notebooks.
        dropout: after each activation, in training.
    """
    widths = [HIDDEN_WIDTH[architecture]] if hidden_widths is None else list(hidden_widths)
    network = getattr(models, architecture.value)(weights=None, num_classes=1)
    setattr(
        network, HEAD_NAME[architecture], _head([NUM_FEATURES[architecture], *widths, num_classes], activation, dropout)
    )
    return network


def backbone_shapes(architecture: Architecture) -> dict[str, torch.Size]:
    """Return the names and shapes of a backbone's state_dict, in torchvision's order.

    The head and `num_batches_tracked`, which only training reads, are left out.
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


class PixelNetwork(nn.Module):
    """A network with the normalisation of its pixels in front, in float32, as torchvision does it.

    Args:
        network: takes normalised images (batch, 3, 224, 224).
        dtype: of the network.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self._dtype = dtype
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (batch, outputs) for pixels (batch, 224, 224, 3) uint8."""
        images = pixels.permute(0, 3, 1, 2).float() / 255.0  # (batch, 3, 224, 224)
        return self.network(((images - self.mean) / self.std).to(self._dtype))


def converted_network(facts: ModelFacts, state: Mapping[str, torch.Tensor], *, with_head: bool = False) -> nn.Module:
    """Return a converted model's network in evaluation mode; without the head it returns features."""
    architecture = Architecture(facts.architecture)
    with torch.device("meta"):
        network = build_network(
            architecture, len(facts.classes), hidden_widths=facts.hidden_widths, activation=Activation(facts.activation)
        )
    tracked = {name: torch.tensor(0) for name in network.state_dict() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**state, **tracked}, assign=True)
    if not with_head:
        setattr(network, HEAD_NAME[architecture], nn.Identity())
    return network.eval()
