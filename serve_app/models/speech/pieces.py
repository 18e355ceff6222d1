"""`recognizer_pieces`: cuts speech into pieces that a recogniser takes at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from serve_app.results import SpeechRegion

_FULL = 3 / 4  # of a piece: its end is searched after this
MAX_PAUSE_S = 5.0  # a longer silence costs time and makes Whisper invent text


def recognizer_pieces(
    regions: Sequence[SpeechRegion],
    duration_s: float,
    max_piece_s: float = 30.0,
    margin_s: float = 0.2,
    max_pause_s: float = MAX_PAUSE_S,
) -> tuple[SpeechRegion, ...]:
    """Return pieces cut at silences, with margins, at most `max_piece_s` long."""
    pieces = cut_at_silences(regions, duration_s, max_piece_s - 2 * margin_s, max_pause_s)
    return with_margins(pieces, duration_s, margin_s)


def cut_at_silences(
    regions: Sequence[SpeechRegion], duration_s: float, max_piece_s: float = 30.0, max_pause_s: float = MAX_PAUSE_S
) -> tuple[SpeechRegion, ...]:
    """Join regions into pieces for a recogniser, cut in the longest pauses.

    Every piece is at most `max_piece_s` long, and all speech lies in a piece. A pause of `max_pause_s` ends a piece;
    otherwise it ends in the longest pause of its last quarter, for a recogniser's window costs the same however full
    it is. Longer speech without a pause is cut into equal parts.

    Args:
        regions: in order, not overlapping.
        duration_s: of the file; pieces are clamped to it.

    Raises:
        ValueError: `max_piece_s` is not positive.
    """
    if max_piece_s <= 0:
        raise ValueError("max_piece_s must be positive")
    parts = _at_most(regions, duration_s, max_piece_s)
    pieces: list[SpeechRegion] = []
    first = 0
    while first < len(parts):
        start_s = parts[first].start_s
        last, best_pause_s = first, -1.0
        for index in range(first, len(parts)):
            if parts[index].end_s - start_s > max_piece_s:
                break
            pause_s = parts[index + 1].start_s - parts[index].end_s if index + 1 < len(parts) else math.inf
            if pause_s >= max_pause_s:
                last = index
                break
            is_late = parts[index].end_s - start_s >= max_piece_s * _FULL
            # a late pause beats any early one; among early ones the last is taken
            score = pause_s if is_late else -0.5
            if score >= best_pause_s:
                last, best_pause_s = index, score
        pieces.append(SpeechRegion(start_s, parts[last].end_s))
        first = last + 1
    return tuple(pieces)


def with_margins(pieces: Sequence[SpeechRegion], duration_s: float, margin_s: float = 0.2) -> tuple[SpeechRegion, ...]:
    """Widen pieces, which are in order, into the silence around them: a recogniser loses words that begin at a cut.

    Neighbours meet in the middle of a pause that is shorter than two margins. Pieces stay inside the file.
    """
    if not pieces:
        return ()
    middles = [(left.end_s + right.start_s) / 2 for left, right in pairwise(pieces)]
    starts = [max(piece.start_s - margin_s, low) for piece, low in zip(pieces, [0.0, *middles], strict=True)]
    ends = [min(piece.end_s + margin_s, high) for piece, high in zip(pieces, [*middles, duration_s], strict=True)]
    return tuple(SpeechRegion(start_s, end_s) for start_s, end_s in zip(starts, ends, strict=True))


def speech_inside(speech: Sequence[SpeechRegion], piece: SpeechRegion) -> tuple[SpeechRegion, ...]:
    """Return the parts of the speech that lie in a piece."""
    parts = ((max(region.start_s, piece.start_s), min(region.end_s, piece.end_s)) for region in speech)
    return tuple(SpeechRegion(start_s, end_s) for start_s, end_s in parts if end_s > start_s)


def _at_most(regions: Sequence[SpeechRegion], duration_s: float, max_piece_s: float) -> list[SpeechRegion]:
    """Clamp regions to the file and cut those longer than a piece into equal parts."""
    parts: list[SpeechRegion] = []
    for region in regions:
        start_s, end_s = max(0.0, region.start_s), min(duration_s, region.end_s)
        if end_s <= start_s:
            continue
        count = max(1, math.ceil((end_s - start_s) / max_piece_s - 1e-9))
        edges = [start_s + (end_s - start_s) * index / count for index in range(count + 1)]
        parts.extend(SpeechRegion(left, right) for left, right in pairwise(edges))
    return parts
