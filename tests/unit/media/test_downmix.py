"""Weights and sample formats."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.media.downmix import channel_weights, downmix, to_float


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["FC"], [1]),
        (["FL", "FR"], [0.5, 0.5]),
        (["FL", "FR", "LFE"], [0.5, 0.5, 0]),
        (["FL", "FR", "FC", "LFE", "BL", "BR"], np.array([1, 1, 1, 0, 0.7071, 0.7071]) / (3 + 2 * 0.7071)),
        (["BL", "BR"], [0.5, 0.5]),
        (["LFE"], [1]),
        (["NONE", "NONE", "NONE"], [1 / 3] * 3),
    ],
)
def test_weights(names: list[str], expected: list[float]) -> None:
    np.testing.assert_allclose(channel_weights(names), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "low", "middle", "high"),
    [
        (np.uint8, 0, 128, 255),
        (np.int16, -(2**15), 0, 2**15 - 1),
        (np.int32, -(2**31), 0, 2**31 - 1),
        (np.int64, -(2**63), 0, 2**63 - 1),
        (np.float32, -1.0, 0.0, 1.0),
        (np.float64, -1.0, 0.0, 1.0),
    ],
)
def test_every_format_has_the_same_full_scale(dtype: type, low: float, middle: float, high: float) -> None:
    floats = to_float(np.array([[low, middle, high]], dtype=dtype))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats[0], [-1, 0, 1], atol=0.01)


def test_opposite_pair_is_turned_over_and_an_ordinary_one_is_not() -> None:
    random = np.random.default_rng(0)
    voice, other = random.normal(0, 0.1, (2, 4000)).astype(np.float32)
    half = np.array([0.5, 0.5], np.float32)
    mixed, inverted = downmix(np.stack([voice, -voice]), half)
    assert inverted
    np.testing.assert_allclose(mixed, voice, atol=1e-6)
    for left, right in ((voice, voice), (voice, other), (voice, 0 * voice), (0 * voice, 0 * voice)):
        mixed, inverted = downmix(np.stack([left, right]), half)
        assert not inverted
        np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-6)
