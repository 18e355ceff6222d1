"""What drums are synthesised from: many damped modes at once, noise of any spectrum, and dice for their parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import numpy as np
from scipy import fft

SAMPLE_RATE_HZ = 44_100
Split = Literal["train", "held_out"]
Spectrum = Callable[[np.ndarray], np.ndarray]
_T = TypeVar("_T")
_SLICES = 12
_HELD_OUT_SLICES = (2, 6, 9)  # of each parameter's range


class Dice:
    """Draws parameters so that no value of a held-out kit may occur in a training kit.

    Every parameter's range is cut in twelve slices, of which three are held out.
    """

    def __init__(self, rng: np.random.Generator, split: Split) -> None:
        self.rng = rng
        self._slices = [number for number in range(_SLICES) if (number in _HELD_OUT_SLICES) == (split == "held_out")]

    def uniform(self, low: float, high: float) -> float:
        """Return a number of the range."""
        share = (self._slices[self.rng.integers(len(self._slices))] + self.rng.random()) / _SLICES
        return low + (high - low) * float(share)

    def log(self, low: float, high: float) -> float:
        """Return a number of the range, each factor as likely as any other."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def gain(self, low_db: float, high_db: float) -> float:
        """Return an amplitude."""
        return float(10 ** (self.uniform(low_db, high_db) / 20))

    def chance(self, share: float) -> bool:
        """Return True for a share of all draws."""
        return bool(self.rng.random() < share)

    def pick(self, choices: Sequence[_T]) -> _T:
        """Return one of them."""
        return choices[int(self.rng.integers(len(choices)))]


def ring(size: int, hz: np.ndarray, amplitude: np.ndarray, decay_s: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Return the sum of damped cosines, (size,) float32; all arguments but the first are (modes,).

    A mode's value at block k and sample j is the product of a factor of each: one product of two matrices.
    """
    block = 1 << max(4, round(math.log2(max(size, 16)) / 2))
    blocks = -(-size // block)
    rates = (2j * np.pi * hz - 1 / decay_s) / SAMPLE_RATE_HZ
    starts = amplitude * np.exp(1j * phase) * _powers(np.exp(rates * block), blocks).T
    steps = _powers(np.exp(rates), block)
    left = np.concatenate([starts.real, -starts.imag], axis=1).astype(np.float32)
    right = np.concatenate([steps.real, steps.imag]).astype(np.float32)
    return (left @ right).ravel()[:size]


def _powers(base: np.ndarray, num: int) -> np.ndarray:
    """Return the powers 0 to num - 1 of each number, (n, num)."""
    factors = np.repeat(base[:, None], num, axis=1)
    factors[:, 0] = 1
    return np.cumprod(factors, axis=1)


def noise(rng: np.random.Generator, size: int, spectrum: Spectrum) -> np.ndarray:
    """Return Gaussian noise whose amplitude follows a spectrum, (size,) float32 of power 1."""
    length = fft.next_fast_len(max(size, 64), real=True)
    gains = spectrum(fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ).astype(np.float32) + 1.0).astype(np.float32)
    drawn = rng.standard_normal((2, gains.size), dtype=np.float32)
    made = fft.irfft(gains * (drawn[0] + 1j * drawn[1]), length)[:size]
    return made / np.float32(math.sqrt(float(np.mean(made**2))) + 1e-9)


def band(low_hz: float, high_hz: float, low_order: float = 2.0, high_order: float = 2.0) -> Spectrum:
    """Return a band with slopes of 6 dB an octave for each order."""
    return lambda hz: (1 + (low_hz / hz) ** (2 * low_order)) ** -0.5 * (1 + (hz / high_hz) ** (2 * high_order)) ** -0.5


def peaked(base: Spectrum, peaks: Sequence[tuple[float, float, float]]) -> Spectrum:
    """Return a spectrum with peaks added: (Hz, gain in dB, width in octaves)."""

    def spectrum(hz: np.ndarray) -> np.ndarray:
        octaves = np.log2(hz)
        total_db = sum(db * np.exp(-(((octaves - math.log2(at)) / width) ** 2)) for at, db, width in peaks)
        return base(hz) * 10 ** (np.asarray(total_db) / 20)

    return spectrum


def fall(size: int, decay_s: float, rise_s: float = 0.0, start_s: float = 0.0) -> np.ndarray:
    """Return an envelope that rises from zero and falls exponentially, (size,) float32."""
    times = np.arange(size, dtype=np.float32) / SAMPLE_RATE_HZ - np.float32(start_s)
    envelope = np.exp(-np.maximum(times, 0) / np.float32(decay_s))
    if rise_s > 0:
        envelope *= 1 - np.exp(-np.maximum(times, 0) / np.float32(rise_s))
    return np.where(times >= 0, envelope, 0).astype(np.float32)


def num_samples(seconds: float) -> int:
    """Return how many samples last so long."""
    return max(64, round(seconds * SAMPLE_RATE_HZ))
