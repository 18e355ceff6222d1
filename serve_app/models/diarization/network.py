"""The speaker embedding's network: frames and their weights in, one vector out. Pure torch, no pyannote.

Two branches are summed. A time-delay residual network reads mel bands freed of their mean (so a fixed channel
drops out) beside the pitchgram; a linear branch reads long-term statistics, which learns within minutes and carries
the network through the early epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from serve_app.models.diarization.features import NUM_FEATURES, NUM_LAGS, NUM_MELS

_NUM_CEPSTRA = 24
# Mel bands below about 3.5 kHz: what the telephone passes. Long-term means are taken there only, so that narrow-band
# and wide-band speech of one voice agree.
NUM_NARROW_MELS = 42
# Anything 65 dB (in natural-log power) below the loudest band of the crop is the floor: the empty band above a
# telephone's 4 kHz becomes a constant, which mean subtraction then removes.
_DYNAMIC_RANGE_LOG = 65.0 / 10.0 * math.log(10.0)


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes that a checkpoint must state to be loaded."""

    dimension: int = 128
    channels: int = 192
    pooled_channels: int = 384
    dilations: tuple[int, ...] = (1, 2, 3, 4)


class SpeakerNetwork(nn.Module):
    """Embed weighted frames of features."""

    dct: Tensor

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("dct", _dct(), persistent=False)
        self.stem = nn.Conv1d(NUM_FEATURES, shape.channels, 5, stride=2, padding=2)
        self.stem_norm = nn.BatchNorm1d(shape.channels)
        self.blocks = nn.ModuleList(_Block(shape.channels, dilation) for dilation in shape.dilations)
        self.expand = nn.Conv1d(shape.channels * (len(shape.dilations) + 1), shape.pooled_channels, 1)
        self.expand_norm = nn.BatchNorm1d(shape.pooled_channels)
        self.pooled_norm = nn.BatchNorm1d(2 * shape.pooled_channels)
        self.project = nn.Linear(2 * shape.pooled_channels, shape.dimension)
        num_statistics = 2 * _NUM_CEPSTRA + _NUM_CEPSTRA + 2 * NUM_LAGS
        self.statistics_norm = nn.BatchNorm1d(num_statistics)
        self.project_statistics = nn.Linear(num_statistics, shape.dimension)
        self.output_norm = nn.BatchNorm1d(shape.dimension, affine=False)

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return embeddings, (batch, dimension), not normalised.

        Args:
            features: (batch, frames, NUM_FEATURES) as `SpeechFeatures` makes them; any gain.
            weights: (batch, frames) in [0, 1]: how far each frame is this speaker's. An all-zero row gives a
                finite, meaningless vector.
        """
        mels, pitchgram = features[..., :NUM_MELS], features[..., NUM_MELS:]
        loudest = mels.amax(dim=(1, 2), keepdim=True)
        mels = torch.maximum(mels, loudest - _DYNAMIC_RANGE_LOG)
        mean, _ = weighted_statistics(mels, weights)
        centred = (mels - mean[:, None]) * 0.4
        x = torch.cat([centred, pitchgram], dim=2).transpose(1, 2)  # (batch, features, frames)
        x = functional.relu(self.stem_norm(self.stem(x)))
        layers = [x]
        for block in self.blocks:
            x = block(x)
            layers.append(x)
        x = functional.relu(self.expand_norm(self.expand(torch.cat(layers, dim=1))))
        halved = weights[:, ::2]  # the stem's stride
        pooled = torch.cat(weighted_statistics(x.transpose(1, 2).float(), halved), dim=1)
        deep = self.project(self.pooled_norm(pooled))
        statistics = self._statistics(mels, mean, pitchgram, weights)
        return self.output_norm(deep + self.project_statistics(self.statistics_norm(statistics)))

    def _statistics(self, mels: Tensor, mean: Tensor, pitchgram: Tensor, weights: Tensor) -> Tensor:
        """Return long-term statistics: mean narrow-band cepstra, spread of cepstra, level and spread of pitch."""
        narrow_mean = mean[:, :NUM_NARROW_MELS]
        narrow = mels[..., :NUM_NARROW_MELS]
        narrow = narrow - narrow.mean(dim=2, keepdim=True)
        cepstra = narrow @ self.dct.T  # (batch, frames, cepstra)
        deltas = cepstra[:, 2:] - cepstra[:, :-2]
        _, spread = weighted_statistics(cepstra, weights)
        _, delta_spread = weighted_statistics(deltas, weights[:, 1:-1])
        pitch_mean, pitch_spread = weighted_statistics(pitchgram, weights)
        mean_cepstra = (narrow_mean - narrow_mean.mean(dim=1, keepdim=True)) @ self.dct.T
        return torch.cat([mean_cepstra, spread, delta_spread, pitch_mean, pitch_spread], dim=1)


class _Block(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.spread = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.spread_norm = nn.BatchNorm1d(channels)
        self.mix = nn.Conv1d(channels, channels, 1)
        self.mix_norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.spread_norm(self.spread(x)))
        return functional.relu(x + self.mix_norm(self.mix(y)))


def weighted_statistics(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted mean and standard deviation over time of (batch, frames, channels), finite for zero weights."""
    share = (weights / (weights.sum(dim=1, keepdim=True) + 1e-6))[..., None]
    mean = (frames * share).sum(dim=1)
    variance = ((frames - mean[:, None]).square() * share).sum(dim=1)
    # The gradient of a square root is infinite at zero.
    return mean, torch.sqrt(variance + 1e-5)


def _dct() -> Tensor:
    """Return cosines over the narrow mel bands, (cepstra, bands), without the constant one (that is the gain)."""
    band = torch.arange(NUM_NARROW_MELS) + 0.5
    order = torch.arange(1, _NUM_CEPSTRA + 1)
    return torch.cos(math.pi * order[:, None] * band[None] / NUM_NARROW_MELS) * math.sqrt(2.0 / NUM_NARROW_MELS)
