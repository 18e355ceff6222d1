"""Rooms that drums stand in: synthetic impulse responses, without the direct sound."""

from __future__ import annotations

import numpy as np
from scipy import signal
from scipy.fft import irfft, next_fast_len, rfft

from training.drums.kits import SAMPLE_RATE_HZ

_CROSSOVERS_HZ = (400.0, 3000.0)


def reverberation(rng: np.random.Generator) -> np.ndarray:
    """Return what a room, a plate or a gate adds after the direct sound, (n,) float32 of unit energy.

    Early reflections, then noise whose treble dies first; 60 dB down after 0.1 to 1.5 s; the first millisecond is
    empty, so the direct sound stays the onset.
    """
    rt60_s = float(np.clip(np.exp(rng.normal(np.log(0.4), 0.65)), 0.1, 1.5))
    length = int(SAMPLE_RATE_HZ * rt60_s)
    times_s = np.arange(length, dtype=np.float32) / SAMPLE_RATE_HZ
    noise = rng.standard_normal(length, dtype=np.float32)
    low = signal.sosfilt(signal.butter(1, _CROSSOVERS_HZ[0], fs=SAMPLE_RATE_HZ, output="sos"), noise)
    below = signal.sosfilt(signal.butter(1, _CROSSOVERS_HZ[1], fs=SAMPLE_RATE_HZ, output="sos"), noise)
    parts = (low, below - low, noise - below)
    decays_s = (rt60_s * rng.uniform(0.8, 1.3), rt60_s, rt60_s * rng.uniform(0.3, 0.9))
    gains = (rng.uniform(0.6, 2.6), 1.0, rng.uniform(0.15, 0.9))
    tail = np.zeros(length, np.float32)
    for part, decay_s, gain in zip(parts, decays_s, gains, strict=True):
        tail += part.astype(np.float32) * np.exp(-6.9 * times_s / decay_s).astype(np.float32) * np.float32(gain)
    predelay = int(rng.uniform(0.001, 0.025) * SAMPLE_RATE_HZ)
    tail[: min(predelay, length // 2)] = 0.0
    tail /= np.sqrt(np.sum(tail**2)) + 1e-9
    if rng.random() < 0.06:  # a gated reverb, as on snares of the eighties
        tail[times_s > rng.uniform(0.1, 0.25)] = 0.0
    for _ in range(rng.integers(2, 14)):
        delay_s = rng.uniform(0.0015, 0.04)
        position = int(delay_s * SAMPLE_RATE_HZ)
        if position < length:
            tail[position] += rng.choice([-1.0, 1.0]) * rng.uniform(0.05, 0.35) * np.exp(-delay_s / 0.03)
    return tail / np.float32(np.sqrt(np.sum(tail**2)) + 1e-9)


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return the samples through the response: same length, float32, in blocks of the transform's own precision."""
    size = next_fast_len(8 * len(response), real=True) if len(samples) > 8 * len(response) else 0
    if not size:
        size = next_fast_len(len(samples) + len(response) - 1, real=True)
    step = size - len(response) + 1
    spectrum = rfft(response, size)
    wet = np.zeros(len(samples) + size, np.float32)
    for start in range(0, len(samples), step):
        wet[start : start + size] += irfft(rfft(samples[start : start + step], size) * spectrum, size)
    return wet[: len(samples)]
