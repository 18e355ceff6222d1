"""Batches for the training: random crops of all songs so far, each as another recording of the same strokes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from serve_app.models.drums import bands
from serve_app.models.drums.activations import LEAD_FRAMES
from serve_app.models.drums.bands import FRAMES_PER_S
from serve_app.models.drums.network import LABELS
from training.drums import shards
from training.drums.shards import UNSURE, Example

UNKNOWN = -1.0  # of a target that teaches nothing
# Of the bell around a stroke, in frames: wide enough to tell the time between two frames.
_SPREAD_FRAMES = 0.8

_SHARE_AT_START, _SHARE_AT_STROKE = 0.05, 0.1
_GAIN_DB, _MOST_GAIN_DB = 3.0, 8.0
_SHARE_EQUALIZED, _EQUALIZER_DB, _EQUALIZER_POINTS = 0.75, 5.5, 7
_SHARE_LOW_PASS, _SHARE_HIGH_PASS, _SLOPE_DB = 0.1, 0.06, 4.0
_SHARE_NOISY, _NOISE_DB = 0.4, (-78.0, -36.0)
_SHARE_WARPED, _SHIFT_BANDS, _WARP_BANDS, _WARP_POINTS = 0.6, 1.2, 1.0, 5
_SHARE_COMPRESSED, _COMPRESSION = 0.3, (0.8, 1.2)
_SHARE_MASKED, _MOST_MASKED = 0.2, 8
# Magnitude of white noise of power 1 in a Hann window: the root of the sum of the window's squares.
_NOISE_MAGNITUDE = float(np.sqrt(0.375 * bands.WINDOW))


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops side by side.

    Attributes:
        bands: (batch, frames, bands).
        targets: (batch, frames, labels) in [0, 1], or `UNKNOWN`.
        levels_db: (batch, frames, labels): of the stroke on this frame; NaN where there is none.
    """

    bands: Tensor
    targets: Tensor
    levels_db: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return it on a device."""
        return Batch(self.bands.to(device), self.targets.to(device), self.levels_db.to(device))


class Pool:
    """All songs of a part that are on disk, in memory (15 MB for each quarter of an hour)."""

    def __init__(self, folder: Path, part: str = "train") -> None:
        self._folder, self._part = folder, part
        self._examples: dict[Path, list[Example]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in shards that have come and forget those that are gone."""
        paths = shards.shard_paths(self._folder, self._part)
        self._examples = {path: self._examples.get(path) or list(shards.read(path)) for path in paths}
        self.examples = [each for path in paths for each in self._examples[path]]

    @property
    def hours(self) -> float:
        """Return how much music there is."""
        return sum(len(each.bands) for each in self.examples) / FRAMES_PER_S / 3600


def draw(pool: Pool, rng: np.random.Generator, num_crops: int, num_frames: int) -> Batch:
    """Return random crops of random songs, recorded anew."""
    crops, targets, levels = [], [], []
    for _ in range(num_crops):
        example = pool.examples[rng.integers(len(pool.examples))]
        start, silent_frames = _draw_start(rng, example, num_frames)
        crop = np.zeros((num_frames, example.bands.shape[1]), np.float32)
        taken = example.bands[start : start + num_frames - silent_frames]
        crop[silent_frames : silent_frames + len(taken)] = taken
        crop, range_, gain_db = record_anew(rng, crop)
        crop[:silent_frames] = 0.0
        target, level_db = targets_of(example, start - silent_frames, num_frames, silent_frames)
        crops.append(crop)
        targets.append(target)
        levels.append(range_ * level_db + gain_db)
    return Batch(*(torch.from_numpy(np.stack(each)) for each in (crops, targets, levels)))


def _draw_start(rng: np.random.Generator, example: Example, num_frames: int) -> tuple[int, int]:
    """Return where a crop begins, and how many frames of silence come before it.

    Some begin like files: on the song's first sample or, as loops do, on a stroke, behind the silence of `cut_pieces`.
    """
    draw = rng.random()
    if draw < _SHARE_AT_START:
        return 0, LEAD_FRAMES
    if draw < _SHARE_AT_START + _SHARE_AT_STROKE and len(example.times_s):
        stroke = round(float(rng.choice(example.times_s)) * FRAMES_PER_S)
        return max(0, min(stroke, len(example.bands) - num_frames // 2)), LEAD_FRAMES
    return int(rng.integers(max(0, len(example.bands) - num_frames) + 1)), 0


def targets_of(example: Example, start: int, num_frames: int, silent_frames: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network should say of frames from `start` on: targets and levels as in `Batch`, float32.

    Args:
        example: the song.
        start: first frame.
        num_frames: how many.
        silent_frames: so many of the first are not heard, nor what was struck then.
    """
    targets = np.zeros((num_frames, len(LABELS)), np.float32)
    levels_db = np.full((num_frames, len(LABELS)), np.nan, np.float32)
    positions = example.times_s * FRAMES_PER_S - start
    earliest = silent_frames - 0.5 if silent_frames else -4.0
    near = np.flatnonzero((positions >= earliest) & (positions < num_frames + 3))
    for index in sorted(near, key=lambda index: example.kinds[index]):  # the sure ones first
        position, label = positions[index], example.labels[index]
        nearest = round(float(position))
        frames = np.arange(max(0, nearest - 3), min(num_frames, nearest + 4))
        if example.kinds[index] == UNSURE:
            targets[frames, label] = np.where(targets[frames, label] == 0.0, UNKNOWN, targets[frames, label])
            continue
        bell = np.exp(-0.5 * ((frames - position) / _SPREAD_FRAMES) ** 2)
        targets[frames, label] = np.maximum(targets[frames, label], np.where(bell > 0.02, bell, 0.0))
        if 0 <= nearest < num_frames:
            levels_db[nearest, label] = np.fmax(levels_db[nearest, label], example.levels_db[index])
    return targets, levels_db


def record_anew(rng: np.random.Generator, crop: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return a spectrogram, (frames, bands), as if recorded otherwise.

    Also returns what that does to levels in dB: by what they are multiplied (below 1 for a compressor), and then the
    gain.
    """
    num_bands = crop.shape[1]
    if rng.random() < _SHARE_WARPED:
        crop = _warped(rng, crop)
    gain_db = float(np.clip(rng.normal(0.0, _GAIN_DB), -_MOST_GAIN_DB, _MOST_GAIN_DB))
    curve_db = np.full(num_bands, gain_db)
    if rng.random() < _SHARE_EQUALIZED:
        points_db = rng.normal(0.0, _EQUALIZER_DB, _EQUALIZER_POINTS)
        curve_db += np.interp(np.linspace(0, _EQUALIZER_POINTS - 1, num_bands), np.arange(_EQUALIZER_POINTS), points_db)
    if rng.random() < _SHARE_LOW_PASS:
        curve_db -= _SLOPE_DB * np.maximum(np.arange(num_bands) - rng.integers(num_bands - 30, num_bands), 0)
    if rng.random() < _SHARE_HIGH_PASS:
        curve_db -= _SLOPE_DB * np.maximum(rng.integers(1, 14) - np.arange(num_bands), 0)
    magnitudes, range_ = to_magnitudes(crop), 1.0
    if rng.random() < _SHARE_COMPRESSED:
        range_ = float(rng.uniform(*_COMPRESSION))
        magnitudes = _NOISE_MAGNITUDE * (magnitudes / _NOISE_MAGNITUDE) ** np.float32(range_)
    magnitudes = magnitudes * (10.0 ** (curve_db / 20.0)).astype(np.float32)
    if rng.random() < _SHARE_NOISY:
        tilt = np.linspace(0.0, rng.uniform(-24.0, 12.0), num_bands)
        noise_db = (rng.uniform(*_NOISE_DB) + tilt).astype(np.float32)
        power = (_NOISE_MAGNITUDE * 10.0 ** (noise_db / 20.0)) ** 2
        magnitudes = np.sqrt(magnitudes**2 + power * rng.standard_exponential(magnitudes.shape, np.float32))
    crop = from_magnitudes(magnitudes)
    if rng.random() < _SHARE_MASKED:
        width = int(rng.integers(1, _MOST_MASKED + 1))
        first = rng.integers(0, num_bands - width)
        crop[:, first : first + width] = 0.0
    return crop, range_, gain_db


def _warped(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """Return it tuned otherwise, each register by itself: a lower kick, a brighter snare."""
    last = crop.shape[1] - 1
    points = rng.normal(rng.normal(0.0, _SHIFT_BANDS), _WARP_BANDS, _WARP_POINTS)
    moved = np.arange(last + 1) + np.interp(np.linspace(0, _WARP_POINTS - 1, last + 1), np.arange(_WARP_POINTS), points)
    moved = np.clip(moved, 0, last)
    below = np.minimum(moved.astype(int), last - 1)
    share = (moved - below).astype(np.float32)
    return crop[:, below] * (1 - share) + crop[:, below + 1] * share


def to_magnitudes(log_bands: np.ndarray) -> np.ndarray:
    """Undo the logarithm of `log_bands`."""
    return np.maximum(10.0**log_bands - 1.0, 0.0) / bands._GAIN


def from_magnitudes(magnitudes: np.ndarray) -> np.ndarray:
    """Do it again."""
    return np.log10(1.0 + bands._GAIN * magnitudes).astype(np.float32)
