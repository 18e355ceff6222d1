"""Training batches: random crops, changed on the fly in the feature domain, where a change costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from serve_app.models.diarization.embedding import NUM_FEATURES, NUM_MELS
from training.speaker_embedding.data import Corpus

_DB = float(np.log(10.0)) / 10.0  # one decibel of power, in natural-log units


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops of one length.

    Attributes:
        features: (batch, frames, NUM_FEATURES).
        weights: (batch, frames), zero where somebody else was spliced in.
        labels: (batch,) class indices.
    """

    features: Tensor
    weights: Tensor
    labels: Tensor


def draw(corpus: Corpus, rng: np.random.Generator, size: int, frames: tuple[int, int] = (100, 300)) -> Batch:
    """Return a batch whose crops have one random length within `frames`."""
    num_frames = int(rng.integers(frames[0], frames[1] + 1))
    labels = rng.integers(0, corpus.num_classes, size)
    conditions = rng.integers(0, corpus.starts.shape[1], size)
    crops = np.empty((size, num_frames, NUM_FEATURES), np.float32)
    for row, (label, condition) in enumerate(zip(labels, conditions, strict=True)):
        start, length = int(corpus.starts[label, condition]), int(corpus.lengths[label, condition])
        if length < num_frames:
            crops[row] = corpus.frames[start + np.arange(num_frames) % length]
        else:
            first = start + int(rng.integers(0, length - num_frames + 1))
            crops[row] = corpus.frames[first : first + num_frames]
    features = torch.from_numpy(crops)
    mels = features[..., :NUM_MELS]
    _equalize(mels, rng)
    _add_noise(mels, rng)
    _limit_band(mels, rng)
    weights = _splice(features, rng)
    _mask(features, rng)
    return Batch(features, weights, torch.from_numpy(labels))


def _curves(rng: np.random.Generator, size: int, depth_db: float) -> Tensor:
    """Return smooth random responses over the mel bands, (size, 1, mels), natural log."""
    order = np.arange(1, 6)
    coefficients = rng.normal(0.0, depth_db * _DB / 2.0, (size, order.size)) / np.sqrt(order)
    waves = np.cos(np.pi * order[:, None] * (np.arange(NUM_MELS) + 0.5) / NUM_MELS)
    return torch.from_numpy((coefficients @ waves)[:, None].astype(np.float32))


def _equalize(mels: Tensor, rng: np.random.Generator) -> None:
    mels += _curves(rng, len(mels), 6.0)


def _add_noise(mels: Tensor, rng: np.random.Generator) -> None:
    """Add stationary noise to a third of the crops, at 5 to 30 dB below the crop's mean."""
    rows = torch.from_numpy(np.flatnonzero(rng.random(len(mels)) < 0.33))
    level = torch.from_numpy((-rng.uniform(5.0, 30.0, len(rows)) * _DB).astype(np.float32))
    noise = mels[rows].mean(dim=(1, 2), keepdim=True) + level[:, None, None] + _curves(rng, len(rows), 12.0)
    flutter = torch.randn(len(rows), mels.shape[1], NUM_MELS, generator=_generator(rng)) * 0.5
    mels[rows] = torch.logaddexp(mels[rows], noise + flutter)


def _limit_band(mels: Tensor, rng: np.random.Generator) -> None:
    """Empty the treble of a fifth of the crops, the bass of a tenth."""
    for row in np.flatnonzero(rng.random(len(mels)) < 0.2):
        mels[row, :, int(rng.integers(42, 60)) :] = -23.0
    for row in np.flatnonzero(rng.random(len(mels)) < 0.1):
        mels[row, :, : int(rng.integers(1, 8))] = -23.0


def _splice(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Replace a run of frames by another crop's in 30 % of the crops; return weights that leave it out.

    So it is in a chunk of conversation: the network reads across the border, the pooling must not.
    """
    size, num_frames, _ = features.shape
    weights = torch.ones(size, num_frames)
    others = features.clone()
    for row in np.flatnonzero(rng.random(size) < 0.3):
        length = int(rng.integers(num_frames // 5, num_frames * 2 // 3))
        start = int(rng.integers(0, num_frames - length + 1))
        other = int(rng.integers(0, size))
        features[row, start : start + length] = others[other, start : start + length]
        weights[row, start : start + length] = 0.0
    return weights


def _mask(features: Tensor, rng: np.random.Generator) -> None:
    """Blank a few runs of frames and bands (SpecAugment), and the whole pitchgram of every tenth crop."""
    size, num_frames, _ = features.shape
    fill = features.mean(dim=1)
    for row in range(size):
        if rng.random() < 0.5:
            width = int(rng.integers(3, 15))
            start = int(rng.integers(0, num_frames - width))
            features[row, start : start + width] = fill[row]
        if rng.random() < 0.5:
            width = int(rng.integers(2, 10))
            band = int(rng.integers(0, NUM_MELS - width))
            features[row, :, band : band + width] = fill[row, band : band + width]
        if rng.random() < 0.1:
            features[row, :, NUM_MELS:] = 0.0


def _generator(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**31)))
