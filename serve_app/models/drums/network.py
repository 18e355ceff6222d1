"""`DrumNetwork`: from log-bands to strokes and levels of each frame and label. Pure torch.

A convolutional recurrent network after Vogl et al., "Drum transcription via joint beat and drum modeling using
convolutional recurrent neural networks" (ISMIR 2017): convolutions over time and frequency detect the sounds, residual
dilated convolutions over time (as Davies & Böck, EUSIPCO 2019) their starts, and a bidirectional GRU the course of the
music. One recurrent layer behind convolutions over time, instead of their three, is about twice as fast on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

LABELS = ("kick", "snare", "hihat", "tom", "cymbal", "percussion")

# The GRU reads stretches of 6 s, with 2.6 s around each. Pieces that start a multiple of `FOLLOWED_FRAMES` apart, with
# their first and last `FOLLOWED_FROM` frames as context, get the outputs of the whole recording.
FOLLOWED_FROM, FOLLOWED_FRAMES = 300, 600
_AROUND_FRAMES = 260  # and the convolutions' reach: less than `FOLLOWED_FROM`
_POOLED_BANDS = 3
# Mean and spread of strokes' levels; the levels' layer computes them relative to these.
_LEVEL_CENTER_DB, _LEVEL_SPREAD_DB = -20.0, 10.0


@dataclass(frozen=True, slots=True)
class HyperParameters:
    """Sizes that a checkpoint states."""

    labels: tuple[str, ...] = LABELS  # in the order of the outputs
    num_bands: int = 81
    conv_channels: tuple[int, ...] = (16, 48)  # of each pair of convolutions; a third of the bands is left after each
    width: int = 160  # channels of the temporal network
    block_width: int = 128  # channels within its blocks
    dilations: tuple[int, ...] = (1, 2, 4, 8)  # of its blocks, in frames
    kernel: int = 5  # taps of each block's dilated convolution, odd
    gru_width: int = 96  # in each direction
    dropout: float = 0.1  # share of channels, while training


class DrumOutput(NamedTuple):
    """The output for each frame and label, (batch, frames, labels).

    Attributes:
        logits: the sigmoid is the probability that a stroke falls on the frame.
        levels_db: of that stroke alone, relative to full scale of the levelled music; arbitrary where there is none.
    """

    logits: Tensor
    levels_db: Tensor


class DrumNetwork(nn.Module):
    """Finds strokes in log-bands."""

    def __init__(self, hyper_parameters: HyperParameters = HyperParameters()) -> None:
        super().__init__()
        self.hyper_parameters = sizes = hyper_parameters
        stages, channels, bands = [], 2, sizes.num_bands
        for wider in sizes.conv_channels:
            stages.append(_SpectralStage(channels, wider))
            channels, bands = wider, (bands - 4) // _POOLED_BANDS
        self.spectral = nn.Sequential(*stages)
        self.enter = nn.Linear(channels * bands, sizes.width, bias=False)
        self.enter_norm = nn.BatchNorm1d(sizes.width)
        self.blocks = nn.Sequential(
            *(_Block(sizes.width, sizes.block_width, sizes.kernel, each, sizes.dropout) for each in sizes.dilations)
        )
        self.leave_norm = nn.BatchNorm1d(sizes.width)
        self.gru = nn.GRU(sizes.width, sizes.gru_width, batch_first=True, bidirectional=True)
        self.follow = nn.Linear(2 * sizes.gru_width, sizes.width)
        self.strokes = nn.Linear(sizes.width, len(sizes.labels))
        self.levels = nn.Linear(sizes.width, len(sizes.labels))

    def forward(self, bands: Tensor) -> DrumOutput:
        """Return the strokes in the output of `log_bands`, (batch, frames, bands)."""
        rising = functional.pad((bands[:, 1:] - bands[:, :-1]).clamp(min=0.0), (0, 0, 1, 0))
        # channels last in memory: the convolutions run up to five times as fast, and nothing is copied below
        x = torch.stack([bands, rising], dim=3).permute(0, 3, 1, 2)  # (batch, 2, frames, bands)
        x = self.spectral(x)  # (batch, channels, frames, bands left)
        x = self.enter(x.permute(0, 2, 3, 1).flatten(2)).transpose(1, 2)  # (batch, width, frames)
        x = functional.relu(self.enter_norm(x))
        x = functional.relu(self.leave_norm(self.blocks(x))).transpose(1, 2)  # (batch, frames, width)
        x = x + self.follow(self._followed(x))  # what the course of the music adds
        return DrumOutput(self.strokes(x), _LEVEL_CENTER_DB + _LEVEL_SPREAD_DB * self.levels(x))

    def _followed(self, x: Tensor) -> Tensor:
        """Run the GRU: (batch, frames, width) to (batch, frames, 2 * gru_width).

        A GRU's memory never quite fades, and it is trained on crops of seconds: over minutes it drifts, and the output
        of a recording in pieces would differ from that of the whole. So it reads stretches.
        """
        if self.training:
            return self.gru(x)[0]
        frames = x.shape[1]
        cuts = [0, *range(FOLLOWED_FROM, frames, FOLLOWED_FRAMES), frames]
        windows = [(max(0, a - _AROUND_FRAMES), a, b, min(frames, b + _AROUND_FRAMES)) for a, b in pairwise(cuts)]
        followed = x.new_empty(*x.shape[:2], 2 * self.gru.hidden_size)
        for _, alike in groupby(windows, key=lambda window: (window[1] - window[0], window[3] - window[0])):
            each = list(alike)  # one batch: all but those at the ends
            states = self.gru(torch.cat([x[:, start:end] for start, _, _, end in each]))[0]
            for (start, a, b, _), part in zip(each, states.chunk(len(each)), strict=True):
                followed[:, a:b] = part[:, a - start : b - start]
        return followed


class _SpectralStage(nn.Sequential):
    """Two convolutions, then the maximum of each three bands: (batch, channels, frames, bands)."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__(
            nn.Conv2d(channels, wider, 3, padding=(1, 0), bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(inplace=True),
            nn.Conv2d(wider, wider, 3, padding=(1, 0), bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(inplace=True),
            nn.MaxPool2d((1, _POOLED_BANDS)),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class _Block(nn.Module):
    """A residual step that looks `kernel // 2 * dilation` frames to either side. (batch, width, frames)."""

    def __init__(self, width: int, block_width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(width, block_width, 1, bias=False)
        self.narrow_norm = nn.BatchNorm1d(block_width)
        around = kernel // 2 * dilation
        self.look = nn.Conv1d(block_width, block_width, kernel, padding=around, dilation=dilation, bias=False)
        self.look_norm = nn.BatchNorm1d(block_width)
        self.dropout = nn.Dropout1d(dropout)
        self.widen = nn.Conv1d(block_width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.narrow_norm(self.narrow(x)))
        y = functional.relu(self.look_norm(self.look(y)))
        return x + self.widen(self.dropout(y))
