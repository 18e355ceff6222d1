"""Whisper's architecture for training: windows of any length, and cross-attention that a loss can guide.

Parameters bear the names of transformers' `WhisperForConditionalGeneration`, so that export is a plain copy. That class
itself refuses windows other than 30 s, which cost seventeen times as much as those of 3 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.whisper_micro.checkpoint import MAX_SOURCE_POSITIONS, MAX_TARGET_POSITIONS
from training.whisper_micro.rows import NUM_TIMESTAMPS

NUM_MELS = 80


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the network; `guided_heads` of the decoder's first and last layer are told where to look."""

    d_model: int = 128
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 2
    guided_heads: int = 2


def sinusoids(length: int, channels: int) -> Tensor:
    """Return Whisper's positions, (length, channels)."""
    increment = math.log(10_000) / (channels // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-increment * torch.arange(channels // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head attention as Whisper has it: no bias on the keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, source: Tensor, causal: bool = False) -> Tensor:
        """Return (batch, queries, width)."""
        q, k, v = self._split(self.q_proj(queries)), self._split(self.k_proj(source)), self._split(self.v_proj(source))
        return self._joined(F.scaled_dot_product_attention(q, k, v, is_causal=causal))

    def forward_with_logits(self, queries: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same, and the attention before its softmax: (batch, heads, queries, source) float32."""
        q, k, v = self._split(self.q_proj(queries)), self._split(self.k_proj(source)), self._split(self.v_proj(source))
        logits = (q @ k.transpose(2, 3)).float() * q.shape[-1] ** -0.5
        return self._joined(logits.softmax(-1).to(v.dtype) @ v), logits

    def _split(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def _joined(self, states: Tensor) -> Tensor:
        return self.out_proj(states.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A transformer layer; with cross-attention in the decoder."""

    def __init__(self, width: int, heads: int, decoder: bool) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        if decoder:
            self.encoder_attn = Attention(width, heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, audio: Tensor | None = None, guided: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the states, and the cross-attention's logits where it is guided."""
        normed = self.self_attn_layer_norm(x)
        x = x + self.self_attn(normed, normed, causal=audio is not None)
        logits = None
        if audio is not None:
            normed = self.encoder_attn_layer_norm(x)
            if guided:
                update, logits = self.encoder_attn.forward_with_logits(normed, audio)
            else:
                update = self.encoder_attn(normed, audio)
            x = x + update
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x)))), logits


class Encoder(nn.Module):
    """Mel spectrogram to states, one per 20 ms."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(NUM_MELS, sizes.d_model, 3, padding=1)
        self.conv2 = nn.Conv1d(sizes.d_model, sizes.d_model, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(MAX_SOURCE_POSITIONS, sizes.d_model)
        self.embed_positions.weight = nn.Parameter(sinusoids(MAX_SOURCE_POSITIONS, sizes.d_model), requires_grad=False)
        self.layers = nn.ModuleList(Layer(sizes.d_model, sizes.heads, False) for _ in range(sizes.encoder_layers))
        self.layer_norm = nn.LayerNorm(sizes.d_model)

    def forward(self, mels: Tensor, offsets: Tensor) -> Tensor:
        """Return (batch, frames / 2, width) for (batch, mels, frames); offsets are each window's first position."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mels)))).transpose(1, 2)
        positions = offsets[:, None] + torch.arange(x.shape[1], device=x.device)
        x = x + self.embed_positions(positions.clamp(max=MAX_SOURCE_POSITIONS - 1))  # pads may reach beyond
        for layer in self.layers:
            x, _ = layer(x)
        return self.layer_norm(x)


class Decoder(nn.Module):
    """Tokens and states to states; its embedding has one row for each id in use, and one for all others."""

    def __init__(self, sizes: Sizes, num_rows: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(num_rows, sizes.d_model)
        self.embed_positions = nn.Embedding(MAX_TARGET_POSITIONS, sizes.d_model)
        self.layers = nn.ModuleList(Layer(sizes.d_model, sizes.heads, True) for _ in range(sizes.decoder_layers))
        self.layer_norm = nn.LayerNorm(sizes.d_model)

    def forward(self, tokens: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (batch, tokens, width), and the cross-attention logits of the first and the last layer."""
        x = self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        guided = []
        for index, layer in enumerate(self.layers):
            x, logits = layer(x, audio, guided=index in (0, len(self.layers) - 1))
            if logits is not None:
                guided.append(logits)
        return self.layer_norm(x), guided[0], guided[-1]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Of one batch.

    Attributes:
        tokens: logits over the rows in use, (batch, tokens, rows).
        attention: log-probabilities over frames of the guided heads in the last layer, which look for the word that is
            to be written, (batch, heads, tokens, frames).
        attention_before: of those in the first layer, which look for the word that was written last.
        phones: logits for each phone set, (batch, frames, phones of the set).
    """

    tokens: Tensor
    attention: Tensor
    attention_before: Tensor
    phones: tuple[Tensor, ...]


class MicroWhisper(nn.Module):
    """The network with its auxiliary heads.

    Args:
        sizes: of it.
        num_rows: ids in use, and one; the last row stands for every unused id.
        num_unused: how many ids that row stands for. Its logit is raised by the logarithm, which makes the softmax that
            of the whole vocabulary with all unused rows tied.
        num_phones: for each phone set.
    """

    def __init__(self, sizes: Sizes, num_rows: int, num_unused: int, num_phones: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = Encoder(sizes)
        self.decoder = Decoder(sizes, num_rows)
        self.phones = nn.ModuleList(nn.Linear(sizes.d_model, num) for num in num_phones)
        shares = torch.zeros(num_rows)
        shares[-1] = math.log(num_unused)
        self.register_buffer("shares", shares, persistent=False)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.7 * module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        rows = self.decoder.embed_tokens.weight
        nn.init.normal_(rows, std=0.05)
        nn.init.normal_(self.decoder.embed_positions.weight, std=0.02)
        with torch.no_grad():  # timestamps lie before the last row; smooth, so that each need not be seen to be learnt
            rows[-1 - NUM_TIMESTAMPS : -1] = 0.07 * sinusoids(NUM_TIMESTAMPS, self.sizes.d_model)

    def forward(self, mels: Tensor, tokens: Tensor, offsets: Tensor) -> Outputs:
        """Run mels (batch, mels, frames), rows (batch, tokens) and first positions of the audio (batch,)."""
        audio = self.encoder(mels, offsets)
        states, first, last = self.decoder(tokens, audio)
        heads = self.sizes.guided_heads
        return Outputs(
            states @ self.decoder.embed_tokens.weight.T + self.shares,
            last[:, :heads].log_softmax(-1),
            first[:, :heads].log_softmax(-1),
            tuple(head(audio) for head in self.phones),
        )
