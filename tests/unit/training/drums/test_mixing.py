"""Mixing, rooms, effects and codecs: what they may change, and that they leave onsets where they are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.training.drums.plain_kit import PlainKit
from training.drums import effects
from training.drums.accompaniment import accompany
from training.drums.codecs import in_time_with, lossy
from training.drums.mixing import mix
from training.drums.performance import PlayedStroke
from training.drums.rooms import convolve, reverberation

RATE_HZ = 44_100


def _clicks(seconds: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return short bursts of noise every 400 ms, and where each begins."""
    samples, starts = np.zeros(round(seconds * RATE_HZ), np.float32), np.arange(4000, round(seconds * RATE_HZ), 17_640)
    burst = np.random.default_rng(0).standard_normal(900).astype(np.float32) * np.exp(-np.arange(900) / 200)
    for start in starts:
        samples[start : start + 900] += burst[: len(samples) - start].astype(np.float32)
    return samples / np.abs(samples).max(), starts


def test_an_open_hihat_is_choked_by_the_next_stroke():
    opened = PlayedStroke(0.1, "hihat_open", 0.9)
    closing = PlayedStroke(0.4, "hihat_closed", 0.05)
    ringing, choked = (
        mix(np.random.default_rng(1), PlainKit(), strokes, RATE_HZ, True).samples
        for strokes in ((opened,), (opened, closing))
    )
    late = slice(round(0.5 * RATE_HZ), round(0.6 * RATE_HZ))
    assert np.std(choked[late]) < 0.2 * np.std(ringing[late])


def test_a_stroke_that_was_cut_while_it_rang_fades():
    class CutKit(PlainKit):
        def stroke(self, rng, articulation, velocity):
            return super().stroke(rng, articulation, velocity)[: RATE_HZ // 10]  # of a decay ten times as long

    mixed = mix(np.random.default_rng(3), CutKit(), (PlayedStroke(0.0, "crash", 0.9),), RATE_HZ, True)
    end = np.flatnonzero(np.abs(mixed.samples) > 1e-6 * np.abs(mixed.samples).max())[-1]
    assert np.abs(mixed.samples[end - 200 : end]).max() < 0.02 * np.abs(mixed.samples).max()


def test_strokes_before_the_beginning_only_ring():
    mixed = mix(np.random.default_rng(2), PlainKit(), (PlayedStroke(-0.1, "crash", 0.9),), RATE_HZ, True)
    assert np.abs(mixed.samples[:100]).max() > 0
    assert (
        np.abs(mixed.samples[:100]).max()
        < np.abs(
            mix(np.random.default_rng(2), PlainKit(), (PlayedStroke(0.0, "crash", 0.9),), RATE_HZ, True).samples[:100]
        ).max()
    )


def test_a_room_comes_after_the_direct_sound():
    for seed in range(5):
        response = reverberation(np.random.default_rng(seed))
        assert np.sum(response**2) == pytest.approx(1.0, rel=1e-3)
        assert not response[:40].any()
        assert len(response) <= 1.5 * RATE_HZ


def test_convolution_in_blocks_is_convolution():
    rng = np.random.default_rng(0)
    samples, response = rng.standard_normal(5000).astype(np.float32), rng.standard_normal(130).astype(np.float32)
    expected = np.convolve(samples, response)[:5000]
    np.testing.assert_allclose(convolve(samples, response), expected, atol=1e-3)
    np.testing.assert_allclose(convolve(samples[:300], response), expected[:300], atol=1e-3)


def test_no_effect_moves_an_onset():
    samples, starts = _clicks()
    names: set[str] = set()
    for seed in range(60):
        mastered, applied = effects.master(np.random.default_rng(seed), samples)
        names |= {name.split()[0] for name in applied}
        assert mastered.shape == samples.shape
        for start in starts[:-1]:
            window = np.abs(mastered[start - 800 : start + 1200])
            floor = window[:500].max()
            risen = np.flatnonzero(window > floor + 0.35 * (window.max() - floor))
            assert abs(risen[0] - 800) < 0.003 * RATE_HZ, (seed, applied)
    assert {"eq", "compressor", "noise", "saturation", "clipping", "band"} <= names


@pytest.mark.parametrize("seed", range(8))
def test_codecs_leave_the_time_and_the_level(seed):
    samples, _ = _clicks()
    decoded, name = lossy(np.random.default_rng(seed), samples)
    assert len(decoded) == len(samples)
    likeness = np.dot(decoded, samples) / (np.linalg.norm(decoded) * np.linalg.norm(samples))
    assert likeness > 0.7, name
    assert np.std(decoded) == pytest.approx(np.std(samples), rel=0.25)


@pytest.mark.parametrize("delay", [-300, 0, 1105, 2200])
def test_a_delay_is_found_and_taken_away(delay):
    samples, _ = _clicks()
    delayed = samples[-delay:] if delay < 0 else np.concatenate([np.zeros(delay, np.float32), samples])
    moved = in_time_with(samples, delayed)
    assert len(moved) == len(samples)
    np.testing.assert_array_equal(moved[1000:-3000], samples[1000:-3000])


def test_a_compressor_evens_levels_out():
    times_s = np.arange(RATE_HZ) / RATE_HZ
    samples = (np.sin(2 * np.pi * 500 * times_s) * np.where(times_s < 0.5, 1.0, 0.05)).astype(np.float32)
    compressed = effects.compress(np.random.default_rng(3), samples)
    loud, soft = np.std(compressed[10_000:20_000]), np.std(compressed[35_000:])
    assert loud / soft < 15  # 20 before


def test_an_accompaniment_has_unit_level_and_begins_with_the_beats():
    line = accompany(np.random.default_rng(1), np.arange(0.5, 3.0, 0.5), 3 * RATE_HZ)
    assert np.std(line) == pytest.approx(1.0, rel=0.01)
    assert not accompany(np.random.default_rng(1), np.zeros(0), RATE_HZ).any()
