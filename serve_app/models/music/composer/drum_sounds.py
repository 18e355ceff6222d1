"""`drum_sound`: one stroke of a drum, from tones and filtered noise."""

from __future__ import annotations

import functools

import numpy as np

from serve_app.models.music.composer.rhythm import (
    CLAP,
    CLOSED_HAT,
    CRASH,
    HIGH_TOM,
    KICK,
    LOW_TOM,
    OPEN_HAT,
    RIDE,
    RIM,
    SHAKER,
    SNARE,
)
from serve_app.models.music.composer.wavetable import RATE, TOP_HZ, noise

_TAIL_S = 0.01

# Tone: Hz at the stroke and at the end, decay per second, level. Noise: band in Hz, decay per second, level. Seconds.
_SOUNDS: dict[int, tuple[tuple[float, float, float, float], tuple[float, float, float, float], float]] = {
    KICK: ((150, 48, 9, 1.0), (800, 4000, 180, 0.12), 0.4),
    RIM: ((1700, 1650, 60, 0.35), (1200, 6000, 90, 0.3), 0.1),
    SNARE: ((240, 185, 22, 0.5), (900, 9000, 17, 0.55), 0.28),
    CLAP: ((900, 900, 90, 0.0), (900, 5000, 22, 0.6), 0.22),
    CLOSED_HAT: ((0, 0, 1, 0.0), (7000, TOP_HZ, 55, 0.35), 0.09),
    OPEN_HAT: ((0, 0, 1, 0.0), (6000, TOP_HZ, 9, 0.3), 0.45),
    SHAKER: ((0, 0, 1, 0.0), (5000, 11000, 40, 0.22), 0.1),
    LOW_TOM: ((170, 95, 9, 0.9), (300, 3000, 60, 0.12), 0.4),
    HIGH_TOM: ((240, 150, 10, 0.85), (300, 3000, 60, 0.12), 0.35),
    CRASH: ((0, 0, 1, 0.0), (3500, TOP_HZ, 3.2, 0.28), 1.6),
    RIDE: ((5200, 5190, 9, 0.05), (5500, TOP_HZ, 11, 0.16), 0.5),
}
_PANS = {
    CLOSED_HAT: 0.3, OPEN_HAT: 0.3, SHAKER: -0.35, RIDE: -0.3, CRASH: 0.25, HIGH_TOM: 0.25, LOW_TOM: -0.25, RIM: -0.1,
}  # fmt: skip


def pan_of(drum: int) -> float:
    """Return where a drum stands, -1 (left) to 1 (right)."""
    return _PANS.get(drum, 0.0)


@functools.lru_cache(maxsize=32)
def drum_sound(drum: int, variant: int) -> np.ndarray:
    """Return a stroke, (n, 2) float32 at `RATE`, about 0.5 at its peak; `variant`: another noise."""
    (first_hz, last_hz, decay, level), (low, high, noise_decay, noise_level), length = _SOUNDS[drum]
    seconds = np.arange(round(length * RATE)) / RATE
    hz = last_hz + (first_hz - last_hz) * np.exp(-seconds * 30)
    tone = level * np.exp(-decay * seconds) * np.sin(2 * np.pi * np.cumsum(hz) / RATE)
    hiss = noise(length, low, high, seed=100 * drum + variant)[: len(seconds)] * np.exp(-noise_decay * seconds)
    if drum == CLAP:  # several hands
        late = sum(np.where(seconds >= at, np.exp(-120 * np.maximum(0, seconds - at)), 0) for at in (0, 0.011, 0.023))
        hiss *= 0.5 + late / 2
    sound = tone + noise_level * hiss
    sound[:44] *= np.linspace(0, 1, 44)
    tail = round(_TAIL_S * RATE)
    sound[-tail:] *= np.linspace(1, 0, tail)
    return np.repeat((0.5 * sound).astype(np.float32)[:, None], 2, axis=1)
