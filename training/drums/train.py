"""The training: a fixed time, a learning rate that follows the clock, averaged weights; resumable."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from serve_app.models.drums.network import LABELS, DrumNetwork, DrumOutput, HyperParameters
from training.drums.batches import UNKNOWN, Batch, Pool, draw

# The three that are transcribed count more than what surrounds them.
_LABEL_WEIGHTS = {"kick": 1.0, "snare": 1.0, "hihat": 1.0, "tom": 0.6, "cymbal": 0.6, "percussion": 0.5}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained, beside the data.

    Attributes:
        minutes: of training; the clock stops while nothing runs, so that a resumed run gets what is left.
        peak_rate: of AdamW, after `warmup_steps`; it falls to zero over the minutes along half a cosine.
        crops: in a batch.
        crop_frames: length of each.
        level_weight: of the levels' loss (Huber, in units of 10 dB) against the strokes' (cross-entropy).
        averaging: share that averaged weights keep at a step.
    """

    minutes: float = 85.0
    peak_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    crops: int = 16
    crop_frames: int = 400
    level_weight: float = 0.05
    averaging: float = 0.999
    save_every_s: float = 120.0
    measure_every_s: float = 600.0
    log_every: int = 50
    seed: int = 0
    sizes: HyperParameters = field(default_factory=HyperParameters)


def train(
    songs: Path,
    run: Path,
    recipe: Recipe,
    *,
    measure: Callable[[DrumNetwork], dict[str, Any]] | None = None,
    start_from: DrumNetwork | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> DrumNetwork:
    """Train, or go on from the run's last state, and return the averaged network on the CPU, in evaluation mode.

    Args:
        songs: folder of shards; they may come and go while this runs.
        run: folder for `state.pt` and `log.jsonl`.
        recipe: what to do.
        measure: called on the averaged network now and then; what it returns is logged.
        start_from: a network to go on from where the run has no state yet.
        clock: seconds.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run.mkdir(parents=True, exist_ok=True)
    network = DrumNetwork(recipe.sizes)
    if start_from is not None:
        network.load_state_dict(start_from.state_dict())
    network = network.to(device).train()
    averaged = AveragedModel(network, multi_avg_fn=_average(recipe.averaging), use_buffers=True)
    optimizer = _optimizer(network, recipe)
    parts: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer}
    step, spent_s = 0, 0.0
    if (run / "state.pt").exists():
        state = torch.load(run / "state.pt", map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step, spent_s = state["step"], state["spent_s"]
    pool = Pool(songs)
    rng = np.random.default_rng((recipe.seed, step))
    asked_to_stop: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    budget_s, before_s, began_s = 60 * recipe.minutes, spent_s, clock()
    saved_s = measured_s = began_s
    losses: list[tuple[float, float]] = []
    with (run / "log.jsonl").open("a") as log:
        while spent_s < budget_s and not asked_to_stop:
            for group in optimizer.param_groups:
                group["lr"] = _rate(recipe, step, spent_s / budget_s)
            batch = draw(pool, rng, recipe.crops, recipe.crop_frames).to(device)
            with _mixed_precision(device):
                output = network(batch.bands)
            strokes, levels = loss(output, batch)
            (strokes + recipe.level_weight * levels).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            averaged.update_parameters(network)
            step += 1
            losses.append((float(strokes.detach()), float(levels.detach())))
            now_s = clock()
            spent_s = before_s + now_s - began_s
            if step % recipe.log_every == 0:
                stroke_loss, level_loss = np.mean(losses, axis=0)
                told = {"step": step, "minutes": spent_s / 60, "strokes": stroke_loss, "levels": level_loss}
                _write(log, told | {"hours": pool.hours, "rate": optimizer.param_groups[0]["lr"]})
                losses = []
            if now_s - saved_s > recipe.save_every_s or spent_s >= budget_s or asked_to_stop:
                saved_s = now_s
                _save(run, parts, step, spent_s, recipe)
                pool.refresh()
            if measure is not None and now_s - measured_s > recipe.measure_every_s:
                measured_s = now_s
                _write(log, {"step": step, "minutes": spent_s / 60} | measure(trained(averaged)))
    signal.signal(signal.SIGTERM, before)
    return trained(averaged)


def loss(output: DrumOutput, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of strokes, summed over labels by weight, and the Huber loss of their levels."""
    weights = torch.tensor([_LABEL_WEIGHTS.get(label, 1.0) for label in LABELS], device=output.logits.device)
    known = (batch.targets != UNKNOWN).float()
    each = functional.binary_cross_entropy_with_logits(
        output.logits.float(), batch.targets.clamp(min=0), reduction="none"
    )
    strokes = (each * known * weights).sum(dim=2).mean()
    struck = ~batch.levels_db.isnan()
    errors = (output.levels_db.float() - batch.levels_db)[struck] / 10.0
    levels = functional.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="sum") / struck.sum().clamp(min=1)
    return strokes, levels


def trained(averaged: AveragedModel) -> DrumNetwork:
    """Return a copy of the averaged network, on the CPU, in evaluation mode."""
    current: Any = averaged.module
    network = DrumNetwork(current.hyper_parameters)
    network.load_state_dict({name: value.cpu() for name, value in current.state_dict().items()})
    return network.eval()


def load_run(run: Path) -> tuple[DrumNetwork, dict[str, Any]]:
    """Return the averaged network as last saved, however far the run has come, and `step`, `spent_s` and `recipe`."""
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)
    stored: dict[str, Any] = state["recipe"]["sizes"]
    sizes: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in stored.items()}
    network = DrumNetwork(HyperParameters(**sizes))
    prefix = "module."
    own = {name.removeprefix(prefix): value for name, value in state["averaged"].items() if name.startswith(prefix)}
    network.load_state_dict(own)
    return network.eval(), {name: state[name] for name in ("step", "spent_s", "recipe")}


def _optimizer(network: DrumNetwork, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [each for each in network.parameters() if each.ndim > 1]
    vectors = [each for each in network.parameters() if each.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, fused=True)


def _rate(recipe: Recipe, step: int, progress: float) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return recipe.peak_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


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


def _mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return bf16 arithmetic where it is fast: on GPUs, and on CPUs that have it (twice as fast there)."""
    has_it = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if has_it else nullcontext()


def _write(log: Any, values: dict[str, Any]) -> None:
    rounded = {name: round(float(value), 5) if isinstance(value, float) else value for name, value in values.items()}
    log.write(json.dumps(rounded) + "\n")
    log.flush()


def _save(run: Path, parts: dict[str, Any], step: int, spent_s: float, recipe: Recipe) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save(state | {"step": step, "spent_s": spent_s, "recipe": asdict(recipe)}, run / "state.part")
    (run / "state.part").rename(run / "state.pt")
