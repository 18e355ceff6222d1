"""`CamEmbedding`: CAM++ as a pyannote model. `FusedEmbedding`: two embeddings as one: its cosine is a weighted sum."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from serve_app.models.diarization.campplus import (
    FRAME_SAMPLES,
    FRAME_SHIFT_SAMPLES,
    CamPlusPlus,
    CamShape,
    filter_banks,
    load_campplus,
)
from serve_app.models.diarization.embedding import EmbeddingModel, distinct_rows

# A crop is cut to the longest of these that it fills: crops of one length share a call. The network's time grows with
# the length, and beyond four seconds the vector hardly gains.
_LENGTHS_FRAMES = (50, 100, 150, 200, 300, 400)


class CamEmbedding(EmbeddingModel):
    """CAM++. It reads the speaker's own frames of a chunk, one after the other, up to four seconds of them."""

    def __init__(self, network: CamPlusPlus) -> None:
        super().__init__(network.shape.dimension)
        self.network = network

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return embeddings, (batch, dimension), not normalised.

        Args:
            waveforms: (batch, 1, samples), 16 kHz.
            weights: (batch, frames) at any frame rate: frames above a half are the speaker's. None, or a row without
                such frames: all are.

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


class FusedEmbedding(EmbeddingModel):
    """Two embeddings side by side: the cosine of two vectors is the weighted sum of the cosines of both."""

    def __init__(self, first: EmbeddingModel, second: EmbeddingModel, first_share: float) -> None:
        super().__init__(first.dimension + second.dimension)
        self.parts = nn.ModuleList((first, second))
        self.shares = (first_share, 1.0 - first_share)

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return embeddings, (batch, dimension), of unit length; arguments and errors are those of the parts."""
        parts = zip(self.parts, self.shares, strict=True)
        vectors = [functional.normalize(part(waveforms, weights=weights)) * share**0.5 for part, share in parts]
        return torch.cat(vectors, dim=1)


def load_cam_embedding(path: Path, shape: CamShape | None = None) -> CamEmbedding:
    """Return CAM++ stored at `path`, in evaluation mode on the CPU; errors as `load_campplus`."""
    return CamEmbedding(load_campplus(path, shape)).eval()


def _cut(frames: Tensor) -> Tensor:
    """Return (length, NUM_MELS) frames of one of `_LENGTHS_FRAMES`: the middle; repeated if there are too few."""
    shortest = _LENGTHS_FRAMES[0]
    if len(frames) < shortest:
        return frames.repeat(-(-shortest // len(frames)), 1)[:shortest]
    length = max(length for length in _LENGTHS_FRAMES if length <= len(frames))
    first = (len(frames) - length) // 2
    return frames[first : first + length]
