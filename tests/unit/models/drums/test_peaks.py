"""Peaks of activations whose strokes are known."""

import numpy as np
import pytest

from serve_app.models.drums.hits import pick_peaks


def bumps(times_s: list[float], heights: list[float], frames: int = 400, width_s: float = 0.012) -> np.ndarray:
    at_s = np.arange(frames) / 100
    return np.sum(
        [height * np.exp(-0.5 * ((at_s - t) / width_s) ** 2) for t, height in zip(times_s, heights, strict=True)],
        axis=0,
    )


def test_times_between_frames() -> None:
    times_s = [0.5, 1.0033, 1.5047, 2.0051, 2.5066]
    peaks = pick_peaks(bumps(times_s, [0.9] * 5), 0.5)
    np.testing.assert_allclose(peaks.times_s, times_s, atol=0.001)
    assert peaks.frames.tolist() == [50, 100, 150, 201, 251]
    np.testing.assert_allclose(peaks.confidences, 0.9, atol=0.1)


def test_only_peaks_that_reach_the_threshold() -> None:
    activation = bumps([0.5, 1.0, 1.5], [0.3, 0.31, 0.29])
    assert pick_peaks(activation, 0.3).frames.tolist() == [50, 100]


def test_neighbours_are_one_stroke_unless_they_are_far_enough_apart() -> None:
    activation = np.zeros(100)
    activation[[20, 22]] = 0.8, 0.9  # 20 ms
    activation[[50, 53]] = 0.8, 0.9  # 30 ms
    assert pick_peaks(activation, 0.5).frames.tolist() == [22, 50, 53]
    assert pick_peaks(activation, 0.5, min_distance_s=0.04).frames.tolist() == [22, 53]
    assert pick_peaks(activation, 0.5, min_distance_s=0.0).frames.tolist() == [20, 22, 50, 53]


@pytest.mark.parametrize("frame", [0, 9])
def test_first_and_last_frame_can_be_peaks(frame: int) -> None:
    activation = np.full(10, 0.1)
    activation[frame] = 0.9
    peaks = pick_peaks(activation, 0.5)
    assert peaks.frames.tolist() == [frame]
    assert abs(peaks.times_s[0] - frame / 100) <= 0.005
    assert peaks.times_s[0] >= 0.0


def test_plateau_is_one_stroke_in_its_middle() -> None:
    activation = np.zeros(20, dtype=np.float16)
    activation[8:11] = 1.0
    np.testing.assert_allclose(pick_peaks(activation, 0.5).times_s, [0.09])
    activation[11] = 1.0
    np.testing.assert_allclose(pick_peaks(activation, 0.5).times_s, [0.095], atol=0.0051)


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_short_and_empty_activations(frames: int) -> None:
    assert len(pick_peaks(np.zeros(frames), 0.5)) == 0
    assert len(pick_peaks(np.full(frames, 0.9), 0.5)) == min(frames, 1)
