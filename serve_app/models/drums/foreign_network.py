"""`fit_network`: the network of another maker's state_dict, rebuilt from the names and shapes of its tensors.

It may hold, in this order, some of each: convolutions over time and mel bands (2-D) or over time (1-D), fully connected
layers, recurrent layers (GRU, LSTM or plain; one-way or both), and a head, fully connected or a convolution of width 1.
Any of the convolutions may have batch norm. Layers may have any names. What shapes can't say is taken as most networks
have it, or comes from the settings (`foreign.Settings`): stride and dilation 1, zeros around the input, batch norm
before the activation, and pooling after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from serve_app.models.drums.foreign_layers import RECURRENT, RECURRENT_NAME, Layer, Unfit, layers_of
from serve_app.models.drums.network import DrumOutput
from serve_app.sentences import Sentence

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "none": lambda x: x,
}
TIME_FIRST, BANDS_FIRST = "time,bands", "bands,time"
FLATTEN, MEAN, MAX = "flatten", "mean", "max"


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a state_dict does not say about a network.

    Attributes:
        num_bands: of the input.
        layout: `TIME_FIRST` or `BANDS_FIRST`: the axes that 2-D convolutions see.
        pool: bands that each 2-D convolution's maximum joins; None: by the shapes, where they say it.
        reduce: what becomes of the bands after the 2-D convolutions.
        activation: after each layer but recurrent ones and the head.
    """

    num_bands: int
    layout: str = TIME_FIRST
    pool: tuple[int, ...] | None = None
    reduce: str = FLATTEN
    activation: str = "relu"


def fit_network(tensors: Mapping[str, Tensor], wiring: Wiring) -> tuple[ForeignNetwork, list[str]]:
    """Return the network in evaluation mode, and how its layers were understood, a line each.

    Raises:
        Unfit: a layer is of another kind, or their sizes make no chain from the bands to the outputs.
    """
    layers = layers_of(tensors)
    first_norm = layers.pop(0) if layers[0].kind == "norm" else None
    if not layers:
        raise Unfit(Sentence("it holds no layer but a batch norm"))
    if first_norm is not None and first_norm.sizes[0] not in (1, wiring.num_bands):
        raise Unfit(
            Sentence(
                "its batch norm {layer} stands in front of all layers, and has neither 1 channel nor {bands}",
                layer=first_norm,
                bands=wiring.num_bands,
            )
        )
    spectral = [each for each in layers if each.kind == "conv2d"]
    width = _pooled(spectral, [each for each in layers if each.kind != "conv2d"], wiring)
    previous = Sentence("the log-mel bands") if not spectral else str(spectral[-1])
    for layer in layers:
        if layer.kind == "conv2d":
            continue
        if layer.sizes[0] != width:
            raise Unfit(
                Sentence(
                    "its layer {layer} takes {wanted} values for each frame, but {previous} gives {width}",
                    layer=layer,
                    wanted=layer.sizes[0],
                    previous=previous,
                    width=width,
                )
            )
        width, previous = layer.sizes[1], str(layer)
    network = ForeignNetwork(layers, first_norm, wiring)
    network.eval()
    told = [f"{each.kind} {each}{' with batch norm' if each.norm else ''}" for each in layers]
    told = [
        f"{line}, pooled by {each.pool}" if each.pool > 1 else line for line, each in zip(told, layers, strict=True)
    ]
    return network, told


def _pooled(spectral: Sequence[Layer], others: Sequence[Layer], wiring: Wiring) -> int:
    """Say how each 2-D convolution is pooled; return the values for each frame that leave the last one."""
    if not spectral:
        return wiring.num_bands
    channels = 1
    for layer in spectral:
        if layer.sizes[0] != channels:
            raise Unfit(
                Sentence(
                    "its layer {layer} takes {wanted} channels, but the one before it gives {width}",
                    layer=layer,
                    wanted=layer.sizes[0],
                    width=channels,
                )
            )
        channels = layer.sizes[1]
    if not others:
        raise Unfit(Sentence("no fully connected or recurrent layer follows its convolutions"))
    wanted = others[0].sizes[0]
    pools = [wiring.pool] if wiring.pool is not None else [(each,) * len(spectral) for each in (1, 2, 3, 4)]
    fitting = []
    for pool in pools:
        bands = wiring.num_bands
        for factor in pool:
            bands //= factor
        width = channels * (bands if wiring.reduce == FLATTEN else 1)
        if len(pool) == len(spectral) and bands and width == wanted:
            fitting.append(pool)
    if len(fitting) != 1:
        raise Unfit(
            Sentence(
                "its layer {layer} takes {wanted} values for each frame, its {num} convolutions end with {channels} "
                "channels of {bands} bands before pooling: state the bands that are pooled after each convolution as "
                "`pool`, such as {example}, and `reduce` (flatten, mean, max)",
                layer=others[0],
                wanted=wanted,
                num=len(spectral),
                channels=channels,
                bands=wiring.num_bands,
                example=[2] * len(spectral),
            )
        )
    for layer, factor in zip(spectral, fitting[0], strict=True):
        layer.pool = factor
    return wanted


class ForeignNetwork(nn.Module):
    """Finds strokes in log-mel bands, as a plain network of another maker does; it has no levels of its own."""

    def __init__(self, layers: Sequence[Layer], first_norm: Layer | None, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring
        self.kinds = [each.kind for each in layers]
        self.pools = [each.pool for each in layers]
        self.modules_in_order = nn.ModuleList(_module(each) for each in layers)
        self.norms = nn.ModuleList(_norm(each.norm, each.kind) for each in layers)
        self.first_norm = nn.Identity() if first_norm is None else _norm(first_norm.tensors, "conv1d")
        # from a normalised band's value to decibels, set by the front end
        self.db_scale: Tensor
        self.db_offset: Tensor
        self.register_buffer("db_scale", torch.ones(wiring.num_bands))
        self.register_buffer("db_offset", torch.zeros(wiring.num_bands))

    def forward(self, bands: Tensor) -> DrumOutput:
        """Return the strokes in log-mel bands, (batch, frames, bands); the level is that of the loudest band."""
        activation = ACTIVATIONS[self.wiring.activation]
        levels_db = (bands * self.db_scale + self.db_offset).amax(dim=2, keepdim=True)
        x = self._normed_first(bands)
        if "conv2d" in self.kinds:
            x = x.unsqueeze(1)  # (batch, 1, frames, bands)
        for place, (kind, layer, norm) in enumerate(zip(self.kinds, self.modules_in_order, self.norms, strict=True)):
            if kind == "conv2d":
                turned = self.wiring.layout == BANDS_FIRST
                x = layer(x.transpose(2, 3)).transpose(2, 3) if turned else layer(x)
                x = functional.max_pool2d(activation(norm(x)), (1, self.pools[place]))
                continue
            if x.ndim == 4:
                x = self._reduced(x)
            if kind == "recurrent":
                x = layer(x)[0]
            elif kind == "conv1d":
                x = activation(norm(layer(x.transpose(1, 2)))).transpose(1, 2)
            else:
                x = layer(x) if place == len(self.kinds) - 1 else activation(layer(x))
        return DrumOutput(x, levels_db.expand_as(x))

    def _normed_first(self, bands: Tensor) -> Tensor:
        if isinstance(self.first_norm, nn.BatchNorm1d) and self.first_norm.num_features == 1:
            return self.first_norm(bands.unsqueeze(1).flatten(2)).unflatten(2, bands.shape[1:]).squeeze(1)
        return self.first_norm(bands.transpose(1, 2)).transpose(1, 2)

    def _reduced(self, x: Tensor) -> Tensor:
        """(batch, channels, frames, bands) to (batch, frames, values)."""
        if self.wiring.reduce == FLATTEN:
            return x.transpose(1, 2).flatten(2)
        return (x.mean(dim=3) if self.wiring.reduce == MEAN else x.amax(dim=3)).transpose(1, 2)


def _module(layer: Layer) -> nn.Module:
    weight, has_bias = layer.tensors.get("weight"), "bias" in layer.tensors
    module: nn.Module
    if layer.kind == "recurrent":
        module = _recurrent(layer)
    elif weight is None:
        raise Unfit(Sentence("its layer {name} has no weights", name=layer.name))
    elif layer.kind == "linear":
        module = nn.Linear(*layer.sizes, bias=has_bias)
        layer.tensors["weight"] = weight.flatten(1)
    else:
        kind = nn.Conv2d if layer.kind == "conv2d" else nn.Conv1d
        around = tuple(size // 2 for size in weight.shape[2:])
        module = kind(*layer.sizes, tuple(weight.shape[2:]), padding=around, bias=has_bias)  # type: ignore[arg-type]
    try:
        module.load_state_dict(layer.tensors)
    except RuntimeError as error:
        raise Unfit(
            Sentence("its layer {layer} is incomplete: {reason}", layer=layer, reason=_one_line(error))
        ) from error
    return module


def _recurrent(layer: Layer) -> nn.Module:
    rows, units = layer.tensors["weight_hh_l0"].shape
    found = [match for leaf in layer.tensors if (match := RECURRENT_NAME.fullmatch(leaf))]
    return RECURRENT[rows // units](
        layer.sizes[0],
        units,
        num_layers=1 + max(int(match[1]) for match in found),
        bias="bias_ih_l0" in layer.tensors,
        batch_first=True,
        bidirectional=any(match[2] for match in found),
    )


def _norm(tensors: Mapping[str, Tensor] | None, kind: str) -> nn.Module:
    if tensors is None:
        return nn.Identity()
    module = (nn.BatchNorm2d if kind == "conv2d" else nn.BatchNorm1d)(len(tensors["weight"]))
    module.load_state_dict(dict(tensors), strict=False)
    return module


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
