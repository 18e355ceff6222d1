"""Make the embedded demo weights: drawings, training, weights, report: `python -m training.images.embedded --help`.

Both are MobileNetV3-Small in float16, to be small; they know drawings, not photographs. From nothing, what is drawn
(mug, paper cup with a drink, …) is learnt in far fewer steps than the classes, so that comes first:

    kinds of vessels at 64 pixels ──► container at 112, then 224, then 224 at a lower rate
          └──► kinds and contents at 64 pixels ──► beverage likewise
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from training.images.drawings.__main__ import main as draw

_WEIGHTS = Path(__file__).parents[2] / "serve_app/models/images/weights"
_FILES = {"container": "container_net.safetensors", "beverage": "beverage_net.safetensors"}
_VESSELS = ("paper_cup", "plastic_cup", "mug", "glass", "tumbler", "bottle", "tea_cup")
_RATE, _LAST_RATE = "2e-3", "6e-4"
_HIDDEN = {"closed", "from_the_side"}


def main(argv: list[str] | None = None) -> None:
    """Draw and train, for each task asked for; what is in WORK already is not made again."""
    parser = argparse.ArgumentParser(prog="python -m training.images.embedded", description=__doc__)
    parser.add_argument("tasks", nargs="*", help="container, beverage; default: both")
    parser.add_argument("--work", type=Path, default=Path("/tmp/images"), help="drawings, kinds and reports")
    parser.add_argument("--weights", type=Path, default=_WEIGHTS, help="folder of the weights")
    parser.add_argument("--num", type=int, default=8000, help="drawings to train on")
    parser.add_argument("--num-test", type=int, default=600, help="drawings in each part that measures")
    parser.add_argument("--kinds-stages", default="64:10", help="pixels and epochs, where kinds are learnt")
    parser.add_argument("--stages", default="112:5,224:1", help="likewise, of the task's own classes")
    parser.add_argument("--last-stages", default="224:2", help="likewise, at a lower rate")
    parser.add_argument("--processes", type=int, default=1, help="that draw")
    parser.add_argument("--threads", type=int, default=1, help="of the training")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.tasks) - set(_FILES):
        parser.error(f"unknown tasks: {', '.join(sorted(unknown))}")
    for task in arguments.tasks or _FILES:
        kinds = _kinds("container", arguments, begun_with="none")
        if task == "beverage":
            kinds = _kinds("beverage", arguments, begun_with=str(kinds))
        drawings, first = _drawings(task, arguments), arguments.work / f"first-{task}.safetensors"
        same = ["--task", task, "--half", "--data", str(drawings), "--test", str(drawings / "held_out")]
        begun = ["--init", str(kinds), "--stages", arguments.stages, *_how(arguments, _RATE, arguments.seed)]
        train([*same, *begun, "--out", str(first)])
        last = ["--init", str(first), "--stages", arguments.last_stages]
        last += _how(arguments, _LAST_RATE, arguments.seed + 1)
        report = ["--report", str(arguments.work / f"report-{task}")]
        train([*same, *last, "--out", str(arguments.weights / _FILES[task]), *report])


def train(argv: list[str]) -> None:
    """Run `python -m training.images`. Processes that draw import this module, but not PyTorch."""
    from training.images.__main__ import main

    main(argv)


def _how(arguments: argparse.Namespace, rate: str, seed: int) -> list[str]:
    fixed = ["--backbone", "mobilenet_v3_small", "--batch-size", "32", "--rate", rate, "--backbone-factor", "1"]
    return [*fixed, "--augment", "light", "--threads", str(arguments.threads), "--seed", str(seed)]


def _drawings(task: str, arguments: argparse.Namespace) -> Path:
    folder = arguments.work / "drawings" / task
    if not folder.exists():
        numbers = ["--num", str(arguments.num), "--num-test", str(arguments.num_test)]
        how = ["--seed", str(arguments.seed), "--processes", str(arguments.processes)]
        draw(["--task", task, "--out", str(folder), *numbers, *how])
    return folder


def _kinds(task: str, arguments: argparse.Namespace, *, begun_with: str) -> Path:
    """Return weights that know what is drawn."""
    out = arguments.work / f"kinds-{task}.pth"
    if out.exists():
        return out
    drawings, folder = _drawings(task, arguments), arguments.work / "kinds" / task
    found = {
        path: (part, kind(path.stem.partition("-")[2]))
        for part in ("train", "val")
        for path in sorted((drawings / part).rglob("*.jpg"))
    }
    names = {name for part, name in found.values() if part == "train"}
    for path, (part, name) in found.items():
        if name not in names:
            continue
        target = folder / part / name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(path, target)
    begun = out.with_suffix(".part.pth")
    train(
        [
            *("--classes", ",".join(sorted(names)), "--init", begun_with, "--data", str(folder)),
            *("--stages", arguments.kinds_stages, *_how(arguments, _RATE, arguments.seed), "--out", str(begun)),
        ]
    )
    begun.rename(out)
    return out


def kind(about: str) -> str:
    """Return what a drawing is of, from what its file's name says: the vessel, and whether a drink is seen in it."""
    vessel = next((each for each in _VESSELS if about.startswith(each)), None)
    if vessel is None:
        return about
    state = about.removeprefix(vessel).strip("_")
    if state in _HIDDEN:
        return f"{vessel}_hidden"
    return f"{vessel}_{state if state in ('empty', 'cut_off') else 'drink'}" if state else vessel


if __name__ == "__main__":
    main()
