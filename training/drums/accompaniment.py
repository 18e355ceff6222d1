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
    parts = [part for part in (_bass, _chords, _melody, _voice) if rng.random() < 0.5] or [_bass]
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
    if not plucked:
        return note * rise * fall
    note = note * rise * fall * np.exp(-times_s / np.float32(rng.uniform(0.15, 1.0)))
    pick = rng.standard_normal(min(len(note), 600), dtype=np.float32)  # finger or plectrum on the string
    note[: len(pick)] += (
        pick
        * np.exp(-np.arange(len(pick), dtype=np.float32) / 120)
        * rise[: len(pick)]
        * np.float32(brightness * rng.uniform(0.0, 0.3))
    )
    return note


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


def _voice(
    rng: np.random.Generator, beats_s: np.ndarray, num_samples: int, key: int, scale: tuple[int, ...]
) -> np.ndarray:
    """Return syllables: hissed consonants that rise softly, and vowels; sibilants are what a hi-hat is taken for."""
    line = np.zeros(num_samples, np.float32)
    hiss = rng.standard_normal(SAMPLE_RATE_HZ, dtype=np.float32)
    sos = signal.butter(
        2, [rng.uniform(3500, 5500), rng.uniform(7500, 11_000)], "bandpass", fs=SAMPLE_RATE_HZ, output="sos"
    )
    hiss = signal.sosfilt(sos, hiss).astype(np.float32)
    hiss /= np.float32(np.std(hiss))
    for index, beat_s in enumerate(beats_s[:-1]):
        for share in (0.0, 0.5):
            if rng.random() < 0.5:
                continue
            time_s = beat_s + share * float(beats_s[index + 1] - beat_s) + rng.normal(0, 0.03)
            if rng.random() < 0.5:
                size = int(rng.uniform(0.06, 0.16) * SAMPLE_RATE_HZ)
                start = int(rng.integers(len(hiss) - size))
                swell = np.hanning(size).astype(np.float32) * np.float32(rng.uniform(0.05, 0.25))
                _place(line, hiss[start : start + size] * swell, time_s - 0.1)
            length_s = rng.uniform(0.1, 0.5)
            _place(line, tone(rng, key + 24 + int(rng.choice(scale)), length_s, 0.5, plucked=False), time_s)
    return line


def _place(line: np.ndarray, note: np.ndarray, time_s: float) -> None:
    start = max(round(time_s * SAMPLE_RATE_HZ), 0)
    kept = note[: max(len(line) - start, 0)]
    line[start : start + len(kept)] += kept
