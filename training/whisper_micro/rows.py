"""The tokens in use, as rows of a small embedding."""

from __future__ import annotations

import itertools
from functools import cached_property

from whisper.tokenizer import Tokenizer, get_tokenizer

from training.whisper_micro.grammar import LANGUAGES, vocabulary

FRAME_S = 0.02  # of the encoder; a timestamp's unit as well
NUM_TIMESTAMPS = 1501  # 0.00 to 30.00 s


class Rows:
    """The tokens in use, as rows of the embedding: words' tokens, special ones, timestamps, and one for all others."""

    def __init__(self) -> None:
        self.tokenizer: Tokenizer = get_tokenizer(True)
        self.words = {
            word: tuple(self.tokenizer.encode(" " + word)) for language in LANGUAGES for word in vocabulary(language)
        }
        tokenizer = self.tokenizer
        specials = [tokenizer.eot, tokenizer.sot, *map(tokenizer.to_language_token, LANGUAGES)]
        specials += [tokenizer.transcribe, tokenizer.sot_prev, tokenizer.no_speech, tokenizer.no_timestamps]
        texts = sorted(set(itertools.chain.from_iterable(self.words.values())))
        stamps = range(tokenizer.timestamp_begin, tokenizer.timestamp_begin + NUM_TIMESTAMPS)
        self.ids = [*texts, *specials, *stamps]
        self.num_texts = len(texts)
        self.of = {token: row for row, token in enumerate(self.ids)}

    @property
    def num(self) -> int:
        """Return the number of rows, the one for unused ids included."""
        return len(self.ids) + 1

    @cached_property
    def sot(self) -> int:
        """Return the row of the start of a transcript."""
        return self.of[self.tokenizer.sot]

    def language(self, language: str) -> int:
        """Return the row of a language."""
        return self.of[self.tokenizer.to_language_token(language)]

    def special(self, name: str) -> int:
        """Return the row of a special token, by its name in openai-whisper's tokenizer."""
        return self.of[getattr(self.tokenizer, name)]

    def word(self, word: str) -> list[int]:
        """Return the rows of a word."""
        return [self.of[token] for token in self.words[word]]

    def stamp(self, time_s: float) -> int:
        """Return the row of a time."""
        return self.of[self.tokenizer.timestamp_begin + frame(time_s)]


def frame(time_s: float) -> int:
    """Return the encoder frame, and timestamp, that is nearest to a time; the last one for all later times."""
    return min(round(time_s / FRAME_S), NUM_TIMESTAMPS - 1)
