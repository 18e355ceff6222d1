"""Several utterances in one window, with pauses between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from training.whisper_micro.speech import SAMPLE_RATE_HZ, Span, Speech

WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class Window:
    """What is heard in a window of at most 30 s.

    Attributes:
        samples: 16 kHz mono float32.
        utterances: with their times in the window and no samples of their own; all in one language.
        cut_off: the last utterance goes on after the window's end.
    """

    samples: np.ndarray
    utterances: tuple[Speech, ...]
    cut_off: bool = False

    @property
    def text(self) -> str:
        """Return all words."""
        return " ".join(speech.text for speech in self.utterances)

    @property
    def words(self) -> tuple[Span, ...]:
        """Return all words with their times in the window."""
        return tuple(word for speech in self.utterances for word in speech.words)


@dataclass(frozen=True, slots=True)
class Layout:
    """How utterances are laid into a window: silence before, between and after, in seconds (least and most)."""

    lead_s: tuple[float, float] = (0.0, 0.6)
    gap_s: tuple[float, float] = (0.15, 1.2)
    trail_s: tuple[float, float] = (0.0, 0.7)
    max_s: float = WINDOW_S


def lay(rng: np.random.Generator, speeches: Iterable[Speech], layout: Layout, cut_off: bool = False) -> Window:
    """Lay utterances one after the other, as long as they fit.

    Args:
        rng: draws the pauses.
        speeches: at least the first one is taken. Each keeps its level, within 6 dB of the others.
        layout: of the pauses.
        cut_off: fill the window to its last sample, in the middle of an utterance.
    """
    limit = round(layout.max_s * SAMPLE_RATE_HZ)
    at = round(rng.uniform(*layout.lead_s) * SAMPLE_RATE_HZ)
    pieces: list[tuple[int, np.ndarray]] = []
    placed: list[Speech] = []
    for speech in speeches:
        fits = at + speech.samples.size <= limit
        if placed and not fits and not cut_off:
            break
        pieces.append((at, speech.samples[: limit - at] * 10 ** (rng.uniform(-3, 3) / 20)))
        placed.append(_moved(speech, at / SAMPLE_RATE_HZ))
        if not fits:
            break
        at += speech.samples.size + round(rng.uniform(*layout.gap_s) * SAMPLE_RATE_HZ)
        if at >= limit - SAMPLE_RATE_HZ // 4:
            break
    start, last = pieces[-1]
    end = start + last.size
    was_cut = cut_off and end == limit
    samples = np.zeros(min(limit, end + round(rng.uniform(*layout.trail_s) * SAMPLE_RATE_HZ)), np.float32)
    for start, piece in pieces:
        samples[start : start + piece.size] += piece
    return Window(samples, tuple(placed), was_cut)


def _moved(speech: Speech, offset_s: float) -> Speech:
    return replace(
        speech,
        samples=np.empty(0, np.float32),
        words=tuple(word.moved(offset_s) for word in speech.words),
        phones=tuple(phone.moved(offset_s) for phone in speech.phones),
    )
