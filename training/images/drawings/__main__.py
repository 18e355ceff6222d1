"""Draw images to train and test on, a folder for each class: `python -m training.images.drawings --help`."""

from __future__ import annotations

import argparse
import multiprocessing
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.models.images.tasks import TASKS
from training.images.drawings.palettes import Style
from training.images.drawings.scenes import draw

# test: other drawings of the trained style; held_out: vessels, colours, drinks and surroundings that train has none of
PARTS = {
    "train": (0, Style.TRAINED),
    "val": (1, Style.TRAINED),
    "test": (2, Style.TRAINED),
    "held_out": (3, Style.HELD_OUT),
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """One drawing to be made."""

    task: str
    part: str
    index: int
    seed: int
    size: tuple[int, int] | None
    folder: Path


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
    counts: Counter[tuple[str, str]] = Counter()
    with multiprocessing.Pool(arguments.processes) as pool:
        for each in pool.imap_unordered(make, sheets, chunksize=16):
            counts[each] += 1
    for (part, label), num in sorted(counts.items()):
        print(f"{part}/{label}: {num}")


def make(sheet: Sheet) -> tuple[str, str]:
    """Draw one image into its folder; return part and class. A function of seed, task, part, index and size."""
    task = TASKS[sheet.task]
    number, style = PARTS[sheet.part]
    rng = np.random.default_rng((sheet.seed, list(TASKS).index(sheet.task), number, sheet.index))
    label = task.classes[sheet.index % len(task.classes)]
    drawing = draw(task, label, rng, style, sheet.size)
    folder = sheet.folder / sheet.part / label
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{sheet.index:06d}-{drawing.about.replace(' ', '_')}.jpg"
    drawing.image.save(folder / name, quality=int(rng.integers(45, 96)))
    return sheet.part, label


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
