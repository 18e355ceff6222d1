"""Make the drum network: songs, training, thresholds, weights, figures: `python -m training.drums --help`."""

from __future__ import annotations

import argparse
import json
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from serve_app.models.drums.checkpoint import load_checkpoint, save_checkpoint
from serve_app.models.drums.network import DrumNetwork
from training.drums import evaluate, shards
from training.drums.batches import Pool
from training.drums.loops import loops
from training.drums.train import Recipe, load_run, train

_ROOT = Path(__file__).parents[2]
_STAGES = ("data", "train", "export", "evaluate")
_OUTPUT = _ROOT / "serve_app/models/drums/drum_net/best_model.pt"
_NAME = "drum-net-1"
_TEST_SHARDS = {"validation": 8, "held_out": 12}


def main() -> None:
    """Run the stages asked for, in order; each goes on where it was."""
    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="python -m training.drums", description=__doc__)
    parser.add_argument("stages", nargs="*", default=_STAGES, help="any of data, train, export, evaluate; or mistakes")
    parser.add_argument("--minutes", type=float, default=recipe.minutes, help="of training")
    parser.add_argument("--work", type=Path, default=Path("/tmp/drums"), help="songs and checkpoints")
    parser.add_argument("--run", default="run", help="name of the training, a folder in WORK")
    parser.add_argument("--start-from", type=Path, help="checkpoint that a new training goes on from")
    parser.add_argument("--rate", type=float, default=recipe.peak_rate, help="highest learning rate")
    parser.add_argument("--output", type=Path, default=_OUTPUT, help="checkpoint to write, or to evaluate")
    parser.add_argument("--shards", type=int, default=480, help=f"of {shards.SONGS_IN_SHARD} songs of 30 s to train on")
    parser.add_argument("--threads", type=int, default=1, help="of torch, and processes that make songs")
    parser.add_argument("--loops", type=Path, default=_ROOT / "../shared/data/drums", help="folder of real recordings")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - {*_STAGES, "mistakes"}:
        parser.error(f"unknown stages: {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    songs, run = arguments.work / "songs", arguments.work / arguments.run
    building = _build(songs, arguments) if "data" in arguments.stages else []
    if "train" in arguments.stages:
        recipe = Recipe(minutes=arguments.minutes, seed=arguments.seed, peak_rate=arguments.rate)
        begun = load_checkpoint(arguments.start_from).network if arguments.start_from else None
        validation = Pool(songs, "validation")
        train(songs, run, recipe, measure=lambda network: _measure(network, validation), start_from=begun)
    for process in building:
        process.join()
    if "export" in arguments.stages:
        _export(run, songs, arguments.output)
    if "evaluate" in arguments.stages or "mistakes" in arguments.stages:
        _report(arguments, songs)


def _build(songs: Path, arguments: argparse.Namespace) -> list[SpawnProcess]:
    """Make the songs to measure on and enough to begin with; the others come meanwhile."""
    for part, num in _TEST_SHARDS.items():
        shards.build(songs, part, num, arguments.seed)
    shards.build(songs, "train", min(arguments.shards, 4), arguments.seed)
    each = -(-arguments.shards // arguments.threads)
    ranges = [(first, min(each, arguments.shards - first)) for first in range(0, arguments.shards, each)]
    processes = [
        get_context("spawn").Process(
            target=shards.build, args=(songs, "train", num, arguments.seed), kwargs={"first": first}, daemon=True
        )
        for first, num in ranges
    ]
    for process in processes:
        process.start()
    return processes


def _measure(network: DrumNetwork, validation: Pool) -> dict[str, Any]:
    validation.refresh()
    heard = evaluate.hear(network, validation.examples)
    if not heard:
        return {}
    thresholds = evaluate.tune(heard)
    return {"thresholds": thresholds} | evaluate.summary(heard, thresholds)


def _export(run: Path, songs: Path, output: Path) -> None:
    network, state = load_run(run)
    heard = evaluate.hear(network, Pool(songs, "validation").examples)
    thresholds = evaluate.tune(heard)
    facts = {
        "made_by": "python -m training.drums",
        "steps": state["step"],
        "minutes": round(state["spent_s"] / 60, 1),
        "hours_of_songs": round(Pool(songs).hours, 1),
        "songs_version": shards.sources_version(),
        "validation_f_measure": {name: round(each, 4) for name, each in evaluate.summary(heard, thresholds).items()},
    }
    save_checkpoint(output, network, thresholds=thresholds, model_version=_NAME, facts=facts)
    print(json.dumps(facts | {"thresholds": thresholds}, indent=1))


def _report(arguments: argparse.Namespace, songs: Path) -> None:
    loaded = load_checkpoint(arguments.output)
    print(f"{loaded.model_version}: {json.dumps(loaded.facts)}\n")
    sets = {
        "Validation: other songs of the kinds trained on": Pool(songs, "validation").examples,
        "Kits held out": Pool(songs, "held_out").examples,
        "Real recordings": loops(arguments.loops),
    }
    for title, examples in sets.items():
        heard = evaluate.hear(loaded.network, examples)
        if heard:
            print(f"## {title}\n{evaluate.report(heard, loaded.thresholds)}")
        if heard and "mistakes" in arguments.stages:
            print(f"{evaluate.mistakes(heard, loaded.thresholds)}\n")


if __name__ == "__main__":
    main()
