"""Recorded strokes of one drum, from soft to hard, and the files that keep them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 44_100
_LOUDNESS_WINDOW = round(0.02 * SAMPLE_RATE_HZ)
_ONSET_SHARE = 0.04  # of the peak: where a stroke begins
_ATTACK_SHARE = 0.2  # of the peak of its first 100 ms: where a stroke that swells is heard
_LEAD = round(0.0005 * SAMPLE_RATE_HZ)
_TAIL_ENERGY = 3e-6  # of a stroke's energy: where it ends
_FADE = round(0.02 * SAMPLE_RATE_HZ)
_SLOPE_DB = 30.0  # for ten times the velocity, where nothing is recorded
_FULL_SCALE = 32_767


def trim(samples: np.ndarray) -> np.ndarray:
    """Return a stroke from its onset to where nothing is left of it, faded at both ends."""
    magnitude = np.abs(samples)
    start = max(0, int(np.argmax(magnitude > _ONSET_SHARE * magnitude.max())) - _LEAD)
    left = np.cumsum(samples[::-1].astype(np.float64) ** 2)[::-1]
    end = int(np.searchsorted(-left, -_TAIL_ENERGY * left[0])) + _FADE
    cut = samples[start:end].astype(np.float32)
    fade = min(_FADE, cut.size // 2)
    cut[cut.size - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    lead = min(_LEAD, cut.size)
    cut[:lead] *= np.linspace(0, 1, lead, dtype=np.float32)
    return cut


def from_attack(samples: np.ndarray) -> np.ndarray:
    """Return a stroke that swells from where it is heard, not from where it begins to move."""
    magnitude = np.abs(samples[: round(0.1 * SAMPLE_RATE_HZ)])
    start = int(np.argmax(magnitude > _ATTACK_SHARE * magnitude.max())) - 2 * _LEAD
    if start <= 0:
        return samples
    cut = samples[start:].copy()
    cut[: 2 * _LEAD] *= np.linspace(0, 1, cut[: 2 * _LEAD].size, dtype=np.float32)
    return cut


def level_db(samples: np.ndarray) -> float:
    """Return the level of the loudest 20 ms, in dB relative to full scale."""
    step = _LOUDNESS_WINDOW // 4
    quarters = np.add.reduceat(np.square(samples, dtype=np.float64), np.arange(0, samples.size, step))
    energy = np.convolve(quarters, np.ones(4))[: quarters.size].max()
    return float(10 * np.log10(max(energy / _LOUDNESS_WINDOW, 1e-12)))


@dataclass(frozen=True, slots=True)
class Layer:
    """A stroke.

    Attributes:
        velocity: in (0, 1].
        samples: float32 or int16, (n,), peak at full scale.
        level_db: what `level_db` measured before it was brought to full scale.
    """

    velocity: float
    samples: npt.NDArray
    level_db: float

    @classmethod
    def of(cls, velocity: float, samples: np.ndarray) -> Layer:
        """Return it, measured."""
        peak = max(float(np.abs(samples).max()), 1e-9)
        return cls(velocity, samples / np.float32(peak), level_db(samples))


@dataclass(frozen=True, slots=True)
class Recording:
    """One drum, struck one way with growing force.

    Attributes:
        name: where it comes from.
        velocities, levels_db: how loud it is, where the layers are too few to tell; growing.
    """

    name: str
    articulation: str
    layers: tuple[Layer, ...]
    velocities: tuple[float, ...] = ()
    levels_db: tuple[float, ...] = ()

    def thinned(self, likeness: float = 0.9995) -> Recording:
        """Return it without layers that only differ in level from the next harder one."""
        levels = np.maximum.accumulate([layer.level_db for layer in self.layers])
        kept = [self.layers[-1]]
        for layer in self.layers[-2::-1]:
            if _likeness(layer.samples, kept[0].samples) < likeness:
                kept.insert(0, layer)
        velocities = tuple(layer.velocity for layer in self.layers)
        return replace(self, layers=tuple(kept), velocities=velocities, levels_db=tuple(map(float, levels)))

    def level_db(self, velocity: float) -> float:
        """Return the level of a stroke; it goes on falling below the softest one recorded."""
        below_db = _SLOPE_DB * min(0.0, float(np.log10(velocity / self.velocities[0])))
        return float(np.interp(np.log(velocity), np.log(self.velocities), self.levels_db)) + below_db

    def layer(self, velocity: float) -> Layer:
        """Return the layer next to a velocity, the harder one in doubt."""
        return next((layer for layer in self.layers if layer.velocity >= velocity - 1e-6), self.layers[-1])


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two strokes that begin together, give or take a few samples."""
    size = min(one.size, other.size)
    best = 0.0
    for shift in range(-4, 5):
        a, b = one[max(0, shift) : size + min(0, shift)], other[max(0, -shift) : size + min(0, -shift)]
        best = max(best, float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9))
    return best


def save(path: Path, kits: Mapping[str, Sequence[Recording]]) -> None:
    """Write `path`.npy (all samples, int16) and, last, `path`.json: where each layer lies, and what each kit plays.

    Recordings that several kits share (by their names) are written once.
    """
    recordings = {recording.name: recording for group in kits.values() for recording in group}
    path.parent.mkdir(parents=True, exist_ok=True)
    at = 0
    index, samples = [], []
    for recording in recordings.values():
        layers = []
        for layer in recording.layers:
            samples.append(np.round(layer.samples * _FULL_SCALE).astype(np.int16))
            layers.append([layer.velocity, at, layer.samples.size, layer.level_db])
            at += layer.samples.size
        index.append(
            {
                "name": recording.name,
                "articulation": recording.articulation,
                "layers": layers,
                "velocities": recording.velocities,
                "levels_db": recording.levels_db,
            }
        )
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, np.concatenate(samples))
    part.replace(path.with_suffix(".npy"))
    members = {kit: [recording.name for recording in group] for kit, group in kits.items()}
    part.write_text(json.dumps({"recordings": index, "kits": members}))
    part.replace(path.with_suffix(".json"))


def load(path: Path) -> dict[str, tuple[Recording, ...]]:
    """Return what was saved; the samples stay on disk, as int16, until they are used."""
    samples = np.load(path.with_suffix(".npy"), mmap_mode="r")
    saved = json.loads(path.with_suffix(".json").read_text())
    recordings = {
        each["name"]: Recording(
            each["name"],
            each["articulation"],
            tuple(Layer(velocity, samples[at : at + size], level) for velocity, at, size, level in each["layers"]),
            tuple(each["velocities"]),
            tuple(each["levels_db"]),
        )
        for each in saved["recordings"]
    }
    return {kit: tuple(recordings[name] for name in names) for kit, names in saved["kits"].items()}
