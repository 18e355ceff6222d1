"""Volume, pitch and centroid against sounds whose values are known."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from serve_app.media.acoustics import HOP_S, FrameFeatures, features_of, measure_frames

RATE_HZ = 16_000


def seconds(duration_s: float) -> np.ndarray:
    return np.arange(int(duration_s * RATE_HZ)) / RATE_HZ


def sine(hz: float, duration_s: float, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * seconds(duration_s))).astype(np.float32)


def buzz(pitch_hz: np.ndarray, lowest_hz: float = 0.0, highest_hz: float = 7_000.0) -> np.ndarray:
    """Return harmonics at -6 dB per octave of a changing pitch, those within a band only."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    signal = np.zeros_like(pitch_hz)
    for harmonic in range(1, 80):
        hz = harmonic * pitch_hz
        signal += np.where((hz > lowest_hz) & (hz < highest_hz), 1.0 / harmonic, 0.0) * np.sin(harmonic * phase)
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, num_samples).astype(np.float32)


@pytest.mark.parametrize("amplitude", [1.0, 0.5, 0.01, 1e-4])
def test_volume_is_rms_in_dbfs(amplitude: float) -> None:
    (word,) = features_of(measure_frames(sine(400, 1.0, amplitude)), [0.1], [0.9])
    assert word.volume_db == pytest.approx(20 * np.log10(amplitude / np.sqrt(2)), abs=0.01)


def test_volume_is_exact_for_any_span() -> None:
    samples = noise(5 * RATE_HZ) * np.linspace(0, 1, 5 * RATE_HZ, dtype=np.float32)
    random = np.random.default_rng(1)
    starts = np.round(random.uniform(0, 4, 200), 3)
    ends = starts + np.round(random.uniform(0.03, 0.9, 200), 3)
    found = features_of(measure_frames(samples), starts, ends)
    for start, end, word in zip(starts, ends, found, strict=True):
        part = samples[round(start * RATE_HZ) : round(end * RATE_HZ)].astype(np.float64)
        assert word.volume_db == pytest.approx(10 * np.log10(np.mean(part**2)), abs=1e-4)


def test_quiet_after_loud_keeps_its_volume() -> None:
    samples = np.concatenate([sine(300, 60.0, 1.0), sine(300, 1.0, 3e-5)])
    (word,) = features_of(measure_frames(samples), [60.2], [60.8])
    assert word.volume_db == pytest.approx(20 * np.log10(3e-5 / np.sqrt(2)), abs=0.1)


def test_silence_has_the_floor_and_nothing_else() -> None:
    samples = np.concatenate([sine(200, 1.0), np.zeros(RATE_HZ, np.float32)])
    (word,) = features_of(measure_frames(samples), [1.3], [1.8])
    assert word.volume_db == -100.0
    assert word.pitch_hz is None
    assert word.spectral_centroid_hz is None


@pytest.mark.parametrize("pitch_hz", [70.0, 100.0, 155.0, 220.0, 310.0, 440.0, 490.0])
@pytest.mark.parametrize("band", [(0.0, 7_000.0), (300.0, 3_400.0)], ids=["wide", "telephone"])
def test_steady_pitch(pitch_hz: float, band: tuple[float, float]) -> None:
    samples = buzz(np.full(2 * RATE_HZ, pitch_hz), *band)
    frames = measure_frames(samples)
    assert np.isfinite(frames.pitch_hz[10:-10]).all()
    assert np.abs(frames.pitch_hz[10:-10] / pitch_hz - 1).max() < 0.01
    (word,) = features_of(frames, [0.5], [1.5])
    assert word.pitch_hz == pytest.approx(pitch_hz, rel=0.003)


@pytest.mark.parametrize("snr_db", [40.0, 10.0])
def test_moving_pitch_has_no_gross_errors(snr_db: float) -> None:
    t = seconds(4.0)
    for contour in (
        80 * (220 / 80) ** (t / 4),
        330 * (160 / 330) ** (t / 4),
        120 * (1 + 0.06 * np.sin(2 * np.pi * 5.5 * t)),
        250 + 70 * np.sin(2 * np.pi * 1.5 * t),
    ):
        samples = buzz(contour)
        hiss = noise(len(samples))
        hiss *= np.sqrt(np.mean(samples**2) / np.mean(hiss**2)) * 10 ** (-snr_db / 20)
        found = measure_frames(samples + hiss).pitch_hz[10:-10]
        truth = contour[:: int(HOP_S * RATE_HZ)][10 : 10 + len(found)]
        assert np.isfinite(found).mean() > 0.97
        off = np.abs(found / truth - 1)
        assert np.nanmax(off) < 0.2
        assert np.nanmedian(off) < 0.005


def test_noise_has_no_pitch() -> None:
    frames = measure_frames(noise(10 * RATE_HZ))
    assert np.isfinite(frames.pitch_hz).mean() < 0.01
    (word,) = features_of(frames, [1.0], [3.0])
    assert word.pitch_hz is None


def test_quiet_speaker_keeps_a_pitch_beside_a_loud_one_and_a_click() -> None:
    loud, quiet = buzz(np.full(4 * RATE_HZ, 110.0)), 0.05 * buzz(np.full(2 * RATE_HZ, 210.0))
    samples = np.concatenate([loud, quiet])
    samples[1000] = 1.0
    (word,) = features_of(measure_frames(samples), [4.5], [5.5])
    assert word.pitch_hz == pytest.approx(210, rel=0.01)


def test_pitch_of_a_word_is_the_median_of_its_voiced_part() -> None:
    samples = np.concatenate(
        [buzz(np.full(RATE_HZ, 150.0)), np.zeros(RATE_HZ, np.float32), buzz(np.full(RATE_HZ // 4, 300.0))]
    )
    (word,) = features_of(measure_frames(samples), [0.0], [2.25])
    assert word.pitch_hz == pytest.approx(150, rel=0.01)


@pytest.mark.parametrize("hz", [150.0, 1000.0, 3500.0, 7000.0])
def test_centroid_of_a_sine_is_its_frequency(hz: float) -> None:
    (word,) = features_of(measure_frames(sine(hz, 1.0)), [0.2], [0.8])
    assert word.spectral_centroid_hz == pytest.approx(hz, abs=3.0)


def test_centroid_is_weighted_by_power() -> None:
    samples = sine(1000, 1.0, 0.4) + sine(4000, 1.0, 0.2)  # powers 4 : 1
    (word,) = features_of(measure_frames(samples), [0.2], [0.8])
    assert word.spectral_centroid_hz == pytest.approx((4 * 1000 + 4000) / 5, rel=0.01)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_app.media import acoustics

    samples = buzz(120 + 40 * np.sin(2 * np.pi * 0.7 * seconds(8.0))) + 0.02 * noise(8 * RATE_HZ)
    whole = measure_frames(samples)
    monkeypatch.setattr(acoustics, "_CHUNK_FRAMES", 7)
    pieces = measure_frames(samples)
    np.testing.assert_allclose(pieces.pitch_hz, whole.pitch_hz, rtol=1e-4)
    np.testing.assert_allclose(pieces.power, whole.power, rtol=1e-4)


@pytest.mark.parametrize("num_samples", [0, 1, 15, 16, 17, 159, 160, 161, 735, 736, 737, 5_000])
def test_any_length_is_measured(num_samples: int) -> None:
    samples = noise(num_samples)
    frames = measure_frames(samples)
    assert len(frames.pitch_hz) == num_samples // 160 + 1
    assert frames.energy[-1] == pytest.approx(float(np.sum(samples.astype(np.float64) ** 2)))
    (word,) = features_of(frames, [0.0], [10.0])
    if num_samples:
        assert word.volume_db == pytest.approx(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)), abs=0.01)
    else:
        assert word.volume_db == -100.0


def test_odd_spans_are_clamped_and_widened() -> None:
    frames = measure_frames(sine(200, 2.0))
    spans = [(1.0, 1.0), (0.0, 0.0), (2.0, 2.0), (-5.0, 0.5), (1.5, 99.0), (50.0, 60.0), (1.2, 1.1)]
    found = features_of(frames, *zip(*spans, strict=True))
    for word in found:
        assert word.volume_db == pytest.approx(-9.03, abs=0.7)
    assert features_of(frames, [], []) == ()


def test_medians_in_several_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_app.media import acoustics

    frames = measure_frames(buzz(150 + 50 * np.sin(2 * np.pi * 0.9 * seconds(10.0))))
    random = np.random.default_rng(2)
    starts = random.uniform(0, 9, 300)
    ends = starts + random.uniform(0.05, 1.0, 300)
    whole = features_of(frames, starts, ends)
    monkeypatch.setattr(acoustics, "_MAX_PAIRS", 64)
    assert features_of(frames, starts, ends) == whole
    for start, end, word in list(zip(starts, ends, whole, strict=True))[:50]:
        times = np.arange(len(frames.pitch_hz)) * HOP_S
        assert word.pitch_hz == pytest.approx(float(np.nanmedian(frames.pitch_hz[(times >= start) & (times < end)])))


def test_memory_is_bounded_by_the_signal() -> None:
    samples = noise(10 * 60 * RATE_HZ)
    measure_frames(samples[:RATE_HZ])
    tracemalloc.start()
    measure_frames(samples)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 0.4 * samples.nbytes + (16 << 20)


def test_forty_thousand_words_of_four_hours_take_about_a_second() -> None:
    num_frames = 4 * 3600 * 100 + 1
    random = np.random.default_rng(3)
    pitch_hz = random.uniform(100, 300, num_frames).astype(np.float32)
    pitch_hz[random.random(num_frames) < 0.4] = np.nan
    power = np.cumsum(random.random(num_frames + 1))
    frames = FrameFeatures(4 * 3600.0, np.cumsum(random.random(4 * 3600 * 1000 + 2)), pitch_hz, power, 1500 * power)
    starts = np.sort(random.uniform(0, 4 * 3600 - 1, 40_000))
    begin = time.process_time()
    words = features_of(frames, starts, starts + 0.35)
    assert time.process_time() - begin < 2.0
    assert len(words) == 40_000
    assert words[0].spectral_centroid_hz == pytest.approx(1500)
