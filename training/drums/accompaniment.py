"""Other instruments that leak into drum tracks: bass lines, chords and plucked notes, in time with the beats."""

from __future__ import annotations

import numpy as np
from scipy import signal

from training.drums.kits import SAMPLE_RATE_HZ

_MINOR_PENTATONIC, _MAJOR = (0, 3, 5, 7, 10, 12), (0, 2, 4, 5, 7, 9, 11, 12)


def accompany(rng: np.random.Generator, beats_s: np.ndarray, num_samples: int) -> np.ndarray:
    """Return some pitched instruments that play along, (n,) float32 with an RMS of 1 (0 where no beat falls in)."""
    total = np.zeros(num_samples, np.float32)
    if len(beats_s) < 2:
        return total
    scale = _MINOR_PENTATONIC if rng.random() < 0.5 else _MAJOR
    key = int(rng.integers(28, 40))
    parts = [part for part in (_bass, _chords, _melody) if rng.random() < 0.6] or [_bass]
    for part in parts:
        line = part(rng, beats_s, num_samples, key, scale)
        deviation = float(np.std(line))
        if deviation > 0:
            total += line * np.float32(rng.uniform(0.3, 1.0) / deviation)
    deviation = float(np.std(total))
    return total / np.float32(deviation) if deviation > 0 else total


def tone(rng: np.random.Generator, midi: float, length_s: float, brightness: float, *, plucked: bool) -> np.ndarray:
    """Return a note of a few partials that decays (plucked) or is held, (n,) float32."""
    times_s = np.arange(int(length_s * SAMPLE_RATE_HZ), dtype=np.float32) / SAMPLE_RATE_HZ
    pitch_hz = 440 * 2 ** ((midi - 69) / 12)
    phase = np.float32(2 * np.pi * pitch_hz) * times_s
    count = int(np.clip(brightness * 4000 / pitch_hz, 1, 10))
    note = np.zeros_like(times_s)
    for partial in range(1, count + 1):
        note += np.float32(rng.uniform(0.5, 1.0) / partial**1.2) * np.sin(partial * phase)
    rise = np.minimum(times_s / np.float32(0.004 if plucked else rng.uniform(0.01, 0.15)), 1)
    fall = np.minimum((times_s[-1:] - times_s) / np.float32(0.03), 1)
    return note * rise * fall * (np.exp(-times_s / np.float32(rng.uniform(0.15, 1.0))) if plucked else 1)


def _bass(
    rng: np.random.Generator, beats_s: np.ndarray, num_samples: int, key: int, scale: tuple[int, ...]
) -> np.ndarray:
    line = np.zeros(num_samples, np.float32)
    division = int(rng.choice([1, 2, 4], p=[0.4, 0.45, 0.15]))
    density, brightness = rng.uniform(0.4, 1.0), rng.uniform(0.05, 0.4)
    for index, beat_s in enumerate(beats_s[:-1]):
        gap_s = float(beats_s[index + 1] - beat_s) / division
        for step in range(division):
            if rng.random() < density:
                note = tone(rng, key + int(rng.choice(scale)), gap_s * rng.uniform(0.6, 1.2), brightness, plucked=True)
                _place(line, note, beat_s + step * gap_s + rng.normal(0, 0.008))
    return line


def _chords(
    rng: np.random.Generator, beats_s: np.ndarray, num_samples: int, key: int, scale: tuple[int, ...]
) -> np.ndarray:
    line = np.zeros(num_samples, np.float32)
    hold, plucked = int(rng.choice([1, 2, 4])), bool(rng.random() < 0.5)
    for index in range(0, len(beats_s) - 1, hold):
        last = min(index + hold, len(beats_s) - 1)
        root = key + 24 + int(rng.choice(scale))
        for interval in (0, int(rng.choice([3, 4])), 7):
            note = tone(rng, root + interval, float(beats_s[last] - beats_s[index]), 0.4, plucked=plucked)
            _place(line, note, beats_s[index] + rng.normal(0, 0.01))
    if rng.random() < 0.3:  # an overdriven guitar
        line = np.tanh(line * 4)
    return line


def _melody(
    rng: np.random.Generator, beats_s: np.ndarray, num_samples: int, key: int, scale: tuple[int, ...]
) -> np.ndarray:
    line = np.zeros(num_samples, np.float32)
    for index, beat_s in enumerate(beats_s[:-1]):
        gap_s = float(beats_s[index + 1] - beat_s)
        if rng.random() < 0.6:
            midi = key + 36 + int(rng.choice(scale))
            note = tone(rng, midi, gap_s * rng.uniform(0.5, 2.0), 1.0, plucked=bool(rng.random() < 0.6))
            _place(line, note, beat_s + float(rng.choice([0.0, 0.5])) * gap_s + rng.normal(0, 0.01))
    cutoff_hz = rng.uniform(1500, 8000)
    sos = signal.butter(1, cutoff_hz, fs=SAMPLE_RATE_HZ, output="sos")
    return signal.sosfilt(sos, line).astype(np.float32)


def _place(line: np.ndarray, note: np.ndarray, time_s: float) -> None:
    start = max(round(time_s * SAMPLE_RATE_HZ), 0)
    kept = note[: max(len(line) - start, 0)]
    line[start : start + len(kept)] += kept
