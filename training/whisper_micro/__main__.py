"""Make whisper-micro: speak the training data, train, export, evaluate: `python -m training.whisper_micro --help`."""

from __future__ import annotations

import argparse
from multiprocessing import get_context
from pathlib import Path

import torch

from training.whisper_micro import corpus, evaluate, fixtures
from training.whisper_micro.export import export, load_network
from training.whisper_micro.train import Recipe, train

_ROOT = Path(__file__).parents[2]
_STAGES = ("data", "train", "export", "evaluate")


def main() -> None:
    """Run the stages asked for, in order; each goes on where it was."""
    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="python -m training.whisper_micro", description=__doc__)
    parser.add_argument("stages", nargs="*", default=_STAGES, help="any of data, train, export, evaluate; or fixtures")
    parser.add_argument("--minutes", type=float, default=recipe.minutes, help="of training")
    parser.add_argument("--work", type=Path, default=Path("/tmp/whisper_micro"), help="pool and checkpoints")
    parser.add_argument(
        "--output", type=Path, default=_ROOT / "serve_app/models/speech/whisper_micro", help="folder to export to"
    )
    parser.add_argument("--shards", type=int, default=60, help="thousands of utterances in the pool")
    parser.add_argument("--threads", type=int, default=1, help="of torch, and processes that make batches")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--num", type=int, default=100, help="utterances in each test set")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - {*_STAGES, "fixtures"}:
        parser.error(f"unknown stages: {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    pool, run = arguments.work / "pool", arguments.work / "run"
    building = None
    if "data" in arguments.stages:
        corpus.build(pool, min(arguments.shards, 4), arguments.seed)  # enough to begin with; the others come meanwhile
        building = get_context("spawn").Process(target=corpus.build, args=(pool, arguments.shards, arguments.seed))
        building.start()
    if "train" in arguments.stages:
        train(pool, run, Recipe(minutes=arguments.minutes, seed=arguments.seed), workers=arguments.threads)
    if building:
        building.join()
    if "export" in arguments.stages:
        export(load_network(run / "state.pt"), arguments.output)
    if "evaluate" in arguments.stages:
        evaluate.print_report(arguments.output, arguments.num)
    if "fixtures" in arguments.stages:
        fixtures.write(_ROOT / "tests/data/whisper_micro")


if __name__ == "__main__":
    main()
