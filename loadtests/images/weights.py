"""Weights to measure with where nobody has trained any: random, but their answers differ from picture to picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from loadtests.images.peers.classifier import Classifier
from serve_app.models.images.networks import Architecture, build_network
from serve_app.models.images.tasks import TASKS

_BATCH = 8
_LOGITS_STD = 0.7  # probabilities all over (0, 1), as a trained network's are on hard pictures
# Of each residual branch. With PyTorch's own, 1, bfloat16 moved the probabilities by 0.36 and our graph passed it over;
# 0.1 was chosen so that it takes it. Hence these weights say nothing of which engine real ones get.
_BRANCH_SCALE = 0.1


def write_weights(path: Path, architecture: Architecture, task: str, images: Sequence[Path], seed: int = 0) -> Path:
    """Write a state_dict; the same for the same seed and pictures.

    Args:
        path: of the file.
        architecture: of the network.
        task: name; gives the number of classes.
        images: from which BatchNorm's statistics and the head's scale are taken; at least two.
        seed: of the random weights.
    """
    torch.manual_seed(seed)
    network = build_network(architecture, len(TASKS[task].classes))
    for name, module in network.named_modules():
        if name.endswith("bn3"):
            nn.init.constant_(module.weight, _BRANCH_SCALE)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    prepare = Classifier(path, architecture.value, task, threads=1).read
    batch = torch.stack([prepare(image.read_bytes()) for image in images[:32]])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over all batches
    network.train()
    with torch.no_grad():
        for part in batch.split(_BATCH):
            network(part)
        network.eval()
        logits = torch.cat([network(part) for part in batch.split(_BATCH)])
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        scale = _LOGITS_STD / logits.std(dim=0).clamp_min(1e-6)
        last.weight *= scale[:, None]
        last.bias.copy_((last.bias - logits.mean(dim=0)) * scale)
    torch.save(network.state_dict(), path)
    return path
