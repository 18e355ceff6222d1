"""`token_times`: times of tokens from the decoder's cross-attention, for the backends that run in torch.

It follows openai-whisper (whisper/timing.py, find_alignment), with three differences: the audio is not encoded again,
only the alignment heads' weights are computed, and the path through them (`first_frames`, there dtw_cpu) uses numpy:
numba would compile for seconds in every new process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serve_app.models.speech.whisper.spoken_words import TIME_PRECISION_S, TokenTimes


def first_frames(cost: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return (tokens,): the frame at which each token begins on the cheapest path through (tokens, frames).

    The path leads from the first corner to the last by steps to the next token, the next frame, or both.
    """
    num_tokens, num_frames = cost.shape
    total = np.full((num_tokens + 1, num_frames + 1), np.inf)
    total[0, 0] = 0.0
    for row in range(num_tokens):
        # total[j] = cost[j] + min(entry[j], total[j - 1]), where entry is the cheaper step from the row above
        entry = np.minimum(total[row, :-1], total[row, 1:])
        sums = np.cumsum(cost[row], dtype=np.float64)
        total[row + 1, 1:] = sums + np.minimum.accumulate(entry - np.concatenate(([0.0], sums[:-1])))
    starts = np.zeros(num_tokens, dtype=np.intp)
    token, frame = num_tokens, num_frames
    while token > 1:
        starts[token - 1] = frame - 1
        diagonal, above, left = total[token - 1, frame - 1], total[token - 1, frame], total[token, frame - 1]
        if frame > 1 and diagonal < above and diagonal < left:
            token, frame = token - 1, frame - 1
        elif frame == 1 or (above < diagonal and above < left):
            token -= 1
        else:
            frame -= 1
    return starts


_MEDIAN_WIDTH = 7  # frames, openai-whisper's
_EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class AlignmentHead:
    """Inputs of one attention head, before scaling."""

    queries: Tensor  # (pieces, tokens, channels)
    keys: Tensor  # (pieces, 1500, channels)


@contextmanager
def outputs_of(modules: Mapping[int, nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Collect the last output of each module while the block runs, by its key."""
    found: dict[int, Tensor] = {}

    def keep(_module: nn.Module, _inputs: object, output: Tensor, *, key: int) -> None:
        found[key] = output

    hooks = [module.register_forward_hook(partial(keep, key=key)) for key, module in modules.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def head_of(projected: Tensor, head: int, num_heads: int) -> Tensor:
    """Return one head's part of a projection: (pieces, length, width) to (pieces, length, width / heads)."""
    channels = projected.shape[-1] // num_heads
    return projected[..., head * channels : (head + 1) * channels]


def token_times(
    heads: Sequence[AlignmentHead],
    piece: int,
    *,
    num_start_tokens: int,
    probabilities: Sequence[float],
    num_frames: int,
) -> TokenTimes:
    """Return the times of the text tokens of one piece, a row in the batch.

    Args:
        heads: queries of [start…, no_timestamps, text…, end_of_text, padding…].
        num_start_tokens: number of tokens before no_timestamps.
        probabilities: of the text tokens.
        num_frames: mel frames of 10 ms in the piece, without padding.
    """
    num_rows = num_start_tokens + len(probabilities) + 2
    frames = max(1, num_frames // 2)
    queries = torch.stack([head.queries[piece, :num_rows] for head in heads]).float()
    keys = torch.stack([head.keys[piece, :frames] for head in heads]).float()
    weights = (queries @ keys.transpose(1, 2) * queries.shape[-1] ** -0.5).softmax(dim=-1)  # (heads, rows, frames)
    deviation, mean = torch.std_mean(weights, dim=1, keepdim=True, unbiased=False)
    weights = _median((weights - mean) / deviation.clamp_min(_EPSILON))
    # row i predicts the token after it
    matrix = weights.mean(dim=0)[num_start_tokens:-1]  # (text + 1, frames)
    starts = first_frames(-matrix.cpu().numpy())
    return TokenTimes((starts * TIME_PRECISION_S).tolist(), probabilities)


def text_probabilities(logits: Tensor, text: Sequence[int], end_of_text: int) -> list[float]:
    """Return each text token's probability among text tokens; row i of the logits (tokens, ids) predicts token i."""
    among_text = logits[: len(text), :end_of_text].float().log_softmax(dim=-1)
    chosen = torch.tensor(text, device=logits.device).unsqueeze(1)
    return among_text.gather(1, chosen).squeeze(1).exp().tolist()


def _median(weights: Tensor) -> Tensor:
    """Smooth along the frames, mirrored at both ends."""
    half = _MEDIAN_WIDTH // 2
    if weights.shape[-1] <= half:
        return weights
    padded = nn.functional.pad(weights, (half, half), mode="reflect")
    return padded.unfold(-1, _MEDIAN_WIDTH, 1).median(dim=-1).values
