"""The training: a fixed time, a learning rate that follows the clock, a checkpoint every few minutes."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from training.whisper_micro.batches import Batch, Batches, Mixture
from training.whisper_micro.corpus import Pool
from training.whisper_micro.examples import FULL_FRAMES, NUM_PHONES, learn_phones
from training.whisper_micro.losses import losses
from training.whisper_micro.network import MicroWhisper, Sizes
from training.whisper_micro.rows import Rows


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained.

    Attributes:
        minutes: of training; the clock stops while nothing runs, so that a resumed run gets what is left.
        peak_rate: of AdamW, after `warmup_steps`. It falls along a cosine over the minutes down to `held_rate`, a share
            of the peak, and to zero in the last share `decay` of the time.
        accumulate: batches in a step.
    """

    minutes: float = 92.0
    peak_rate: float = 1.8e-3
    warmup_steps: int = 300
    held_rate: float = 0.27
    decay: float = 0.18
    accumulate: int = 1
    weight_decay: float = 0.01
    phone_weight: float = 1.0
    attention_weight: float = 0.5
    save_every_s: float = 240.0
    log_every: int = 100
    seed: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    mixture: Mixture = field(default_factory=Mixture)


def make_network(sizes: Sizes) -> MicroWhisper:
    """Return an untrained network for the words of the grammar."""
    rows = Rows()
    return MicroWhisper(sizes, rows.num, 51_865 - len(rows.ids), NUM_PHONES)


def train(pool: Path, run: Path, recipe: Recipe, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
    """Train on the pool, from the run's last checkpoint where there is one.

    Args:
        pool: folder of shards; more of them may come while this runs.
        run: folder for `state.pt` and `log.jsonl`.
        recipe: what to do.
        workers: processes that make batches.
        clock: seconds.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run.mkdir(parents=True, exist_ok=True)
    network = make_network(recipe.sizes).to(device)
    optimizer = _optimizer(network, recipe)
    step, spent_s, phones = 0, 0.0, None
    if (run / "state.pt").exists():
        state = torch.load(run / "state.pt", map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent_s, phones = state["step"], state["spent_s"], state["phones"]
    phones = phones or learn_phones(Pool(pool))
    progress = get_context("spawn").Value("d", 0.0)
    batches = _batches(pool, progress, phones, recipe, workers, recipe.seed + step)
    budget_s = 60 * recipe.minutes
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    began_s = saved_s = clock()
    before_s = spent_s
    sums: dict[str, float] = {}
    with (run / "log.jsonl").open("a") as log:
        while spent_s < budget_s and not asked_to_stop:
            progress.value = spent_s / budget_s
            rate = _rate(recipe, step, progress.value)
            for group in optimizer.param_groups:
                group["lr"] = rate
            for _ in range(recipe.accumulate):
                _add(sums, _backward(network, next(batches).to(device), recipe))
            clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            spent_s = before_s + clock() - began_s
            if step % recipe.log_every == 0:
                _write(log, {"step": step, "minutes": spent_s / 60, "rate": rate} | _means(sums))
                sums = {}
            if clock() - saved_s > recipe.save_every_s or spent_s >= budget_s or asked_to_stop:
                saved_s = clock()
                _save(run, network, optimizer, step, spent_s, phones)


def _optimizer(network: MicroWhisper, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [each for each in network.parameters() if each.requires_grad and each.ndim > 1]
    vectors = [each for each in network.parameters() if each.requires_grad and each.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=(0.9, 0.98), fused=True)


def _batches(
    pool: Path, progress: Any, phones: dict[str, dict[str, int]], recipe: Recipe, workers: int, seed: int
) -> Iterator[Batch]:
    source = Batches(pool, progress, phones, recipe.mixture, seed)
    if not workers:
        return iter(source)
    loader = DataLoader(
        source, batch_size=None, num_workers=workers, prefetch_factor=12, multiprocessing_context="spawn"
    )
    return iter(loader)


def _rate(recipe: Recipe, step: int, progress: float) -> float:
    falling = max(0.5 * (1 + math.cos(math.pi * progress)), recipe.held_rate)
    ending = recipe.held_rate * (1 - progress) / recipe.decay if progress > 1 - recipe.decay else 1.0
    return recipe.peak_rate * min(1.0, (step + 1) / recipe.warmup_steps, falling, ending)


def _backward(network: MicroWhisper, batch: Batch, recipe: Recipe) -> dict[str, float]:
    with torch.autocast(batch.mels.device.type, torch.bfloat16):
        outputs = network(batch.mels, batch.inputs, batch.offsets)
    each = losses(outputs, batch)
    (each.total(recipe.phone_weight, recipe.attention_weight) / recipe.accumulate).backward()
    values = {name: float(getattr(each, name).detach()) for name in each.__slots__}
    shape = "full" if batch.mels.shape[2] >= FULL_FRAMES else "middle" if batch.mels.shape[2] > 600 else "short"
    return values | {f"tokens_{shape}": values["tokens"], f"accuracy_{shape}": values["token_accuracy"]}


def _add(sums: dict[str, float], values: dict[str, float]) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value
        sums[f"num {name}"] = sums.get(f"num {name}", 0.0) + 1


def _means(sums: dict[str, float]) -> dict[str, float]:
    return {name: value / sums[f"num {name}"] for name, value in sums.items() if not name.startswith("num ")}


def _write(log: Any, values: dict[str, float]) -> None:
    log.write(json.dumps({name: round(value, 5) for name, value in values.items()}) + "\n")
    log.flush()


def _save(
    run: Path, network: MicroWhisper, optimizer: torch.optim.Optimizer, step: int, spent_s: float, phones: Any
) -> None:
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "sizes": asdict(network.sizes),
        "step": step,
        "spent_s": spent_s,
        "phones": phones,
    }
    torch.save(state, run / "state.part")
    (run / "state.part").rename(run / "state.pt")
