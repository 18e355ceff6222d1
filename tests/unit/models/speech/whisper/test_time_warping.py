"""The closed form finds the paths that the plain recurrence finds."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.models.speech.whisper.cross_attention import first_frames


def expected(cost: np.ndarray) -> np.ndarray:
    """Return where the tokens begin, by the plain recurrence and its ties as whisper/timing.py (dtw_cpu) has them."""
    num_tokens, num_frames = cost.shape
    total = np.full((num_tokens + 1, num_frames + 1), np.inf)
    total[0, 0] = 0.0
    for frame in range(1, num_frames + 1):
        for token in range(1, num_tokens + 1):
            before = (total[token - 1, frame - 1], total[token - 1, frame], total[token, frame - 1])
            total[token, frame] = cost[token - 1, frame - 1] + min(before)
    starts = np.zeros(num_tokens, dtype=int)
    token, frame = num_tokens, num_frames
    while token > 0 or frame > 0:
        if token > 0:
            starts[token - 1] = frame - 1
        diagonal = total[token - 1, frame - 1] if token and frame else np.inf
        above = total[token - 1, frame] if token else np.inf
        left = total[token, frame - 1] if frame else np.inf
        if diagonal < above and diagonal < left:
            token, frame = token - 1, frame - 1
        elif token and (not frame or (above < diagonal and above < left)):
            token -= 1
        else:
            frame -= 1
    return starts


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 1), (5, 5), (9, 4), (30, 200), (12, 700)], ids=str)
def test_equals_the_plain_recurrence(shape: tuple[int, int]) -> None:
    for seed in range(5):
        cost = np.random.default_rng(seed).standard_normal(shape)
        np.testing.assert_array_equal(first_frames(cost), expected(cost))


def test_single_precision_costs_are_summed_in_double_precision() -> None:
    cost = np.random.default_rng(3).standard_normal((40, 600)).astype(np.float32)
    np.testing.assert_array_equal(first_frames(cost), expected(cost.astype(np.float64)))


def test_follows_a_staircase() -> None:
    cost = np.ones((3, 12))
    cost[0, :4] = cost[1, 4:9] = cost[2, 9:] = -1.0
    np.testing.assert_array_equal(first_frames(cost), [0, 4, 9])


def test_more_tokens_than_frames_share_frames() -> None:
    starts = first_frames(np.zeros((6, 3)))
    assert starts[0] == 0
    assert (np.diff(starts) >= 0).all()
    assert starts[-1] <= 2
