"""When each symbol of a known text is heard: the best path through a CTC model's answer (Graves et al. 2006).

whisperx's search (get_trellis, backtrack) is not used. It lets a symbol be heard in a single frame, takes further
frames of it for misheard blanks, and need not explain the end of the sound. Both searches agree on a model that says
each letter in one frame; on one that holds letters, as few steps of training make it, whisperx's words began 0.3 s
(3 words), 1.2 s (8) and 3.5 s (30 words) beside the truth at the median, and these 0.014 s (2026-11-20, the tone model
of the tests; no real align model could be had here).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Nats a frame for taking a sound as one that the alphabet lacks, so that the letters next to it keep their own frames.
_UNKNOWN_PENALTY = 0.1


def symbol_frames(heard: NDArray[np.float32], symbols: Sequence[int | None], blank_id: int) -> NDArray[np.int64] | None:
    """Return (symbols, 2): the first frame of each symbol, and the frame at which it ends.

    As in whisperx, frames of "nothing new" belong to the symbol before them; those before the first symbol and after
    the last belong to none.

    Args:
        heard: (frames, symbols of the model) log probabilities.
        symbols: what was said; None may be any sound, of any length.
        blank_id: number of the blank.

    Returns:
        None where there are fewer frames than the symbols need.
    """
    # states: blank, symbol, blank, … symbol, blank
    num_frames, num_states = len(heard), 2 * len(symbols) + 1
    if not symbols or not num_frames:
        return None
    unknown = heard.max(axis=1) - _UNKNOWN_PENALTY
    scores = np.empty((num_frames, num_states))
    scores[:, 0::2] = heard[:, blank_id, None]
    for index, symbol in enumerate(symbols):
        scores[:, 2 * index + 1] = unknown if symbol is None else heard[:, symbol]
    # the blank between two symbols may be left out, unless they are the same letter twice
    may_skip = np.zeros(num_states, dtype=np.bool_)
    may_skip[3::2] = [a != b or b is None for a, b in pairwise(symbols)]

    came_from = np.zeros((num_frames, num_states), dtype=np.int8)  # how many states back
    best = np.full(num_states, -np.inf)
    best[:2] = scores[0, :2]
    options = np.full((3, num_states), -np.inf)
    for frame in range(1, num_frames):
        options[0] = best
        options[1, 1:] = best[:-1]
        options[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        came_from[frame] = options.argmax(axis=0)
        best = options.max(axis=0) + scores[frame]
    state = num_states - (1 if best[-1] >= best[-2] else 2)
    if best[state] == -np.inf:
        return None
    path = np.empty(num_frames, dtype=np.int64)
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = state
        state -= int(came_from[frame, state])
    firsts = np.searchsorted(path, 2 * np.arange(len(symbols)) + 1)  # a path never goes back
    end = np.searchsorted(path, num_states - 1)
    return np.column_stack((firsts, np.append(firsts[1:], end)))
