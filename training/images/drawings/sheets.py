"""Files of drawings, made one by one or by several processes.

Not part of `__main__.py`: a worker process that is spawned cannot import from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
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
_CHUNK = 16  # sheets that a process takes at once


@dataclass(frozen=True, slots=True)
class Sheet:
    """One drawing to be made."""

    task: str
    part: str
    index: int
    seed: int
    size: tuple[int, int] | None
    folder: Path


def make_all(sheets: list[Sheet], processes: int) -> Iterator[tuple[str, str]]:
    """Draw images into their folders; yield part and class of each.

    Args:
        sheets: what to draw.
        processes: that draw; with one, this process does.

    Raises:
        BrokenProcessPool: a process ended before its work did.
    """
    if processes == 1:
        yield from map(make, sheets)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, sheets, chunksize=_CHUNK)


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
