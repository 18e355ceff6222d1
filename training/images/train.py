"""The training: stages of growing pictures, averaged weights, early stopping on the validation loss."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from serve_app.models.images.architectures import Architecture
from training.images.augment import Augmentation, augment, normalised
from training.images.folders import Split
from training.images.pixels import Pixels
from training.images.weights import head_of

_WARM_UP_STEPS = 100
_LOOKED_AT = 64  # pictures at once when only looking
_SETTLED_ON = 512  # pictures that batch norms are measured on


@dataclass(frozen=True, slots=True)
class Stage:
    """So many epochs on pictures of so many pixels a side."""

    side_px: int
    epochs: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained, beside the data.

    Attributes:
        stages: one after the other; the last must be of the size that is served.
        minutes: at most, of training; None: as long as the epochs take. Stages share it by their cost.
        batch: pictures.
        rate: of AdamW, highest.
        backbone_factor: of the rate, for the backbone: below 1 where it has learnt before.
        schedule: `cosine` to zero over all stages, or `plateau`: halved where the loss has not fallen for a while.
        patience: epochs without a lower validation loss after which a stage ends.
        freeze_epochs: at first, that train the head alone.
        averaging: share that averaged weights keep at a step.
        smoothing: of labels.
    """

    stages: tuple[Stage, ...] = (Stage(224, 30),)
    minutes: float | None = None
    batch: int = 32
    rate: float = 1e-3
    backbone_factor: float = 1.0
    weight_decay: float = 0.02
    schedule: str = "cosine"
    patience: int = 8
    freeze_epochs: int = 0
    averaging: float = 0.998
    smoothing: float = 0.05
    clip: float = 2.0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training.

    Attributes:
        network: of the best epoch of the last stage that had one; on the CPU, in evaluation mode.
        history: what each epoch came to.
        stopped: why it ended.
        seconds: it took.
    """

    network: nn.Module
    history: list[dict[str, float]]
    stopped: str
    seconds: float


class EarlyStopping:
    """Remembers the lowest loss, and for how many epochs there was no lower one."""

    def __init__(self, patience: int) -> None:
        self.best = math.inf
        self.waited = 0
        self._patience = patience

    def improved(self, loss: float) -> bool:
        """Take an epoch's loss; return whether it is the lowest so far."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return True
        self.waited += 1
        return False

    @property
    def over(self) -> bool:
        """Whether patience is at an end."""
        return self.waited >= self._patience


def class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return each class's weight in the loss, (classes,) float32: all classes together weigh the same; 1 in the mean.

    The mean is over pictures. A class without pictures weighs nothing.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = counts > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0).astype(np.float32)


def train(
    network: nn.Module,
    architecture: Architecture,
    pixels: Pixels,
    split: Split,
    num_classes: int,
    recipe: Recipe,
    *,
    device: torch.device | None = None,
    keep: Callable[[nn.Module], None] = lambda network: None,
    tell: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train a network, and return it as it was best.

    Ctrl-C ends it as if the time were over.

    Args:
        network: of `build_network`, with the weights to begin with.
        architecture: its backbone.
        pixels: all pictures.
        split: which train, and which validate.
        num_classes: of the network.
        recipe: how.
        device: where; None: the CPU.
        keep: called with each network that is better than all before in its stage.
        tell: called with one line an epoch.
        clock: seconds.

    Raises:
        FloatingPointError: the loss is no number any more; the rate is too high.
    """
    run = _Run(network, architecture, pixels, split, num_classes, recipe, device or torch.device("cpu"), clock)
    stopped = "all epochs done"
    try:
        for number, stage in enumerate(recipe.stages):
            stopped = run.stage(number, stage, keep, tell)
    except KeyboardInterrupt:
        stopped = "interrupted"
    best = run.best if run.best is not None else run.averaged.module
    return Trained(best.cpu().eval(), run.history, stopped, clock() - run.began_s)


@torch.inference_mode()
def predict(network: nn.Module, pixels: Pixels, indices: np.ndarray, side_px: int = 224) -> np.ndarray:
    """Return the logits (pictures, classes) float32 of chosen pictures."""
    device = next(network.parameters()).device
    network.eval()
    found = []
    for start in range(0, len(indices), _LOOKED_AT):
        batch = normalised(pixels.at(indices[start : start + _LOOKED_AT], side_px))
        batch = batch.to(device, memory_format=torch.channels_last)
        found.append(network(batch).float().cpu().numpy())
    return np.concatenate(found)


class _Run:
    def __init__(
        self,
        network: nn.Module,
        architecture: Architecture,
        pixels: Pixels,
        split: Split,
        num_classes: int,
        recipe: Recipe,
        device: torch.device,
        clock: Callable[[], float],
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.began_s = clock()
        self.history: list[dict[str, float]] = []
        self.best: nn.Module | None = None
        self._clock, self._recipe, self._pixels, self._device = clock, recipe, pixels, device
        self._architecture = architecture
        self._train, self._val = split.parts["train"], split.parts["val"]
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1  # MobileNetV3's 0.01 needs more steps than a small training has
        self._network: Any = network.to(device, memory_format=torch.channels_last)
        self.averaged: Any = AveragedModel(self._network, multi_avg_fn=_average(recipe.averaging), use_buffers=True)
        labels = pixels.labels
        self._labels = torch.from_numpy(labels)
        self._weights = torch.from_numpy(class_weights(labels[self._train], num_classes)).to(device)
        self._val_weights = class_weights(labels[self._val], num_classes)[labels[self._val]]
        self._rng = np.random.default_rng(recipe.seed)
        self._optimizer = self._make_optimizer()
        self._step, self._factor, self._epoch = 0, 1.0, 0
        costs = [stage.epochs * stage.side_px**2 for stage in recipe.stages]
        self._ends = np.cumsum(costs) / sum(costs)
        self._num_steps = sum(stage.epochs for stage in recipe.stages) * max(len(self._train) // recipe.batch, 1)

    def stage(self, number: int, stage: Stage, keep: Callable[[nn.Module], None], tell: Callable[[str], None]) -> str:
        recipe = self._recipe
        stopping = EarlyStopping(recipe.patience)
        # pictures that are cropped and turned need some more pixels than are looked at
        source_px = min(224, -(-stage.side_px * 5 // 4))
        images = self._pixels.at(self._train, source_px) if source_px < 224 else None
        begin = float(self._ends[number - 1]) if number else 0.0
        for epoch in range(stage.epochs):
            whole = self._epoch_of(images, stage, begin, float(self._ends[number]), epoch)
            if self._epoch >= recipe.freeze_epochs:
                self._settle(stage.side_px)
            logits = predict(self.averaged.module, self._pixels, self._val, stage.side_px)
            labels = self._labels.numpy()[self._val]
            loss, accuracy = self._val_loss(logits, labels), float((logits.argmax(axis=1) == labels).mean())
            better = stopping.improved(loss)
            if better:
                self.best = copy.deepcopy(self.averaged.module)
                keep(self.best)
            elif recipe.schedule == "plateau" and stopping.waited % max(recipe.patience // 3, 1) == 0:
                self._factor *= 0.5
            self._epoch += 1
            minutes = (self._clock() - self.began_s) / 60
            told = {"epoch": self._epoch, "side_px": stage.side_px, "train_loss": whole, "val_loss": loss}
            self.history.append(told | {"val_accuracy": accuracy, "minutes": minutes})
            tell(
                f"epoch {self._epoch:3d}  {stage.side_px} px  training loss {whole:.4f}  validation loss {loss:.4f}  "
                f"accuracy {accuracy:.4f}{' *' if better else ''}  {minutes:.1f} min"
            )
            if stopping.over:
                return f"no lower validation loss for {recipe.patience} epochs"
            if self._time_share() >= self._ends[number] - 1e-9:
                return "time is up"
        return "all epochs done"

    def _epoch_of(self, images: np.ndarray | None, stage: Stage, begin: float, end: float, epoch: int) -> float:
        recipe, network = self._recipe, self._network
        frozen = self._epoch < recipe.freeze_epochs
        self._freeze(frozen)
        order = self._rng.permutation(len(self._train))
        size = min(recipe.batch, len(order))
        starts = range(0, len(order) - size + 1, size)
        total = 0.0
        for place, start in enumerate(starts):
            share = (epoch + place / len(starts)) / stage.epochs
            progress = max(begin + share * (end - begin), self._time_share())
            self._set_rate(progress)
            chosen = order[start : start + size]
            raw = images[chosen] if images is not None else self._pixels.images[self._train[chosen]]
            batch = augment(raw, stage.side_px, recipe.augmentation, self._rng)
            batch = batch.to(self._device, memory_format=torch.channels_last)
            labels = self._labels[self._train[chosen]].to(self._device)
            with _mixed_precision(self._device, self._architecture):
                logits = network(batch)
            loss = functional.cross_entropy(
                logits.float(), labels, weight=self._weights, label_smoothing=recipe.smoothing
            )
            if not torch.isfinite(loss):
                raise FloatingPointError(f"The loss is {loss.item()} at step {self._step}: lower --rate")
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            self.averaged.update_parameters(network)
            self._step += 1
            total += float(loss.detach())
            if self._time_share() >= end:
                return total / (place + 1)
        return total / len(starts)

    @torch.no_grad()
    def _settle(self, side_px: int) -> None:
        """Measure anew what the averaged network's batch norms see: running values lag behind the weights."""
        network = self.averaged.module
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        chosen = np.random.default_rng(self._recipe.seed).permutation(self._train)[:_SETTLED_ON]
        network.train()
        for part in np.array_split(chosen, max(len(chosen) // _LOOKED_AT, 1)):
            batch = normalised(self._pixels.at(part, side_px))
            network(batch.to(self._device, memory_format=torch.channels_last))
        network.eval()

    def _freeze(self, frozen: bool) -> None:
        self._network.train()
        head = head_of(self._network, self._architecture)
        for parameter in self._network.parameters():
            parameter.requires_grad_(not frozen)
        for parameter in head.parameters():
            parameter.requires_grad_(True)
        if frozen:  # batch norms must not learn either
            self._network.eval()
            head.train()

    def _make_optimizer(self) -> torch.optim.AdamW:
        recipe, head = self._recipe, {id(each) for each in head_of(self._network, self._architecture).parameters()}
        groups: dict[tuple[bool, bool], list[Tensor]] = {}
        for parameter in self._network.parameters():
            groups.setdefault((id(parameter) in head, parameter.ndim > 1), []).append(parameter)
        return torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "weight_decay": recipe.weight_decay if decays else 0.0,
                    "factor": 1.0 if in_head else recipe.backbone_factor,
                }
                for (in_head, decays), parameters in groups.items()
            ],
            lr=recipe.rate,
        )

    def _set_rate(self, progress: float) -> None:
        warm = min(1.0, (self._step + 1) / min(_WARM_UP_STEPS, max(self._num_steps // 10, 1)))
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        factor = cosine if self._recipe.schedule == "cosine" else self._factor
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate * group["factor"] * warm * factor

    def _time_share(self) -> float:
        minutes = self._recipe.minutes
        return 0.0 if minutes is None else (self._clock() - self.began_s) / (60 * minutes)

    def _val_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        each = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="none").numpy()
        return float((each * self._val_weights).mean())


def _average(keep: float) -> Callable[..., None]:
    """Return the update of averaged weights: at first the mean so far, which soon forgets the random start."""

    @torch.no_grad()
    def update(averages: Any, currents: Any, num_averaged: Any) -> None:
        share = 1.0 - min(keep, (1.0 + float(num_averaged)) / (10.0 + float(num_averaged)))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)

    return update


def _mixed_precision(device: torch.device, architecture: Architecture) -> AbstractContextManager[Any]:
    """Return bf16 arithmetic where it is fast: on GPUs; for ResNet-50 on CPUs that have it (twice as fast)."""
    on_cpu = architecture is Architecture.RESNET50 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if device.type == "cuda" or on_cpu else nullcontext()
