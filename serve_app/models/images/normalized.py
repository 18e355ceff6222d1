"""A network from pixels on: ToTensor and Normalize as its first step, and its backbone apart from its head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from serve_app.models.images.architectures import HEAD_NAME, Activation, Architecture
from serve_app.models.images.converted import ModelFacts
from serve_app.models.images.networks import build_network
from serve_app.models.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD


class PixelNetwork(nn.Module):
    """Pixels to what the network makes of them, which for a backbone are its features.

    Args:
        network: takes normalised images (batch, 3, 224, 224).
        dtype: what it is computed in; pixels are normalised in float32, as torchvision does.
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
    """Return a converted model's network, in evaluation mode; its head is left out unless asked for."""
    architecture = Architecture(facts.architecture)
    with torch.device("meta"):
        network = build_network(
            architecture,
            len(facts.classes),
            hidden_widths=facts.hidden_widths,
            activation=Activation(facts.activation),
        )
    tracked = {name: torch.tensor(0) for name in network.state_dict() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**state, **tracked}, assign=True)
    if not with_head:
        setattr(network, HEAD_NAME[architecture], nn.Identity())
    return network.eval()
