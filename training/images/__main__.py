"""Train an image classifier on a folder for each class: `python -m training.images --help`."""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from serve_app.models.images.architectures import Architecture
from serve_app.models.images.networks import build_network
from serve_app.models.images.tasks import TASKS
from training.images import folders, report, weights
from training.images.augment import LIGHT, Augmentation
from training.images.pixels import Pixels, decode
from training.images.train import Recipe, Stage, predict, train

_SERVED_PX = 224
_EPOCHS = 30
# the owners' notebooks
_BACKBONES = {"container": Architecture.RESNET50, "beverage": Architecture.MOBILENET_V3_SMALL}
_DROPOUT = 0.2
_SHOWN = 20
_AUGMENTATIONS = {"full": Augmentation(), "light": LIGHT}


def main(argv: list[str] | None = None) -> None:
    """Train, write the weights and the report."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    try:
        _run(arguments, sys.argv[1:] if argv is None else argv)
    except (folders.FoldersUnfit, weights.WeightsUnfit, FloatingPointError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _parser() -> argparse.ArgumentParser:
    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="python -m training.images", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, or of train/ and val/")
    parser.add_argument("--task", choices=sorted(TASKS), help="whose classes, in whose order")
    parser.add_argument("--classes", type=_classes, help="a,b,c: classes of a task of one's own, in this order")
    parser.add_argument("--backbone", choices=[*map(str, Architecture)], help="default: the task's in the notebooks")
    parser.add_argument("--init", default="none", help="none, imagenet (a download), or a file with a backbone")
    parser.add_argument("--out", type=Path, help=".pth or .safetensors; default: the task's usual name")
    parser.add_argument("--report", type=Path, help="folder; default: beside the weights")
    parser.add_argument("--test", type=Path, nargs="+", default=[], help="more folders of class folders to report on")
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    parser.add_argument("--stages", type=_stages, help="112:20,224:4: pixels and epochs of each; instead of --epochs")
    parser.add_argument("--minutes", type=float, help="of training, at most (the result then depends on the machine)")
    parser.add_argument("--batch-size", type=int, default=recipe.batch)
    parser.add_argument("--rate", type=float, help="highest learning rate; default: 1e-3, 5e-4 for trained backbones")
    parser.add_argument("--schedule", choices=["cosine", "plateau"], default=recipe.schedule)
    parser.add_argument("--patience", type=int, default=recipe.patience, help="epochs without a lower validation loss")
    parser.add_argument("--freeze-epochs", type=int, default=0, help="at first, of the head alone (with --init)")
    parser.add_argument(
        "--backbone-factor", type=float, help="of the rate, for the backbone; default: 1, with --init 0.2"
    )
    parser.add_argument(
        "--augment", choices=list(_AUGMENTATIONS), default="full", help="light: for drawings, varied anyway"
    )
    parser.add_argument("--val-share", type=float, default=0.2, help="where DIR has no val/")
    parser.add_argument("--test-share", type=float, default=0.0, help="likewise: never seen in training")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--threads", type=int, default=max(torch.get_num_threads(), 1))
    parser.add_argument("--half", action="store_true", help="store float16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def _run(arguments: argparse.Namespace, argv: list[str]) -> None:
    name, classes = _task(arguments)
    architecture = Architecture(arguments.backbone or _BACKBONES.get(name, Architecture.MOBILENET_V3_SMALL))
    out = arguments.out or Path(TASKS[name].weights_file if name in TASKS else f"{name}.pth")
    pixels, split, tests = _data(arguments, classes)
    counts = {part: _counts(pixels, found, classes) for part, found in split.parts.items()}
    counts |= {part: _counts(found, np.arange(len(found.samples)), classes) for part, found in tests.items()}
    for part, found in counts.items():
        print(f"{part}: {', '.join(f'{num} {each}' for each, num in found.items())}")
    left_out = pixels.unreadable | split.left_out
    for path, why in list(left_out.items())[:_SHOWN]:
        print(f"left out {path}: {why}")
    if len(left_out) > _SHOWN:
        print(f"left out {len(left_out) - _SHOWN} more: the report names them")
    for each in report.warnings(counts, 1.0):
        print(f"WARNING: {each}")
    torch.manual_seed(arguments.seed)
    network = build_network(architecture, len(classes), dropout=_DROPOUT)
    begun_with = weights.initialise(network, architecture, arguments.init, classes)
    recipe = _recipe(arguments)
    print(f"{architecture} of {begun_with}, {len(classes)} classes: {', '.join(classes)}", flush=True)
    trained = train(
        network,
        architecture,
        pixels,
        split,
        len(classes),
        recipe,
        device=torch.device(arguments.device),
        keep=lambda best: weights.save(best, out, classes, half=arguments.half),
        tell=lambda line: print(line, flush=True),
    )
    weights.save(trained.network, out, classes, half=arguments.half)
    stored = _as_stored(trained.network, half=arguments.half)
    side_px = recipe.stages[-1].side_px
    parts = {part: _measured(stored, pixels, found, side_px) for part, found in split.parts.items() if part != "train"}
    parts |= {part: _measured(stored, found, np.arange(len(found.samples)), side_px) for part, found in tests.items()}
    val = parts["val"]
    warnings = report.warnings(counts, float((val.logits.argmax(axis=1) == val.labels).mean()))
    if side_px != _SERVED_PX:
        warnings.append(f"trained and measured at {side_px} pixels, but {_SERVED_PX} are served: only to go on from")
    facts: dict[str, Any] = {
        "task": name,
        "classes": list(classes),
        "backbone": str(architecture),
        "command": f"python -m training.images {shlex.join(argv)}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": _machine(),
        "seed": arguments.seed,
        "begun_with": begun_with,
        "epochs": len(trained.history),
        "stopped": trained.stopped,
        "minutes": round(trained.seconds / 60, 1),
        "weights": f"{out} ({out.stat().st_size:,} bytes, {'float16' if arguments.half else 'float32'})",
        "warnings": warnings,
        "pictures": counts,
        "unreadable": {str(path): why for path, why in pixels.unreadable.items()},
        "left_out": {str(path): why for path, why in split.left_out.items()},
        "history": trained.history,
    }
    folder = arguments.report or out.with_name(f"{out.stem}-report")
    written = report.write(folder, facts, parts, classes)
    for part, found in written["parts"].items():
        print(f"{part}: {found['accuracy']:.2%} of {found['pictures']} right, F1 {_f1(found)}")
    for each in warnings:
        print(f"WARNING: {each}")
    print(f"{trained.stopped}; weights in {out}, report in {folder / 'report.md'}")


def _task(arguments: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    if (arguments.task is None) == (arguments.classes is None):
        raise folders.FoldersUnfit("Give either --task or --classes")
    if arguments.task:
        return arguments.task, TASKS[arguments.task].classes
    return "own", arguments.classes


def _data(arguments: argparse.Namespace, classes: tuple[str, ...]) -> tuple[Pixels, folders.Split, dict[str, Pixels]]:
    data, threads = arguments.data, arguments.threads
    if folders.is_split(data):
        found = {
            part: folders.find(data / part, classes, complete=part == "train")
            for part in folders.PARTS
            if (data / part).is_dir()
        }
        part_of = {sample.path: part for part, samples in found.items() for sample in samples}
        pixels = decode([sample for samples in found.values() for sample in samples], threads=threads)
        split = folders.given(pixels, [part_of[sample.path] for sample in pixels.samples])
    else:
        pixels = decode(folders.find(data, classes), threads=threads)
        shares = {"val_share": arguments.val_share, "test_share": arguments.test_share}
        split = folders.divide(pixels, len(classes), seed=arguments.seed, **shares)
    if empty := [part for part in ("train", "val") if not len(split.parts.get(part, ()))]:
        raise folders.FoldersUnfit(f"No picture in {' and '.join(empty)} of {data} can be used")
    tests = {
        folder.name: decode(folders.find(folder, classes, complete=False), threads=threads) for folder in arguments.test
    }
    return pixels, split, tests


def _recipe(arguments: argparse.Namespace) -> Recipe:
    begun = arguments.init != "none"
    return replace(
        Recipe(),
        stages=arguments.stages or (Stage(_SERVED_PX, arguments.epochs),),
        minutes=arguments.minutes,
        batch=arguments.batch_size,
        rate=arguments.rate or (5e-4 if begun else 1e-3),
        backbone_factor=arguments.backbone_factor or (0.2 if begun else 1.0),
        schedule=arguments.schedule,
        patience=arguments.patience,
        freeze_epochs=arguments.freeze_epochs,
        seed=arguments.seed,
        augmentation=_AUGMENTATIONS[arguments.augment],
    )


def _measured(network: nn.Module, pixels: Pixels, indices: np.ndarray, side_px: int) -> report.Measured:
    paths = [pixels.samples[index].path for index in indices]
    return report.Measured(predict(network, pixels, indices, side_px), pixels.labels[indices], paths)


def _as_stored(network: nn.Module, *, half: bool) -> nn.Module:
    """Return the network with its weights rounded as they are stored: that one is served, so that one is measured."""
    return network.half().float() if half else network


def _counts(pixels: Pixels, indices: np.ndarray, classes: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(pixels.labels[indices], minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


def _f1(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {each['f1']:.3f}" for name, each in found["classes"].items())


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"{model[1] if model else platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"


def _classes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(names) < 2 or len({folders.plain(name) for name in names}) < len(names):
        raise argparse.ArgumentTypeError("must be two or more different names, with commas between")
    return names


def _stages(text: str) -> tuple[Stage, ...]:
    try:
        stages = tuple(Stage(*map(int, part.split(":"))) for part in text.split(","))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError("must be PIXELS:EPOCHS,…, as 112:20,224:4") from None
    if any(not 32 <= stage.side_px <= _SERVED_PX or stage.epochs < 1 for stage in stages):
        raise argparse.ArgumentTypeError(f"pixels must be 32 to {_SERVED_PX}, epochs at least 1")
    return stages


if __name__ == "__main__":
    main()
