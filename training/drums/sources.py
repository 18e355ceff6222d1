"""Where kits take their drums from: kits of soundfonts, single recorded strokes, synthesis.

Soundfonts are recorded once, to a folder (75 MB), by `prepare`.
"""

from __future__ import annotations

import fcntl
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from training.drums import one_shots, recordings, soundfonts
from training.drums.articulations import PERCUSSION
from training.drums.modal import Split
from training.drums.recordings import Recording

SOUNDS = Path("/tmp/drums/sounds")
RECIPE = 1  # of the recordings; another number makes them anew
_ELECTRONIC = ("electronic", "808")
_SWELLING = frozenset({"hihat_pedal", "snare_brush", "crash", *PERCUSSION})
_FONTS = {"train": soundfonts.TRAIN_FONTS, "held_out": soundfonts.HELD_OUT_FONTS}
_log = logging.getLogger(__name__)


class Source(Protocol):
    """Drums as they come, before a kit shapes them."""

    name: str
    articulations: frozenset[str]

    def level_db(self, articulation: str, velocity: float) -> float:
        """Return how loud a stroke is beside others of the source; it grows with the velocity."""

    def render(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return a stroke of any scale, (n,) float32."""


class SampledDrums:
    """Recorded strokes, one recording for each articulation.

    Attributes:
        names: of the recordings, by articulation.
    """

    def __init__(self, name: str, recordings_of: dict[str, Recording]) -> None:
        self.name = name
        self._recordings = recordings_of
        self.articulations = frozenset(recordings_of)
        self.names = {articulation: recording.name for articulation, recording in recordings_of.items()}

    def level_db(self, articulation: str, velocity: float) -> float:
        """Return how loud a stroke is, in dB of the recording's own scale."""
        return self._recordings[articulation].level_db(velocity)

    def layer_velocity(self, articulation: str, velocity: float) -> float:
        """Return how hard the stroke was played that stands for a velocity."""
        return self._recordings[articulation].layer(velocity).velocity

    def render(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return a stroke."""
        samples = np.array(self._recordings[articulation].layer(velocity).samples, np.float32)
        return recordings.from_attack(samples) if articulation in _SWELLING else samples


@dataclass(frozen=True, slots=True)
class SampledKit:
    """What a kit has recordings of; several of an articulation where it has several such drums."""

    name: str
    recordings: dict[str, tuple[Recording, ...]]

    @property
    def electronic(self) -> bool:
        """Return whether a machine made its sounds."""
        return any(word in self.name.lower() for word in _ELECTRONIC)

    def drawn(self, rng: np.random.Generator) -> SampledDrums:
        """Return it with one drum for each articulation."""
        chosen = {name: group[int(rng.integers(len(group)))] for name, group in self.recordings.items()}
        return SampledDrums(self.name, chosen)


@dataclass(frozen=True, slots=True)
class Bank:
    """All recordings of a split.

    Attributes:
        kits: of soundfonts.
        one_shots: by articulation.
    """

    kits: tuple[SampledKit, ...]
    one_shots: dict[str, tuple[Recording, ...]]


def prepare(folder: Path = SOUNDS) -> None:
    """Record the soundfonts that are not in the folder yet, which takes some minutes.

    Raises:
        MissingSoundsError: if fluidsynth or a soundfont is not installed.
    """
    missing = [font for fonts in _FONTS.values() for font in fonts if not _is_recorded(folder, font)]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let one of several processes do it
        for font in missing:
            if not _is_recorded(folder, font):
                _log.info("recording %s to %s", font, folder)
                recordings.save(_path(folder, font), soundfonts.record(font))


@cache
def load_bank(split: Split, folder: Path = SOUNDS) -> Bank:
    """Return the recordings of a split, made first where they are missing."""
    prepare(folder)
    kits = [
        SampledKit(name, _by_articulation(group))
        for font in _FONTS[split]
        for name, group in recordings.load(_path(folder, font)).items()
    ]
    shots = one_shots.read(one_shots.TRAIN if split == "train" else one_shots.HELD_OUT)
    if not shots:
        _log.warning("%s is not there: going on without recorded one-shots", one_shots.FOLDER)
    return Bank(tuple(kits), _by_articulation(shots))


def _path(folder: Path, font: Path) -> Path:
    return folder / f"{font.stem}-{RECIPE}"


def _is_recorded(folder: Path, font: Path) -> bool:
    return _path(folder, font).with_suffix(".json").exists()


def _by_articulation(group: Iterable[Recording]) -> dict[str, tuple[Recording, ...]]:
    found = defaultdict(list)
    for recording in group:
        found[recording.articulation].append(recording)
    return {articulation: tuple(group) for articulation, group in found.items()}
