"""Draw images to train and test on, a folder for each class: `python -m training.images.drawings --help`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from serve_app.models.images.tasks import TASKS
from training.images.drawings.sheets import PARTS, Sheet, make_all


def main(argv: list[str] | None = None) -> None:
    """Draw all parts, or the ones asked for."""
    parser = argparse.ArgumentParser(prog="python -m training.images.drawings", description=__doc__)
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for PART/CLASS/NUMBER.jpg")
    parser.add_argument("--num", type=int, default=8000, help="drawings to train on, of all classes together")
    parser.add_argument("--num-test", type=int, default=1000, help="drawings in each of the other parts")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--size", type=_size, help="WIDTHxHEIGHT; default: various")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args(argv)
    sheets = [
        Sheet(arguments.task, part, index, arguments.seed, arguments.size, arguments.out)
        for part in arguments.parts
        for index in range(arguments.num if part == "train" else arguments.num_test)
    ]
    counts = Counter(make_all(sheets, arguments.processes))
    for (part, label), num in sorted(counts.items()):
        print(f"{part}/{label}: {num}")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
