"""`read_tables`: harmonic tones whose spectrum changes with time, and envelopes.

A tone is a row of single-cycle waves, made from its harmonics by an inverse Fourier transform; reading blends two
neighbouring waves and two neighbouring samples. No harmonic lies above `TOP_HZ`, so that nothing folds back.
"""

from __future__ import annotations

import numpy as np

RATE = 44_100
TOP_HZ = 14_000.0
_FRAMES = 48
_MOST_HARMONICS = 64


def num_harmonics(hz: float) -> int:
    """Return how many harmonics of a tone are kept."""
    return max(1, min(_MOST_HARMONICS, int(TOP_HZ / hz)))


def frame_times(seconds: float) -> np.ndarray:
    """Return the times of the waves, (frames,) in seconds: closer together at the beginning."""
    return seconds * np.linspace(0.0, 1.0, _FRAMES) ** 2


def read_tables(spectra: np.ndarray, cycles: np.ndarray, seed: int) -> np.ndarray:
    """Return a tone.

    Args:
        spectra: (frames, harmonics), amplitudes at `frame_times` of the tone's length.
        cycles: (n,) float64, the phase in cycles.
        seed: of the harmonics' phases.

    Returns:
        (n,) float32.
    """
    frames, harmonics = spectra.shape
    size = 1 << max(5, (4 * harmonics - 1).bit_length())
    phases = np.exp(2j * np.pi * np.random.default_rng(seed).random(harmonics))
    bins = np.zeros((frames, size // 2 + 1), dtype=np.complex128)
    bins[:, 1 : harmonics + 1] = spectra * phases * (size / 2)
    waves = np.empty((frames + 1, size + 1), dtype=np.float32)  # the last column and row are read by blending only
    waves[:-1, :-1] = np.fft.irfft(bins, size)
    waves[:-1, -1], waves[-1] = waves[:-1, 0], waves[-2]
    place = np.sqrt(np.linspace(0.0, 1.0, len(cycles), dtype=np.float32)) * np.float32(frames - 1)
    row = place.astype(np.int32)
    place -= row
    column = ((cycles % 1.0) * size).astype(np.float32)
    np.minimum(column, np.float32(size - 0.001), out=column)
    start = column.astype(np.int32)
    column -= start
    flat, width = waves.ravel(), np.int32(size + 1)
    start += row * width
    first = flat[start]
    first += (flat[start + 1] - first) * column
    start += width
    second = flat[start]
    second += (flat[start + 1] - second) * column
    return first + (second - first) * place


def steady_cycles(hz: float, num_samples: int) -> np.ndarray:
    """Return the phase of a tone of constant pitch, (n,) float64 in cycles."""
    return np.arange(num_samples) * (hz / RATE)


def vibrato_cycles(
    hz: float, num_samples: int, *, cents: float, rate_hz: float, delay_s: float, phase: float = 0.0
) -> np.ndarray:
    """Return the phase of a tone with vibrato, which grows after `delay_s`."""
    seconds = np.arange(num_samples) / RATE
    depth = hz * (2 ** (cents / 1200) - 1) * np.clip((seconds - delay_s) / 0.4, 0.0, 1.0)
    turn = 2 * np.pi * rate_hz
    # the integral of a slowly growing sine, but for terms that can't be heard
    return hz * seconds - depth / turn * (np.cos(turn * seconds + phase) - np.cos(phase))


def envelope(num_samples: int, held_s: float, attack_s: float, release_s: float) -> np.ndarray:
    """Return a gain, (n,) float32: a smooth attack, one until `held_s`, then a smooth release to zero."""
    gain = np.ones(num_samples, dtype=np.float32)
    rise = min(max(2, round(attack_s * RATE)), num_samples)
    gain[:rise] = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, rise, dtype=np.float32))
    start = min(round(held_s * RATE), num_samples - 2)
    fall = np.linspace(0, 1, min(num_samples - start, max(2, round(release_s * RATE))), dtype=np.float32)
    gain[start : start + len(fall)] *= (1 - fall) ** 2 * (1 + 2 * fall)
    gain[start + len(fall) :] = 0
    return gain


def noise(seconds: float, low_hz: float, high_hz: float, seed: int) -> np.ndarray:
    """Return noise of a band, (n,) float32, about 1 at its peaks."""
    count = max(16, round(seconds * RATE))
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / RATE)
    spectrum *= 1 / np.sqrt(1 + (hz / high_hz) ** 6) * np.sqrt(1 / (1 + (low_hz / np.maximum(hz, 1e-3)) ** 6))
    sound = np.fft.irfft(spectrum, count)
    return (sound / max(1e-9, float(np.abs(sound).max()))).astype(np.float32)
