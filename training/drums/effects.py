"""What is done to the sum of the drums on its way to a file; nothing here moves an onset by more than 3 ms."""

from __future__ import annotations

import numpy as np
from scipy import signal

from training.drums.codecs import lossy
from training.drums.kits import SAMPLE_RATE_HZ
from training.drums.mixing import peak

_SHARE_UNTOUCHED = 0.33
_ENVELOPE_BLOCK = 32  # 0.7 ms


def master(rng: np.random.Generator, samples: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the samples after a random chain of effects, same length, peak about 1, and the names of the effects."""
    samples = _to_peak(samples)
    names: list[str] = []
    if rng.random() < _SHARE_UNTOUCHED:
        return samples, names
    if rng.random() < 0.6:
        samples = equalize(rng, samples)
        names.append("eq")
    if rng.random() < 0.6:
        samples = compress(rng, _to_peak(samples))
        names.append("compressor")
    if rng.random() < 0.25:
        drive = float(10 ** (rng.uniform(-3, 12) / 20))
        samples = np.tanh(_to_peak(samples) * drive) / np.float32(drive)
        names.append("saturation")
    if rng.random() < 0.1:
        samples = np.clip(_to_peak(samples) * np.float32(10 ** (rng.uniform(0.5, 8) / 20)), -1, 1)
        names.append("clipping")
    if rng.random() < 0.04:
        samples = wow(rng, samples)
        names.append("wow")
    samples = _to_peak(samples)
    if rng.random() < 0.4:
        samples = samples + noise(rng, len(samples))
        names.append("noise")
    if rng.random() < 0.15:
        samples = band_limit(rng, samples)
        names.append("band limit")
    if rng.random() < 0.12 and len(samples) > SAMPLE_RATE_HZ:
        samples, name = lossy(rng, samples)
        names.append(name)
    if rng.random() < 0.03:
        levels = 2.0 ** rng.integers(7, 12)
        samples = np.round(samples * np.float32(levels)) / np.float32(levels)
        names.append("few bits")
    return samples.astype(np.float32), names


def equalize(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Return the samples with a random tilt, peaks, and now and then without bass or treble; minimum phase."""
    sections = [shelf(rng.uniform(100, 400), rng.normal(0, 4), high=False),
                shelf(rng.uniform(2000, 7000), rng.normal(0, 5), high=True)]  # fmt: skip
    for _ in range(rng.integers(0, 3)):
        center_hz = float(np.exp(rng.uniform(np.log(80), np.log(8000))))
        sections.append(peak(center_hz, rng.normal(0, 4), rng.uniform(0.5, 3)))
    if rng.random() < 0.35:  # the body that old recordings and close microphones have
        sections.append(peak(float(rng.uniform(90, 350)), float(rng.uniform(1, 9)), float(rng.uniform(0.5, 1.2))))
    sos = np.stack(sections)
    if rng.random() < 0.25:
        cut_hz = float(np.exp(rng.uniform(np.log(25), np.log(160))))
        sos = np.concatenate([sos, signal.butter(2, cut_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos")])
    if rng.random() < 0.2:
        cut_hz = float(np.exp(rng.uniform(np.log(4000), np.log(16_000))))
        sos = np.concatenate([sos, signal.butter(2, cut_hz, "lowpass", fs=SAMPLE_RATE_HZ, output="sos")])
    # In double precision: poles of the lowest cuts lie too close to 1 for single.
    return signal.sosfilt(sos, samples).astype(np.float32)


def shelf(corner_hz: float, gain_db: float, *, high: bool) -> np.ndarray:
    """Return a shelving filter as one second-order section (Bristow-Johnson's cookbook, slope 1), (6,)."""
    amplitude, omega = 10 ** (gain_db / 40), 2 * np.pi * corner_hz / SAMPLE_RATE_HZ
    cosine, root = np.cos(omega), np.sqrt(2 * amplitude) * np.sin(omega)
    sign = -1.0 if high else 1.0
    plus, minus = amplitude + 1, amplitude - 1
    b = amplitude * np.array(
        [
            plus - sign * minus * cosine + root,
            sign * 2 * (minus - sign * plus * cosine),
            plus - sign * minus * cosine - root,
        ]
    )
    a = np.array(
        [
            plus + sign * minus * cosine + root,
            -sign * 2 * (minus + sign * plus * cosine),
            plus + sign * minus * cosine - root,
        ]
    )
    return np.concatenate([b, a]) / a[0]


def compress(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Return the samples after a compressor with random settings: levels above a threshold grow more slowly."""
    threshold_db, ratio = rng.uniform(-35, -8), np.exp(rng.uniform(np.log(1.5), np.log(12)))
    attack_s, release_s = (
        np.exp(rng.uniform(np.log(0.0005), np.log(0.03))),
        np.exp(rng.uniform(np.log(0.03), np.log(0.6))),
    )
    padded = np.pad(samples, (0, -len(samples) % _ENVELOPE_BLOCK))
    level_db = 20 * np.log10(np.abs(padded.reshape(-1, _ENVELOPE_BLOCK)).max(axis=1) + 1e-6)
    # A level that falls no faster than 9 dB in the release time: a running maximum of a line that rises.
    fall = np.arange(len(level_db)) * (9.0 * _ENVELOPE_BLOCK / SAMPLE_RATE_HZ / release_s)
    held_db = np.maximum.accumulate(level_db + fall) - fall
    wanted_db = -np.maximum(held_db - threshold_db, 0.0) * (1 - 1 / ratio)
    pole = np.exp(-_ENVELOPE_BLOCK / SAMPLE_RATE_HZ / attack_s)
    gain_db = signal.lfilter([1 - pole], [1, -pole], wanted_db)
    edges = np.arange(len(gain_db)) * _ENVELOPE_BLOCK + _ENVELOPE_BLOCK // 2
    gain = np.interp(np.arange(len(samples)), edges, 10 ** (gain_db / 20)).astype(np.float32)
    dry = np.float32(rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0)  # parallel compression
    return samples * (dry + (1 - dry) * gain * np.float32(10 ** (-float(gain_db.min()) / 40)))


def noise(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return hiss or rumble of a random colour, now and then with hum, far below full scale."""
    pole = rng.uniform(0.0, 0.97)
    hiss = rng.standard_normal(num_samples, dtype=np.float32)
    hiss = signal.lfilter(np.array([1 - pole], np.float32), np.array([1, -pole], np.float32), hiss)
    level_db = rng.uniform(-75, -45) if rng.random() < 0.85 else rng.uniform(-45, -30)
    hiss *= np.float32(10 ** (level_db / 20) / max(float(np.std(hiss)), 1e-9))
    if rng.random() < 0.08:  # a record's crackle
        places = rng.integers(0, max(num_samples, 1), int(num_samples / SAMPLE_RATE_HZ * rng.uniform(1, 25)))
        clicks = np.zeros(num_samples, np.float32)
        clicks[places] = rng.choice([-1.0, 1.0], len(places)) * 10 ** (rng.uniform(-55, -22, len(places)) / 20)
        pole = rng.uniform(0.2, 0.8)
        hiss += signal.lfilter(np.array([1], np.float32), np.array([1, -pole], np.float32), clicks)
    if rng.random() < 0.2:
        times_s = np.arange(num_samples, dtype=np.float32) / SAMPLE_RATE_HZ
        mains_hz = float(rng.choice([50.0, 60.0]))
        for harmonic in range(1, int(rng.integers(2, 6))):
            hum_db = rng.uniform(-70, -38) - 3 * harmonic
            hiss += np.float32(10 ** (hum_db / 20)) * np.sin(np.float32(2 * np.pi * mains_hz * harmonic) * times_s)
    return hiss


def band_limit(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Return the samples as if they had been recorded at 8 to 32 kHz; linear phase, without delay."""
    rate_hz = float(rng.choice([8000, 11_025, 16_000, 22_050, 24_000, 32_000], p=[0.05, 0.1, 0.2, 0.3, 0.15, 0.2]))
    taps = signal.firwin(201, 0.46 * rate_hz, fs=SAMPLE_RATE_HZ).astype(np.float32)
    return signal.oaconvolve(samples, taps, mode="same").astype(np.float32)


def wow(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Return the samples as a worn tape plays them, never more than 1 ms early or late."""
    rate_hz, positions = rng.uniform(0.5, 6.0), np.arange(len(samples), dtype=np.float64)
    shift = rng.uniform(0.1, 1.0) * 1e-3 * min(1.0, 1.0 / rate_hz) * SAMPLE_RATE_HZ
    moved = positions + shift * np.sin(2 * np.pi * rate_hz * positions / SAMPLE_RATE_HZ + rng.uniform(0, 6.28))
    return np.interp(moved, positions, samples).astype(np.float32)


def _to_peak(samples: np.ndarray) -> np.ndarray:
    """Return the samples with a peak of 1; silence stays."""
    return samples * np.float32(1.0 / max(float(np.abs(samples).max(initial=0.0)), 1e-6))
