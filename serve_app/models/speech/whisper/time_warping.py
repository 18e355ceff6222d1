"""Dynamic time warping of tokens against audio frames, in numpy.

The path of whisper.timing.dtw_cpu, which numba compiles for seconds in every new process: a row of the recurrence has
a closed form, so that a loop over the tokens alone is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def first_frames(cost: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the frame at which each token begins on the cheapest monotone path, (tokens,).

    Args:
        cost: (tokens, frames), both at least 1. The path leads from the first corner to the last one by steps to the
            next token, the next frame, or both.
    """
    num_tokens, num_frames = cost.shape
    total = np.full((num_tokens + 1, num_frames + 1), np.inf)
    total[0, 0] = 0.0
    for row in range(num_tokens):
        # total[j] = cost[j] + min(entry[j], total[j - 1]), where entry is the cheaper way out of the row above
        entry = np.minimum(total[row, :-1], total[row, 1:])
        sums = np.cumsum(cost[row], dtype=np.float64)
        total[row + 1, 1:] = sums + np.minimum.accumulate(entry - np.concatenate(([0.0], sums[:-1])))
    starts = np.zeros(num_tokens, dtype=np.intp)
    token, frame = num_tokens, num_frames
    while token > 1:
        starts[token - 1] = frame - 1
        diagonal, above, left = total[token - 1, frame - 1], total[token - 1, frame], total[token, frame - 1]
        if frame > 1 and diagonal < above and diagonal < left:
            token, frame = token - 1, frame - 1
        elif frame == 1 or (above < diagonal and above < left):
            token -= 1
        else:
            frame -= 1
    return starts
