"""The path against a plain, slow search over the whole file."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.media.acoustics import cheapest_path


def slow_path(pitch_hz: np.ndarray, strength: np.ndarray, unvoiced: np.ndarray) -> np.ndarray:
    """Follow equations 25-27 frame by frame."""
    num_frames, num_candidates = pitch_hz.shape
    scores = np.column_stack((unvoiced, strength))
    total, back = scores[0].copy(), []
    for now in range(1, num_frames):
        reached = np.full((num_candidates + 1, num_candidates + 1), -np.inf)
        for here in range(num_candidates + 1):
            for there in range(num_candidates + 1):
                if here == 0 and there == 0:
                    cost = 0.0
                elif here == 0 or there == 0:
                    cost = 0.14
                else:
                    cost = 0.35 * abs(np.log2(pitch_hz[now, here - 1] / pitch_hz[now - 1, there - 1]))
                reached[here, there] = total[there] - cost + scores[now, here]
        back.append(reached.argmax(axis=1))
        total = reached.max(axis=1)
    chosen = [int(total.argmax())]
    for pointers in reversed(back):
        chosen.append(int(pointers[chosen[-1]]))
    chosen.reverse()
    return np.array([np.nan if c == 0 else pitch_hz[i, c - 1] for i, c in enumerate(chosen)])


@pytest.mark.parametrize("num_frames", [1, 2, 255, 256, 257, 700])
def test_stretches_give_the_path_of_the_whole(num_frames: int) -> None:
    random = np.random.default_rng(num_frames)
    pitch_hz = random.uniform(70, 480, (num_frames, 4)).astype(np.float32)
    strength = random.uniform(0.2, 1.0, (num_frames, 4)).astype(np.float32)
    strength[random.random((num_frames, 4)) < 0.3] = -np.inf
    unvoiced = random.uniform(0.4, 0.9, num_frames).astype(np.float32)
    np.testing.assert_allclose(
        cheapest_path(pitch_hz, strength, unvoiced), slow_path(pitch_hz, strength, unvoiced), rtol=1e-6
    )


def test_one_stronger_octave_does_not_break_a_line() -> None:
    pitch_hz = np.tile(np.array([[100.0, 200.0]], np.float32), (21, 1))
    strength = np.tile(np.array([[0.9, 0.7]], np.float32), (21, 1))
    strength[10] = (0.7, 0.9)
    np.testing.assert_array_equal(cheapest_path(pitch_hz, strength, np.full(21, 0.5, np.float32)), np.full(21, 100.0))


def test_frames_without_candidates_are_unvoiced() -> None:
    path = cheapest_path(np.ones((5, 2), np.float32), np.full((5, 2), -np.inf, np.float32), np.full(5, 0.5, np.float32))
    assert np.isnan(path).all()
