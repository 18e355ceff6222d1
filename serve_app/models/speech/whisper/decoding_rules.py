"""`DecodingRules`: when an answer of Whisper is doubtful, and how it is decoded again; the same in every backend.

They follow Radford et al. 2022 ("Robust Speech Recognition via Large-Scale Weak Supervision"), section 4.5, but a beam
search comes before sampling at rising temperatures. Each window is sampled from a fixed seed, so that its answer does
not depend on its batch.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

SEED = 0  # of sampling


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A decoder's answer for one window."""

    tokens: tuple[int, ...]  # text and timestamps, without the prompt and the end
    avg_logprob: float  # mean over the tokens and the end
    no_speech_prob: float  # of `<|nospeech|>` at the start of the transcript


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a window is decoded: by beam search, greedily (`beam_size` 1), or by sampling at a `temperature` above 0."""

    beam_size: int
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """The thresholds.

    The first two are openai-whisper's, which keeps an answer that stays improbable. It is dropped here, and so is one
    that counts as silence: under the babble of other voices most of their words were wrong (docs/models/whisper.md).
    """

    max_compression_ratio: float = 2.4  # text that zlib shrinks by more is a loop
    min_avg_logprob: float = -1.0  # a less probable answer is doubtful
    min_shown_logprob: float = -1.0  # an answer that stays less probable is dropped
    # a less probable answer with a higher `no_speech_prob` is silence
    max_silence_logprob: float = -0.8
    max_no_speech_prob: float = 0.15
    retry_beam_size: int = 5  # of the second attempt
    retry_temperatures: tuple[float, ...] = (0.4, 0.8)  # of those after it; openai-whisper tries 0.2 to 1.0

    def retries(self, beam_size: int) -> list[Attempt]:
        """Return the attempts after a first one with that many beams."""
        wider = [Attempt(self.retry_beam_size)] if self.retry_beam_size > beam_size else []
        return [*wider, *(Attempt(1, temperature) for temperature in self.retry_temperatures)]

    def is_silence(self, hypothesis: Hypothesis) -> bool:
        """Whether the window has no speech."""
        return hypothesis.avg_logprob < self.max_silence_logprob and hypothesis.no_speech_prob > self.max_no_speech_prob

    def is_doubtful(self, hypothesis: Hypothesis, text: str) -> bool:
        """Whether the window must be decoded again: the answer is improbable, or repeats itself."""
        is_improbable = hypothesis.avg_logprob < self.min_avg_logprob
        return not self.is_silence(hypothesis) and (is_improbable or self.is_loop(text))

    def prefers_second(self, first: Hypothesis, first_text: str, second: Hypothesis, second_text: str) -> bool:
        """Whether the second answer is better: a loop is worse than none, then the more probable one wins."""
        loops = self.is_loop(first_text), self.is_loop(second_text)
        if loops[0] != loops[1]:
            return loops[0]
        return second.avg_logprob > first.avg_logprob

    def is_garbled(self, hypothesis: Hypothesis) -> bool:
        """Whether an answer is dropped after all attempts."""
        return hypothesis.avg_logprob < self.min_shown_logprob

    def is_loop(self, text: str) -> bool:
        """Whether the text repeats itself: zlib makes it much smaller."""
        return compression_ratio(text) > self.max_compression_ratio


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes the text; 1.0 for an empty one."""
    encoded = text.encode("utf-8")
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 1.0
