"""When Whisper's first answer is not to be believed: the same rule and figures in every backend.

After Radford et al. 2022 ("Robust Speech Recognition via Large-Scale Weak Supervision"), section 4.5, with one
difference: a second look is a beam search, not sampling at rising temperatures, so that the answer stays the same
however often a piece is decoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a decoder made of one piece.

    Attributes:
        tokens: text and timestamps, without the prompt and without the end.
        avg_logprob: mean log probability of the tokens and the end.
        no_speech_prob: probability of `<|nospeech|>` at the start of the transcript.
    """

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """The figures of the rule.

    Attributes:
        max_compression_ratio: text that zlib makes smaller than by this is a loop.
        min_avg_logprob: an answer less probable than this is doubtful.
        max_no_speech_prob: with a doubtful answer, more than this means that nothing was said.
        retry_beam_size: hypotheses kept at the second look; 1: none is taken.
    """

    max_compression_ratio: float = 2.4
    min_avg_logprob: float = -1.0
    max_no_speech_prob: float = 0.6
    retry_beam_size: int = 5

    def is_silence(self, hypothesis: Hypothesis) -> bool:
        """Tell whether nothing was said at all."""
        return self._is_improbable(hypothesis) and hypothesis.no_speech_prob > self.max_no_speech_prob

    def needs_second_look(self, hypothesis: Hypothesis, text: str) -> bool:
        """Tell whether the piece is to be decoded again with a wider beam."""
        if self.is_silence(hypothesis):
            return False
        return self._is_improbable(hypothesis) or self._is_loop(text)

    def prefers_second(self, first: Hypothesis, first_text: str, second: Hypothesis, second_text: str) -> bool:
        """Tell which of two answers to keep: no loop before a loop, then the more probable one."""
        loops = self._is_loop(first_text), self._is_loop(second_text)
        if loops[0] != loops[1]:
            return loops[0]
        return second.avg_logprob > first.avg_logprob

    def _is_improbable(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.avg_logprob < self.min_avg_logprob

    def _is_loop(self, text: str) -> bool:
        return compression_ratio(text) > self.max_compression_ratio


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes the text; 1.0 for none."""
    encoded = text.encode("utf-8")
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 1.0


def spoken(tokens: Sequence[int], end_of_text: int) -> tuple[int, ...]:
    """Return the tokens that are text: timestamps and control tokens lie above the end of text."""
    return tuple(token for token in tokens if token < end_of_text)
