"""The gain does not depend on the recording's level, its pauses, its offset, or how it is cut."""

import numpy as np
import pytest

from serve_app.models.drums.audio_file import LevelMeter, level_gain, to_factor


def _loop(seconds: float = 4.0) -> np.ndarray:
    """Decaying noise bursts, twice a second."""
    rng = np.random.default_rng(3)
    time_s = np.arange(int(seconds * 44_100)) / 44_100
    return (0.3 * rng.standard_normal(len(time_s)) * np.exp(-(time_s % 0.5) / 0.08)).astype(np.float32)


def _loud_level_db(samples: np.ndarray) -> float:
    levels = 10 * np.log10(samples[: len(samples) // 441 * 441].reshape(-1, 441).var(axis=1) + 1e-30)
    return float(np.percentile(levels[levels > levels.max() - 40], 95))


@pytest.mark.parametrize("scale", [1.0, 1e-2, 3e4])
def test_loud_frames_come_to_the_target(scale: float) -> None:
    samples = _loop() * np.float32(scale)
    assert _loud_level_db(samples * level_gain(samples)) == pytest.approx(-14.0, abs=0.6)


def test_blocks_and_whole_give_the_same_gain() -> None:
    samples = _loop()
    meter = LevelMeter()
    for start, end in [(0, 1), (1, 440), (440, 883), (883, 20_000), (20_000, 20_000), (20_000, len(samples))]:
        meter.add(samples[start:end])
    assert to_factor(meter.gain_db()) == level_gain(samples)


def test_pauses_do_not_change_the_gain() -> None:
    samples = _loop()
    with_pause = np.concatenate([samples, np.zeros(44_100 * 60, dtype=np.float32)])
    assert level_gain(with_pause) == level_gain(samples)


def test_constant_offset_does_not_change_the_gain() -> None:
    samples = _loop() * np.float32(0.1)
    assert level_gain(samples + np.float32(0.5)) == pytest.approx(level_gain(samples), rel=0.06)


def test_gain_is_limited_and_silence_is_left_alone() -> None:
    faint = _loop() * np.float32(5e-4)
    assert level_gain(faint) == pytest.approx(1000.0)
    for silent in (np.zeros(44_100), np.full(44_100, 0.7), np.empty(0), np.ones(1), _loop() * 1e-5):
        meter = LevelMeter()
        meter.add(silent.astype(np.float32))
        assert meter.is_silent
        assert meter.gain_db() == 0.0


def test_shorter_than_a_frame_is_heard() -> None:
    tone = (0.01 * np.sin(np.arange(100))).astype(np.float32)
    assert level_gain(tone) > 10.0


def test_samples_that_are_not_numbers_do_not_count() -> None:
    samples = _loop()
    broken = np.concatenate([samples, np.full(441 * 50, np.nan, dtype=np.float32)])
    assert level_gain(broken) == level_gain(samples)
