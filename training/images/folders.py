"""Pictures in a folder for each class: which class, and on which side of the split.

DIR/<class>/*.jpg                              split here: stratified, by seed
DIR/train/<class>/*.jpg, DIR/val/<class>/…     as it is; DIR/test too, where there is one
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.images.pixels import Pixels

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".mpo",
    ]
)
PARTS = ("train", "val", "test")
_HIDDEN = (".", "__MACOSX")


class FoldersUnfit(ValueError):
    """Raised when the folders are not those of the classes; says what is expected."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture's file, and the index of its class."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class Split:
    """Which pictures train, and which measure.

    Attributes:
        parts: `train`, `val` and perhaps `test`: indices into `Pixels`.
        left_out: files that are in no part, and why.
    """

    parts: dict[str, np.ndarray]
    left_out: dict[Path, str]


def plain(name: str) -> str:
    """Return a class's name as names are compared: composed, small letters, spaces and hyphens as underscores."""
    return "_".join(unicodedata.normalize("NFC", name).strip().casefold().replace("-", " ").replace("_", " ").split())


def find(folder: Path, classes: Sequence[str], *, complete: bool = True) -> list[Sample]:
    """Return the pictures in a folder of class folders, in order of class and name.

    Args:
        folder: of one folder for each class, at any depth within.
        classes: by index.
        complete: whether each class must have pictures.

    Raises:
        FoldersUnfit: a folder is none of the classes, or a class has no pictures.
    """
    expected = f"There must be a folder for each of {', '.join(classes)} in {folder}"
    if not folder.is_dir():
        raise FoldersUnfit(f"{folder} is no folder. {expected}")
    by_name = {plain(name): index for index, name in enumerate(classes)}
    folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(_HIDDEN))
    if strange := [each.name for each in folders if plain(each.name) not in by_name]:
        raise FoldersUnfit(f"{expected}, but there is {', '.join(strange)}: rename it, move it away, or give --classes")
    samples: dict[int, list[Sample]] = {index: [] for index in range(len(classes))}
    for each in folders:
        label = by_name[plain(each.name)]
        samples[label] += [Sample(path, label) for path in sorted(each.rglob("*")) if _is_picture(path)]
    if complete and (missing := [classes[index] for index, found in samples.items() if not found]):
        raise FoldersUnfit(f"{expected}, but there are no pictures of {', '.join(missing)}")
    return [sample for label in sorted(samples) for sample in samples[label]]


def is_split(folder: Path) -> bool:
    """Return whether a folder has train and val folders of its own.

    Raises:
        FoldersUnfit: it has one of them only.
    """
    found = [name for name in PARTS[:2] if (folder / name).is_dir()]
    if len(found) == 1:
        missing = "val" if found == ["train"] else "train"
        raise FoldersUnfit(f"{folder} has a folder {found[0]}, but no folder {missing}: have both, or neither")
    return bool(found)


def given(pixels: Pixels, parts: Sequence[str]) -> Split:
    """Return the split as the folders have it, without the pictures of `train` that are in another part as well.

    Args:
        pixels: all pictures.
        parts: of each of them.
    """
    names = np.array(parts)
    measured = {pixels.digests[index] for index in np.flatnonzero(names != "train")}
    both = {index for index in np.flatnonzero(names == "train") if pixels.digests[index] in measured}
    train = [index for index in np.flatnonzero(names == "train") if index not in both]
    split = {part: np.flatnonzero(names == part) for part in dict.fromkeys(parts) if part != "train"}
    why = "the same picture is in val or test as well"
    left_out = {pixels.samples[index].path: why for index in sorted(both)}
    return Split({"train": np.array(train, int)} | split, left_out)


def divide(pixels: Pixels, num_classes: int, *, seed: int, val_share: float = 0.2, test_share: float = 0.0) -> Split:
    """Divide pictures by class and by seed, so that the same picture never stands on both sides.

    Pictures of the same pixels go together; those that stand in two classes are left out.

    Raises:
        FoldersUnfit: a class has too few pictures to be on all sides.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(pixels.digests):
        groups[digest].append(index)
    rng = np.random.default_rng(seed)
    left_out: dict[Path, str] = {}
    by_label: dict[int, list[list[int]]] = {label: [] for label in range(num_classes)}
    for members in groups.values():
        labels = {pixels.samples[index].label for index in members}
        if len(labels) > 1:
            left_out |= {
                pixels.samples[index].path: "the same picture is in another class as well" for index in members
            }
        else:
            by_label[labels.pop()].append(members)
    parts: dict[str, list[int]] = {"train": [], "val": []} | ({"test": []} if test_share else {})
    for found in by_label.values():
        if len(found) < len(parts):
            raise FoldersUnfit(f"Each class needs at least {len(parts)} different pictures to be split")
        order = [found[each] for each in rng.permutation(len(found))]
        num_val = min(max(round(len(order) * val_share), 1), len(order) - len(parts) + 1)
        num_test = min(max(round(len(order) * test_share), 1), len(order) - num_val - 1) if test_share else 0
        for place, members in enumerate(order):
            part = "val" if place < num_val else "test" if place < num_val + num_test else "train"
            parts[part] += members
    return Split({part: np.array(sorted(found), int) for part, found in parts.items()}, left_out)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
