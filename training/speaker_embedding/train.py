"""Train the network: cosine softmax with an additive angular margin, bf16, averaged weights, resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from serve_app.models.diarization.embedding import NetworkShape, SpeakerNetwork
from training.speaker_embedding import batches
from training.speaker_embedding.data import Corpus

_SCALE = 24.0
_MAX_MARGIN = 0.2


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the result, beside the data."""

    steps: int = 7_500
    batch_size: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    warm_up_steps: int = 300
    seed: int = 3


class MarginHead(nn.Module):
    """Classify embeddings by angle to one weight per class (ArcFace, Deng et al. 2019, eq. 3)."""

    def __init__(self, dimension: int, num_classes: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(num_classes, dimension) * 0.1)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
        """Return the loss and the share of crops classified right."""
        cosines = functional.linear(functional.normalize(embeddings.float()), functional.normalize(self.centres))
        right = (cosines.argmax(dim=1) == labels).float().mean()
        own = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        pushed = torch.cos(torch.acos(own) + margin)
        logits = cosines.scatter(1, labels[:, None], pushed) * _SCALE
        return functional.cross_entropy(logits, labels), right


def margin_at(progress: float) -> float:
    """Return the margin: none for the first 35 % of the run, else it never starts to learn, then growing to 65 %."""
    return _MAX_MARGIN * min(max((progress - 0.35) / 0.30, 0.0), 1.0)


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Return the rate: linear warm-up, then half a cosine down to 1 %."""
    warm = min(1.0, (step + 1) / recipe.warm_up_steps)
    return recipe.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps)))


def train(
    corpus: Corpus,
    recipe: Recipe,
    folder: Path,
    shape: NetworkShape = NetworkShape(),  # noqa: B008 (frozen)
    measure: Callable[[SpeakerNetwork], str] | None = None,
    save_every: int = 250,
) -> SpeakerNetwork:
    """Train, or go on from `folder`/state.pt, and return the averaged network on the CPU, in evaluation mode.

    Args:
        corpus: features of the training speakers.
        recipe: hyper-parameters; batches depend on seed and step only, so a resumed run sees what it would have seen.
        folder: where `state.pt` is kept.
        shape: sizes of the network.
        measure: called on the averaged network now and then; its text is printed.
        save_every: steps between two saves.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    network = SpeakerNetwork(shape).to(device)
    head = MarginHead(shape.dimension, corpus.num_classes).to(device)
    # Averaging over the last few hundred steps is worth a longer decay of the learning rate.
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], weight_decay=recipe.weight_decay)
    parts = {"network": network, "head": head, "averaged": averaged, "optimizer": optimizer}
    folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / "state.pt"
    step = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step = int(state["step"])
        print(f"resuming at step {step}", flush=True)
    network.train()
    losses, rights, began = [], [], time.perf_counter()
    while step < recipe.steps:
        batch = batches.draw(corpus, np.random.default_rng((recipe.seed, step)), recipe.batch_size)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, recipe)
        with torch.autocast(device.type, torch.bfloat16):
            embeddings = network(batch.features.to(device), batch.weights.to(device))
        loss, right = head(embeddings, batch.labels.to(device), margin_at(step / recipe.steps))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        if step >= recipe.warm_up_steps:
            averaged.update_parameters(network)
        step += 1
        losses.append(float(loss.detach()))
        rights.append(float(right))
        if step % 50 == 0:
            rate = 50 * recipe.batch_size / (time.perf_counter() - began)
            print(f"{step} loss {np.mean(losses):.3f} right {np.mean(rights):.3f} {rate:.0f}/s", flush=True)
            losses, rights, began = [], [], time.perf_counter()
        if step % save_every == 0 or step == recipe.steps:
            state = {name: part.state_dict() for name, part in parts.items()}
            partial = state_path.with_suffix(".partial")
            torch.save({**state, "step": step, "shape": asdict(shape)}, partial)
            partial.replace(state_path)
        if measure is not None and (step % 1000 == 0 or step == 500):
            print(f"{step} {measure(trained(averaged, shape))}", flush=True)
            began = time.perf_counter()
    return trained(averaged, shape)


def trained(averaged: AveragedModel, shape: NetworkShape) -> SpeakerNetwork:
    """Return a copy of the averaged network, on the CPU, in evaluation mode."""
    network = SpeakerNetwork(shape)
    network.load_state_dict(averaged.module.state_dict())
    return network.eval()


def load_state(folder: Path) -> SpeakerNetwork:
    """Return the averaged network as last saved, however far the run has come."""
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    shape = NetworkShape(**{**state["shape"], "dilations": tuple(state["shape"]["dilations"])})
    network = SpeakerNetwork(shape)
    prefix = "module."
    network.load_state_dict({k[len(prefix) :]: v for k, v in state["averaged"].items() if k.startswith(prefix)})
    return network.eval()
