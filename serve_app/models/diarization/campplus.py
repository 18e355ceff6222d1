"""`CamPlusPlus`: the speaker embedding CAM++ of 3D-Speaker, as plain torch, and its checkpoint.

A small two-dimensional network reads filter banks, a densely connected time-delay network with context-aware masks
follows, and statistics over time are projected to a vector (Wang et al., "CAM++: A Fast and Efficient Network for
Speaker Verification Using Context-Aware Masking", Interspeech 2023). The modules have the names of the checkpoint
`campplus_cn_en_common.pt` of 3D-Speaker (ModelScope, Apache-2.0), so that its state loads unchanged.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
import torchaudio.compliance.kaldi
from torch import Tensor, nn
from torch.nn import functional

from serve_app.errors import ModelLoadingError
from serve_app.models.pickled import Refused, read_checkpoint
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.sentences import Sentence, reason_of

NUM_MELS = 80
FRAME_SHIFT_SAMPLES = 160
FRAME_SAMPLES = 400
# Frames (after the stride of two) in one local context of a mask.
_CONTEXT_FRAMES = 100
# The stride leaves two frames of four; one frame has no standard deviation.
_MIN_FRAMES = 4


@dataclass(frozen=True, slots=True)
class CamShape:
    """Sizes of the network."""

    head_channels: int = 32
    initial_channels: int = 128
    growth: int = 32  # channels that each dense layer adds
    layers: tuple[int, ...] = (12, 24, 16)  # of each block
    dilations: tuple[int, ...] = (1, 2, 2)  # of each block
    dimension: int = 192


class CamPlusPlus(nn.Module):
    """Embeds crops of one speaker's frames."""

    def __init__(self, shape: CamShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or CamShape()
        self.head = _Head(shape.head_channels)
        channels = shape.initial_channels
        width = 4 * shape.growth
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        # over time; it halves the frame rate
        first = nn.Conv1d(self.head.out_channels, channels, 5, stride=2, padding=2, bias=False)
        layers["tdnn"] = _chain(linear=first, nonlinear=_norm_relu(channels))
        for number, (num_layers, dilation) in enumerate(zip(shape.layers, shape.dilations, strict=True), start=1):
            layers[f"block{number}"] = _DenseBlock(num_layers, channels, width, shape.growth, dilation)
            channels += num_layers * shape.growth
            halve = nn.Conv1d(channels, channels // 2, 1, bias=False)
            layers[f"transit{number}"] = _chain(nonlinear=_norm_relu(channels), linear=halve)
            channels //= 2
        layers["out_nonlinear"] = _norm_relu(channels)
        layers["stats"] = _Statistics()
        layers["dense"] = _chain(
            linear=nn.Conv1d(2 * channels, shape.dimension, 1, bias=False),
            nonlinear=_chain(batchnorm=nn.BatchNorm1d(shape.dimension, affine=False)),
            flatten=nn.Flatten(),
        )
        self.xvector = nn.Sequential(layers)

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings, (batch, dimension), not normalised.

        Args:
            features: (batch, frames, NUM_MELS) from `filter_banks`, each row's mean over time removed.

        Raises:
            ValueError: fewer than four frames.
        """
        if features.shape[1] < _MIN_FRAMES:
            raise ValueError(f"an embedding needs at least {_MIN_FRAMES} frames, got {features.shape[1]}")
        return self.xvector(self.head(features.transpose(1, 2)))


def load_campplus(path: Path, shape: CamShape | None = None) -> CamPlusPlus:
    """Return the network stored at `path`, in evaluation mode on the CPU.

    The file is a pickle; `pickled.read_checkpoint` reads it, so no code in it can run.

    Raises:
        ModelLoadingError: the file is missing or broken, holds something else, or is of other sizes than `shape`.
    """
    try:
        state = read_checkpoint(path)
        if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise ValueError("it holds no table of tensors")
        if not all(torch.isfinite(tensor).all() for tensor in state.values()):
            raise ValueError("some of its values are not finite numbers")
        network = CamPlusPlus(shape)
        network.load_state_dict(state)
    except (Refused, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelLoadingError(
            Sentence(
                "The CAM++ checkpoint at {path} can't be loaded ({kind}: {reason}). Fetch the file again.",
                path=path,
                kind=type(error).__name__,
                reason=reason_of(error),
            )
        ) from error
    return network.eval()


def filter_banks(samples: Tensor) -> Tensor:
    """Return Kaldi's log-mel filter banks, (frames, NUM_MELS), 100 a second; the mean is not removed.

    Frame k covers samples 160 k to 160 k + 400. `samples`: (n,), 16 kHz, in [-1, 1], at least 400.
    """
    return torchaudio.compliance.kaldi.fbank(
        samples[None], num_mel_bins=NUM_MELS, sample_frequency=SAMPLE_RATE_HZ, dither=0.0
    )


class _Head(nn.Module):
    """Two-dimensional residual network over (mels, frames); an eighth of the mel bands is left, all frames stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.layer2 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.out_channels = channels * (NUM_MELS // 8)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x[:, None])))
        x = functional.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class _Residual(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


class _DenseBlock(nn.ModuleDict):
    """Layers that each read the outputs of all before them."""

    def __init__(self, num_layers: int, channels: int, width: int, growth: int, dilation: int) -> None:
        super().__init__(
            {
                f"tdnnd{number + 1}": _chain(
                    nonlinear1=_norm_relu(channels + number * growth),
                    linear1=nn.Conv1d(channels + number * growth, width, 1, bias=False),
                    nonlinear2=_norm_relu(width),
                    cam_layer=_ContextMask(width, growth, dilation),
                )
                for number in range(num_layers)
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class _ContextMask(nn.Module):
    """A local convolution whose channels are weighted by the mean of the whole and of every two seconds."""

    def __init__(self, channels: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(channels, growth, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(channels, channels // 2, 1)
        self.linear2 = nn.Conv1d(channels // 2, growth, 1)

    def forward(self, x: Tensor) -> Tensor:
        num_frames = x.shape[2]
        parts = functional.avg_pool1d(x, _CONTEXT_FRAMES, ceil_mode=True)  # (batch, channels, parts)
        context = x.mean(dim=2, keepdim=True) + parts
        # Per part, not per frame: within a part the mask does not change.
        mask = torch.sigmoid(self.linear2(functional.relu(self.linear1(context))))
        return self.linear_local(x) * mask.repeat_interleave(_CONTEXT_FRAMES, dim=2)[..., :num_frames]


class _Statistics(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1)[:, :, None]


def _chain(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _norm_relu(channels: int) -> nn.Sequential:
    return _chain(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU(inplace=True))
