"""`find_gaps`: detected speech for which a recogniser returned no words.

Whisper sometimes ends a window early or skips a sentence in the middle, and its output does not show it. Its own
long-form loop continues after the last timestamp; this module finds every stretch of speech without words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve_app.results import SpeechRegion

if TYPE_CHECKING:  # whoever joins transcripts needs this module, but not faster-whisper
    from serve_app.models.speech.whisper.spoken_words import SpokenWord

# Less speech than this between two words is a breath, a laugh, or the detector's margins around a pause.
MIN_GAP_S = 1.0
# Speech this near to a word belongs to it: words' times are about this exact.
_REACH_S = 0.15
_MARGIN_S = 0.2  # around a gap, so that its first and last sounds are complete


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch to decode again, with margins, in place of `words[first:stop]`: these are too long, and hide others."""

    start_s: float
    end_s: float
    first: int
    stop: int


def find_gaps(words: Sequence[SpokenWord], speech: Sequence[SpeechRegion], min_gap_s: float = MIN_GAP_S) -> list[Gap]:
    """Return the stretches between words that hold at least `min_gap_s` of speech; all are in order, on one clock."""
    sure = [index for index, word in enumerate(words) if word.duration_s <= word.longest_s + min_gap_s]
    spans = [(words[index].start_s, words[index].end_s) for index in sure]
    edges = [-1, *sure, len(words)]
    gaps = []
    for number, parts in enumerate(_between(speech, spans)):
        if _seconds(parts) < min_gap_s:
            continue
        before, after = edges[number], edges[number + 1]
        low_s = words[before].end_s if before >= 0 else 0.0
        high_s = words[after].start_s if after < len(words) else float("inf")
        start_s = max(low_s, parts[0].start_s - _MARGIN_S)
        gaps.append(Gap(start_s, min(high_s, parts[-1].end_s + _MARGIN_S), before + 1, after))
    return gaps


def speech_without_words(
    speech: Sequence[SpeechRegion], words: Sequence[tuple[float, float]], min_gap_s: float = MIN_GAP_S
) -> list[SpeechRegion]:
    """Return the speech without words, where there is at least `min_gap_s` of it between two words.

    Args:
        speech: in order.
        words: start and end of each word, in any order.
        min_gap_s: less speech than this between two words is ignored.
    """
    return [part for parts in _between(speech, sorted(words)) if _seconds(parts) >= min_gap_s for part in parts]


def _between(speech: Sequence[SpeechRegion], spans: Sequence[tuple[float, float]]) -> Iterator[list[SpeechRegion]]:
    """Yield the speech before the first span, between each two, and after the last: one list more than spans."""
    position = 0
    low_s = float("-inf")
    for start_s, end_s in [*spans, (float("inf"), float("inf"))]:
        high_s = start_s - _REACH_S
        while position < len(speech) and speech[position].end_s <= low_s:
            position += 1
        parts = []
        for index in range(position, len(speech)):
            region = speech[index]
            if region.start_s >= high_s:
                break
            if min(region.end_s, high_s) > max(region.start_s, low_s):
                parts.append(SpeechRegion(max(region.start_s, low_s), min(region.end_s, high_s)))
        yield parts
        low_s = max(low_s, end_s + _REACH_S)


def _seconds(parts: Sequence[SpeechRegion]) -> float:
    return sum(part.end_s - part.start_s for part in parts)
