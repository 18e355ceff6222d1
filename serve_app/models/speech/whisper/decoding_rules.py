"""`DecodingRules`: when Whisper's answer is doubtful, and what is tried then; the same in every backend.

After Radford et al. 2022 ("Robust Speech Recognition via Large-Scale Weak Supervision"), section 4.5, with one
difference: a beam search is tried before sampling at rising temperatures. Sampling draws from a fixed seed, window by
window, so that a window's answer is the same however often it is decoded, and whatever it is batched with.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

SEED = 0  # of sampling


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
class Attempt:
    """How a window is decoded.

    Attributes:
        beam_size: hypotheses kept; 1: greedy, or sampled where there is a temperature.
        temperature: of sampling; 0.0: none.
    """

    beam_size: int
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """The figures of the rule.

    The first two are openai-whisper's. What it does with an answer that stays improbable (it keeps it) does not hold
    here: on English clips under the babble of 6 and 20 voices at 3 to -3 dB (whisper-base), answers below
    `min_avg_logprob` had more than 80 % of their words wrong, and so had those that meet the rule of `is_silence`.

    Attributes:
        max_compression_ratio: text that zlib makes smaller than by this is a loop.
        min_avg_logprob: an answer less probable than this is doubtful.
        min_shown_logprob: an answer less probable than this after all attempts is left out.
        max_silence_logprob: an answer less probable than this counts as silence where the model doubts the speech too.
        max_no_speech_prob: with such an answer, more than this means that nothing was said.
        retry_beam_size: hypotheses kept at the second attempt.
        retry_temperatures: of the attempts after that; openai-whisper tries 0.2 to 1.0.
    """

    max_compression_ratio: float = 2.4
    min_avg_logprob: float = -1.0
    min_shown_logprob: float = -1.0
    max_silence_logprob: float = -0.8
    max_no_speech_prob: float = 0.15
    retry_beam_size: int = 5
    retry_temperatures: tuple[float, ...] = (0.4, 0.8)

    def retries(self, beam_size: int) -> list[Attempt]:
        """Return what is tried after a first attempt with that many beams."""
        wider = [Attempt(self.retry_beam_size)] if self.retry_beam_size > beam_size else []
        return [*wider, *(Attempt(1, temperature) for temperature in self.retry_temperatures)]

    def is_silence(self, hypothesis: Hypothesis) -> bool:
        """Tell whether nothing was said at all."""
        return hypothesis.avg_logprob < self.max_silence_logprob and hypothesis.no_speech_prob > self.max_no_speech_prob

    def is_doubtful(self, hypothesis: Hypothesis, text: str) -> bool:
        """Tell whether the window is to be decoded again: the answer is improbable, or repeats itself."""
        if self.is_silence(hypothesis):
            return False
        return self.is_improbable(hypothesis) or self.is_loop(text)

    def prefers_second(self, first: Hypothesis, first_text: str, second: Hypothesis, second_text: str) -> bool:
        """Tell which of two answers to keep: no loop before a loop, then the more probable one."""
        loops = self.is_loop(first_text), self.is_loop(second_text)
        if loops[0] != loops[1]:
            return loops[0]
        return second.avg_logprob > first.avg_logprob

    def is_garbled(self, hypothesis: Hypothesis) -> bool:
        """Tell whether an answer that no attempt made better is to be left out."""
        return hypothesis.avg_logprob < self.min_shown_logprob

    def is_improbable(self, hypothesis: Hypothesis) -> bool:
        """Tell whether the model itself does not believe the answer."""
        return hypothesis.avg_logprob < self.min_avg_logprob

    def is_loop(self, text: str) -> bool:
        """Tell whether the text repeats itself: zlib makes it much smaller."""
        return compression_ratio(text) > self.max_compression_ratio


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes the text; 1.0 for none."""
    encoded = text.encode("utf-8")
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 1.0


def spoken(tokens: Sequence[int], end_of_text: int) -> tuple[int, ...]:
    """Return the tokens that are text: timestamps and control tokens lie above the end of text."""
    return tuple(token for token in tokens if token < end_of_text)
