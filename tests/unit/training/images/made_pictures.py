"""Tiny pictures whose class is their colour."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {
    "empty": (220, 30, 30),
    "with_beverage": (30, 200, 40),
    "unclear": (40, 40, 220),
    "disposable": (220, 30, 30),
    "reusable": (30, 200, 40),
}


def write_picture(path: Path, colour: tuple[int, int, int], seed: int = 0, side_px: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 12, (side_px, side_px, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def write_folders(folder: Path, counts: dict[str, int], *, seed: int = 0) -> Path:
    for offset, (name, num) in enumerate(counts.items()):
        for index in range(num):
            write_picture(folder / name / f"{index}.jpg", COLOURS[name], seed=seed + 1000 * offset + index)
    return folder
