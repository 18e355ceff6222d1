"""The cheapest path through pitch candidates (Boersma 1993, equations 25-27), for many stretches at once."""

from __future__ import annotations

import numpy as np

_OCTAVE_JUMP_COST = 0.35
_VOICED_UNVOICED_COST = 0.14  # both are per 10 ms: Praat's defaults for its time step of 0.01 s
# The recursion runs over time, so it is run over all stretches of the file side by side. A path forgets where it began
# within a few frames; the margin on each side is 0.3 s.
_STRETCH = 256
_MARGIN = 32


def cheapest_path(pitch_hz: np.ndarray, strength: np.ndarray, unvoiced_strength: np.ndarray) -> np.ndarray:
    """Choose one candidate per frame.

    Args:
        pitch_hz: (frames, candidates), positive; any value where the strength is -inf.
        strength: (frames, candidates); -inf: no candidate.
        unvoiced_strength: (frames,) strength of the choice "unvoiced".

    Returns:
        (frames,) float32 Hz; nan: unvoiced.
    """
    num_frames, num_candidates = pitch_hz.shape
    num_stretches = -(-num_frames // _STRETCH)
    rows = np.arange(num_stretches)[:, None] * _STRETCH + np.arange(-_MARGIN, _STRETCH + _MARGIN)[None, :]
    inside = (rows >= 0) & (
        rows < num_frames
    )  # (stretches, steps); what lies beyond the file has neither gain nor cost
    rows = np.clip(rows, 0, num_frames - 1)
    # candidate 0 is "unvoiced"
    scores = np.concatenate((unvoiced_strength[:, None], strength), axis=1)
    octaves = np.concatenate((np.zeros((num_frames, 1), np.float32), np.log2(pitch_hz)), axis=1)
    num_choices = num_candidates + 1
    toggles = np.zeros((num_choices, num_choices), dtype=np.float32)
    toggles[0, 1:] = toggles[1:, 0] = _VOICED_UNVOICED_COST
    jumps = np.zeros((num_choices, num_choices), dtype=np.float32)
    jumps[1:, 1:] = _OCTAVE_JUMP_COST

    num_steps = rows.shape[1]
    came_from = np.zeros((num_steps, num_stretches, num_choices), dtype=np.int8)
    total = np.where(inside[:, :1], scores[rows[:, 0]], 0.0)
    before = octaves[rows[:, 0]]
    for step in range(1, num_steps):
        now = octaves[rows[:, step]]
        # (stretches, to, from)
        cost = np.abs(now[:, :, None] - before[:, None, :]) * jumps + toggles
        cost[~(inside[:, step] & inside[:, step - 1])] = 0.0
        reached = total[:, None, :] - cost
        choice = reached.argmax(axis=2)
        came_from[step] = choice
        gain = np.where(inside[:, step, None], scores[rows[:, step]], 0.0)
        total = np.take_along_axis(reached, choice[:, :, None], axis=2)[:, :, 0] + gain
        before = now

    chosen = np.zeros((num_steps, num_stretches), dtype=np.int64)
    chosen[-1] = total.argmax(axis=1)
    for step in range(num_steps - 1, 0, -1):
        chosen[step - 1] = np.take_along_axis(came_from[step], chosen[step][:, None], axis=1)[:, 0]
    kept = chosen[_MARGIN : _MARGIN + _STRETCH].T.reshape(-1)[:num_frames]
    picked = pitch_hz[np.arange(num_frames), np.maximum(kept - 1, 0)]
    return np.where(kept > 0, picked, np.nan).astype(np.float32)
