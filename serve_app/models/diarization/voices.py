"""`CamEmbedding`: CAM++ as a pyannote model. `FusedEmbedding`: two embeddings as one, their cosines weighted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pyannote.audio.core.model import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications
from torch import Tensor, nn
from torch.nn import functional

from serve_app.models.diarization.campplus import (
    FRAME_SAMPLES,
    FRAME_SHIFT_SAMPLES,
    NUM_MELS,
    CamPlusPlus,
    CamShape,
    filter_banks,
    load_campplus,
)
from serve_app.models.diarization.embedding import distinct_rows
from serve_app.results import SAMPLE_RATE_HZ

# Crops are cut to the longest of these that they fill, so that crops of one length are embedded in one call; the time
# of the network grows with the length, and beyond four seconds the vector hardly gains.
_LENGTHS_FRAMES = (50, 100, 150, 200, 300, 400)


class CamEmbedding(Model):
    """Map chunks of speech, with a mask for the speaker meant, to CAM++ vectors.

    Only the speaker's own frames are read: they are put one after the other, up to four seconds of them.
    """

    def __init__(self, network: CamPlusPlus | None = None) -> None:
        super().__init__(sample_rate=SAMPLE_RATE_HZ, num_channels=1, task=None)
        self.network = network or CamPlusPlus()
        self.specifications = _specifications()

    @property
    def dimension(self) -> int:
        """Return the size of an embedding."""
        return self.network.shape.dimension

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return embeddings, (batch, dimension), not normalised.

        Args:
            waveforms: (batch, 1, samples), 16 kHz.
            weights: (batch, frames) at any frame rate: the speaker's frames are those above a half. None: all are, and
                so they are in a row that has none.

        Raises:
            ValueError: fewer than 400 samples.
        """
        if waveforms.shape[-1] < FRAME_SAMPLES:
            raise ValueError(f"an embedding needs at least {FRAME_SAMPLES} samples, got {waveforms.shape[-1]}")
        distinct, index = distinct_rows(waveforms[:, 0])
        features = [filter_banks(samples) for samples in waveforms[distinct, 0]]
        num_frames = (waveforms.shape[-1] - FRAME_SAMPLES) // FRAME_SHIFT_SAMPLES + 1
        if weights is None:
            own = waveforms.new_ones(len(waveforms), num_frames, dtype=torch.bool)
        else:
            own = functional.interpolate(weights[:, None].float(), size=num_frames, mode="nearest")[:, 0] > 0.5
        crops: dict[int, tuple[list[int], list[Tensor]]] = {}
        for row, mask in enumerate(own):
            frames = features[int(index[row])]
            crop = _cut(frames[mask] if mask.any() else frames)
            rows, tensors = crops.setdefault(len(crop), ([], []))
            rows.append(row)
            tensors.append(crop - crop.mean(dim=0))
        vectors = waveforms.new_empty(len(waveforms), self.dimension)
        for rows, tensors in crops.values():
            vectors[rows] = self.network(torch.stack(tensors))
        return vectors


class FusedEmbedding(Model):
    """Two embeddings side by side, so that the cosine of two vectors is the weighted sum of the cosines of both."""

    def __init__(self, first: Model, second: Model, first_share: float) -> None:
        super().__init__(sample_rate=SAMPLE_RATE_HZ, num_channels=1, task=None)
        self.parts = nn.ModuleList((first, second))
        sizes: list[Any] = [first.dimension, second.dimension]
        self._dimension = sum(map(int, sizes))
        self.first_share = first_share
        self.specifications = _specifications()

    @property
    def dimension(self) -> int:
        """Return the size of an embedding."""
        return self._dimension

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return embeddings, (batch, dimension), of unit length; arguments and errors are those of the parts."""
        shares = (self.first_share, 1.0 - self.first_share)
        return torch.cat(
            [
                functional.normalize(part(waveforms, weights=weights)) * share**0.5
                for part, share in zip(self.parts, shares, strict=True)
            ],
            dim=1,
        )


def load_cam_embedding(path: Path, shape: CamShape | None = None) -> CamEmbedding:
    """Return CAM++ stored at `path`, in evaluation mode on the CPU.

    Raises:
        ModelLoadingError: see `load_campplus`.
    """
    model = CamEmbedding(load_campplus(path, shape))
    return model.eval()


def _specifications() -> Specifications:
    return Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, min_duration=0.5)


def _cut(frames: Tensor) -> Tensor:
    """Return (length, NUM_MELS) frames of one of `_LENGTHS_FRAMES`: the middle, or repeated if there are too few."""
    assert frames.shape[1] == NUM_MELS
    shortest = _LENGTHS_FRAMES[0]
    if len(frames) < shortest:
        return frames.repeat(-(-shortest // len(frames)), 1)[:shortest]
    length = max(length for length in _LENGTHS_FRAMES if length <= len(frames))
    first = (len(frames) - length) // 2
    return frames[first : first + length]
