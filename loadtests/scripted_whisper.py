"""A Whisper of a published shape that says the same sentence whatever it hears: what speed is measured on.

    python -m loadtests.scripted_whisper --shape tiny --out DIR

Random weights cost what trained ones cost, but never end a transcript, and are so unsure that every library decodes
each window again and again. Here each token of one sentence is made the certain successor of the one before it, by a
memory in the last decoder layer (its feed-forward network maps the direction of one embedding to that of the next), so
that each window yields a timestamp, the sentence, a timestamp and the end of text. What comes next depends on the last
token alone, not on its position: a prompt of earlier text changes nothing. All other weights are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from transformers import WhisperForConditionalGeneration
from whisper.tokenizer import get_tokenizer

from training.whisper_micro.checkpoint import SHAPES, Shape, model_config, write_checkpoint

# 38 tokens, no two alike and none that Whisper's libraries suppress: some 14 s of ordinary speech.
SENTENCE = (
    "please bring seven fresh apples from our kitchen before dinner because my sister wants to bake another cake "
    "while father is still cleaning the garden table with warm water and some old paper towels near that small window"
)

_END_FRAME = 400  # of 0.02 s: the clips of the speed test last 8 s
_NORM = 60.0  # of a scripted token's embedding; the random layers add some 10 to it
_THRESHOLD = 0.5  # of a scripted direction's share of the state, above which the memory answers


def write_scripted_checkpoint(folder: Path, shape: Shape, sentence: str = SENTENCE, seed: int = 0) -> None:
    """Write a complete Hugging Face folder, float16.

    Raises:
        ValueError: if the sentence holds a token twice.
    """
    transitions = _transitions(sentence, shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(model_config(shape))
        tokens = list(dict.fromkeys(token for pair in transitions for token in pair))
        directions = dict(zip(tokens, _directions(len(tokens), shape.d_model), strict=True))
    with torch.no_grad():
        _teach(model, transitions, directions)
    last = shape.decoder_layers - 1
    write_checkpoint(folder, model.half(), [(last, head) for head in range(shape.heads)])


def _transitions(sentence: str, shape: Shape) -> list[tuple[int, int]]:
    """Return (token, successor) for everything that a decoder of English is shown."""
    tokenizer = get_tokenizer(True, num_languages=shape.vocab_size - 51_766)
    text = tokenizer.encode(f" {sentence}")
    if len(set(text)) != len(text):
        raise ValueError("every token of the sentence must differ from the others: each has one successor")
    return [
        (tokenizer.sot, tokenizer.to_language_token("en")),
        (tokenizer.transcribe, tokenizer.timestamp_begin),  # where timestamps are asked for
        (tokenizer.timestamp_begin, text[0]),
        (tokenizer.no_timestamps, text[0]),
        *pairwise(text),
        # ends with a timestamp: without one, faster-whisper goes on at the last word, wherever that may be
        (text[-1], tokenizer.timestamp_begin + _END_FRAME),
        (tokenizer.timestamp_begin + _END_FRAME, tokenizer.eot),
    ]


def _directions(num: int, width: int) -> Tensor:
    """Return (num, width) orthogonal unit vectors without a mean, which layer norms would take away."""
    drawn = torch.randn(width, num)
    orthogonal, _ = torch.linalg.qr(drawn - drawn.mean(0))
    return orthogonal.T


def _teach(
    model: WhisperForConditionalGeneration, transitions: Sequence[tuple[int, int]], directions: dict[int, Tensor]
) -> None:
    decoder = model.model.decoder
    memory = decoder.layers[-1]
    for token, direction in directions.items():
        decoder.embed_tokens.weight[token] = _NORM * direction
    length = model.config.d_model**0.5  # of a layer norm's output
    for unit, (token, successor) in enumerate(transitions):
        memory.fc1.weight[unit] = directions[token]
        memory.fc1.bias[unit] = -_THRESHOLD * length
        # a state that is all `token` gives (1 - threshold) * length: exchange it for its successor
        change = (directions[successor] - directions[token]) * _NORM / ((1 - _THRESHOLD) * length)
        memory.fc2.weight[:, unit] = change


def main() -> None:
    """Write such a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.scripted_whisper", description=main.__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    write_scripted_checkpoint(arguments.out, SHAPES[arguments.shape])


if __name__ == "__main__":
    main()
