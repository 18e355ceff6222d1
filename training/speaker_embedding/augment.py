"""What rooms, lines and machines do to a voice, on waveforms.

All functions take and return (samples,) float32 at 16 kHz; the random generator is an argument, so a seed fixes the
result. Noise is made, not recorded: nothing but the speakers' folder is needed.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import signal

SAMPLE_RATE_HZ = 16_000


def rms(samples: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Return the samples played `speed` times as fast: shorter, and higher in pitch and formants alike."""
    ratio = round(100 * speed)
    divisor = math.gcd(100, ratio)
    return signal.resample_poly(samples, 100 // divisor, ratio // divisor).astype(np.float32)


def room_response(rng: np.random.Generator, rt60_s: tuple[float, float] = (0.15, 0.8)) -> np.ndarray:
    """Return a room's impulse response: a direct path, some early reflections, an exponentially decaying tail.

    The tail decays 60 dB in `rt60_s` (drawn from the range) and loses its treble as walls do.
    """
    decay_s = rng.uniform(*rt60_s)
    length = int(SAMPLE_RATE_HZ * min(decay_s, 0.8))
    times_s = np.arange(length) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(length) * np.exp(-6.9 * times_s / decay_s)
    tail = signal.lfilter([1.0 - (pole := rng.uniform(0.2, 0.7))], [1.0, -pole], tail)
    tail[: int(0.002 * SAMPLE_RATE_HZ)] = 0.0
    for _ in range(rng.integers(3, 9)):
        tail[rng.integers(20, 600)] += rng.uniform(-1.0, 1.0) * 2.0
    # The ratio of direct to reverberant energy says how far away the microphone stands.
    direct_db = rng.uniform(-4.0, 12.0)
    response = tail / (np.sqrt(np.sum(tail**2)) + 1e-9) * 10.0 ** (-direct_db / 20.0)
    response[0] = 1.0
    return response.astype(np.float32)


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return the samples in that room: same length, same RMS."""
    wet = signal.fftconvolve(samples, response)[: samples.size].astype(np.float32)
    return wet * (rms(samples) / rms(wet))


def coloured_noise(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return noise of unit RMS whose spectrum falls by a random slope, with hum and slow swells now and then."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    freqs_hz = np.maximum(np.fft.rfftfreq(num_samples, 1.0 / SAMPLE_RATE_HZ), 30.0)
    slope = rng.uniform(0.0, 1.3)
    noise = np.fft.irfft(spectrum * freqs_hz**-slope, num_samples)
    noise /= rms(noise)
    times_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    if rng.random() < 0.3:
        noise += rng.uniform(0.2, 0.8) * np.sin(2 * np.pi * rng.choice([50.0, 60.0, 100.0, 120.0]) * times_s)
    if rng.random() < 0.4:
        noise *= 1.0 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.1, 3.0) * times_s + rng.uniform(0, 6.28))
    return (noise / rms(noise)).astype(np.float32)


def babble(rng: np.random.Generator, voices: list[np.ndarray], num_samples: int, num_voices: int = 5) -> np.ndarray:
    """Return several voices at once, of unit RMS."""
    total = np.zeros(num_samples, np.float32)
    for index in rng.integers(0, len(voices), num_voices):
        voice = voices[index]
        total += np.resize(np.roll(voice, rng.integers(voice.size)), num_samples) / rms(voice)
    return total / rms(total)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return the sum at that ratio of RMS."""
    return (samples + noise * (rms(samples) / rms(noise) * 10.0 ** (-snr_db / 20.0))).astype(np.float32)


def equalize(rng: np.random.Generator, samples: np.ndarray, depth_db: float = 8.0) -> np.ndarray:
    """Return the samples through a smooth random frequency response: another microphone."""
    knots_hz = np.array([0.0, 150.0, 400.0, 900.0, 1800.0, 3200.0, 5200.0, 8000.0])
    gains_db = np.clip(rng.normal(0.0, depth_db / 2.0, knots_hz.size), -depth_db, depth_db)
    taps = signal.firwin2(257, knots_hz, 10.0 ** (gains_db / 20.0), fs=SAMPLE_RATE_HZ)
    return signal.oaconvolve(samples, taps, mode="same").astype(np.float32)


def telephone(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Return the samples after a telephone line: band limit, 8 kHz, mu-law (8 bit) and the line's noise."""
    low_hz, high_hz = rng.uniform(120.0, 420.0), rng.uniform(2900.0, 3750.0)
    narrow = signal.resample_poly(samples, 1, 2)
    sos = signal.butter(int(rng.integers(2, 5)), [low_hz, high_hz], "bandpass", fs=8000, output="sos")
    narrow = signal.sosfilt(sos, narrow)
    narrow /= max(float(np.abs(narrow).max()), 1e-6)
    drive = rng.uniform(0.3, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 2.5)  # now and then it clips
    narrow = np.clip(narrow * drive, -1.0, 1.0)
    narrow = narrow + rng.standard_normal(narrow.size) * rms(narrow) * 10.0 ** (-rng.uniform(18.0, 45.0) / 20.0)
    coded = np.sign(narrow) * np.log1p(255.0 * np.abs(narrow)) / np.log1p(255.0)
    coded = np.round(np.clip(coded, -1.0, 1.0) * 127.0) / 127.0
    narrow = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(255.0)) / 255.0
    wide = signal.resample_poly(narrow, 2, 1)[: samples.size].astype(np.float32)
    return wide * (rms(samples) / rms(wide))


def low_pass(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Return the samples with the treble cut somewhere between 3 and 7 kHz, as low bit rates do."""
    sos = signal.butter(8, rng.uniform(3000.0, 7000.0), fs=SAMPLE_RATE_HZ, output="sos")
    return signal.sosfilt(sos, samples).astype(np.float32)


def compress(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Return the samples after a limiter: a soft clip at a random level."""
    level = rms(samples) * rng.uniform(1.5, 6.0)
    return (np.tanh(samples / level) * level).astype(np.float32)
