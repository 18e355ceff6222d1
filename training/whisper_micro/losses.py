"""What the network is trained to do: write the words, know every sound, look where the word is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from training.whisper_micro.batches import Batch
from training.whisper_micro.examples import IGNORED
from training.whisper_micro.network import Outputs
from training.whisper_micro.rows import NUM_TIMESTAMPS

_STAMP_WEIGHT = 0.5
_STAMP_DEVIATION, _NEAR = 1.5, 4  # frames of 20 ms


@dataclass(frozen=True, slots=True)
class Losses:
    """Means over what they are defined on, in nats; and the shares of tokens and sounds that were right."""

    tokens: Tensor
    phones: Tensor
    attention: Tensor
    attention_before: Tensor
    token_accuracy: Tensor
    phone_accuracy: Tensor

    def total(self, phone_weight: float, attention_weight: float) -> Tensor:
        """Return the weighted sum."""
        return self.tokens + phone_weight * self.phones + attention_weight * (self.attention + self.attention_before)


def losses(outputs: Outputs, batch: Batch) -> Losses:
    """Compare a batch's outputs with its truth."""
    logits, targets = outputs.tokens.float(), batch.targets
    tokens = token_loss(logits, targets)
    learnt = targets != IGNORED
    right = (logits.argmax(-1) == targets) & learnt
    phone_losses = []
    phones_right = num_phones = torch.zeros((), device=logits.device)
    for each, labels in zip(outputs.phones, batch.phones, strict=True):
        phone_losses.append(
            F.cross_entropy(each.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        )
        sounding = labels > 0  # silence is easy, and not counted as right
        phones_right = phones_right + ((each.argmax(-1) == labels) & sounding).sum()
        num_phones = num_phones + sounding.sum()
    labelled = torch.stack([(labels != IGNORED).sum() for labels in batch.phones]).sum()
    return Losses(
        tokens,
        torch.stack(phone_losses).sum() / labelled.clamp(min=1),
        guided_attention(outputs.attention, batch.looks),
        guided_attention(outputs.attention_before, looks_before(batch.looks)),
        right.sum() / learnt.sum(),
        phones_right / num_phones.clamp(min=1),
    )


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy, in which a timestamp's neighbours are nearly as good as itself, and half as important.

    Nobody can tell an utterance's end to 20 ms: with a single right answer, timestamps were two thirds of the loss in
    windows of 30 s.

    Args:
        logits: (batch, tokens, rows); timestamps lie before the last row.
        targets: rows, or IGNORED; (batch, tokens).
    """
    first, last = logits.shape[-1] - 1 - NUM_TIMESTAMPS, logits.shape[-1] - 2
    log_shares = logits.log_softmax(-1)
    stamped = (targets >= first) & (targets <= last)
    written = (targets != IGNORED) & ~stamped
    steps = torch.arange(-_NEAR, _NEAR + 1, device=logits.device)
    near = (targets[stamped][:, None] + steps).clamp(first, last)
    weights = (-0.5 * (steps / _STAMP_DEVIATION) ** 2).softmax(0)
    of_stamps = -(log_shares[stamped].gather(1, near) * weights).sum()
    of_words = -log_shares[written].gather(1, targets[written][:, None]).sum()
    return (of_words + _STAMP_WEIGHT * of_stamps) / (written.sum() + _STAMP_WEIGHT * stamped.sum()).clamp(
        min=_STAMP_WEIGHT
    )


def looks_before(looks: Tensor) -> Tensor:
    """Return where each token's predecessor is heard: the first layer finds it, the last one goes on from there."""
    return torch.cat([torch.full_like(looks[:, :1], -1), looks[:, :-1]], dim=1)


def guided_attention(attention: Tensor, looks: Tensor) -> Tensor:
    """Return the mean negative logarithm of the attention that lies within the interval each token is heard in.

    Args:
        attention: log-probabilities over frames, (batch, heads, tokens, frames).
        looks: first frame and the one after the last, (batch, tokens, 2); negative where a token has none. Frames
            before the first and after the last are allowed for.
    """
    frames = torch.arange(attention.shape[-1], device=attention.device)
    inside = (frames >= looks[..., :1]) & (frames < looks[..., 1:])  # (batch, tokens, frames)
    known = inside.any(-1)
    if not known.any():
        return attention.sum() * 0.0
    within = attention.masked_fill(~inside[:, None], float("-inf")).logsumexp(-1)  # (batch, heads, tokens)
    return -within.masked_select(known[:, None].expand_as(within)).mean()
