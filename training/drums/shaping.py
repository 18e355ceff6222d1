"""What makes another drum of the same recording: tuning, damping, attack, tone, saturation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import soxr
from scipy import signal

from training.drums.recordings import SAMPLE_RATE_HZ, level_db

_LONGEST_S = 3.2
_TAIL_ENERGY = 1e-6  # of a stroke's energy: where it ends
_FADE = 400


def shelf(hz: float, gain_db: float) -> np.ndarray:
    """Return a high shelf as one second-order section (Audio EQ Cookbook, slope 1)."""
    a = 10 ** (gain_db / 40)
    w = 2 * math.pi * min(hz, 20_000) / SAMPLE_RATE_HZ
    cos, alpha = math.cos(w), math.sin(w) / math.sqrt(2)
    root = 2 * math.sqrt(a) * alpha
    b = (a * ((a + 1) + (a - 1) * cos + root), -2 * a * ((a - 1) + (a + 1) * cos), a * ((a + 1) + (a - 1) * cos - root))
    c = ((a + 1) - (a - 1) * cos + root, 2 * ((a - 1) - (a + 1) * cos), (a + 1) - (a - 1) * cos - root)
    return np.array([*b, *c]) / c[0]


def peak(hz: float, gain_db: float, quality: float) -> np.ndarray:
    """Return a peak or a dip as one second-order section (Audio EQ Cookbook)."""
    a = 10 ** (gain_db / 40)
    w = 2 * math.pi * min(hz, 20_000) / SAMPLE_RATE_HZ
    alpha = math.sin(w) / (2 * quality)
    b = (1 + alpha * a, -2 * math.cos(w), 1 - alpha * a)
    c = (1 + alpha / a, -2 * math.cos(w), 1 - alpha / a)
    return np.array([*b, *c]) / c[0]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a drum is changed.

    Attributes:
        tune: factor of all its frequencies; it gets as much shorter.
        damping_s: time in which a decay of its own takes it down by 8.7 dB; negative lengthens; infinite leaves it.
        attack_db: of its first `attack_s`, beside the rest.
        sections: of filters, (n, 6).
        drive: of a soft clipper; 0 leaves it.
        softness_db: loss of highs from a stroke at full velocity to the softest, of sounds that have no own.
    """

    tune: float = 1.0
    damping_s: float = math.inf
    attack_db: float = 0.0
    attack_s: float = 0.01
    sections: tuple[tuple[float, ...], ...] = ()
    drive: float = 0.0
    softness_db: float = 0.0

    def varied(self, rng: np.random.Generator) -> Shape:
        """Return it as it is for one stroke: a little out of tune, struck at another place."""
        place = peak(rng.uniform(300, 6000), rng.normal(0, 1.3), 0.7)
        return replace(
            self,
            tune=self.tune * math.exp(rng.normal(0, 0.003)),
            attack_db=self.attack_db + rng.normal(0, 0.7),
            sections=(*self.sections, tuple(place)),
        )

    def apply(self, samples: np.ndarray, *, softer: float = 0.0) -> np.ndarray:
        """Return the stroke shaped, (n,) float32, its loudest 20 ms at 0 dB.

        Args:
            samples: at 44.1 kHz, beginning with the stroke.
            softer: how much softer it is than what was recorded, 0 to 1.
        """
        samples = samples[: round(_LONGEST_S * self.tune * SAMPLE_RATE_HZ)]
        if abs(self.tune - 1) > 1e-4:
            samples = soxr.resample(samples, SAMPLE_RATE_HZ * self.tune, SAMPLE_RATE_HZ, quality="MQ")
        sections = list(self.sections)
        if softer * self.softness_db > 0.2:
            sections.append(tuple(shelf(2500.0, -softer * self.softness_db)))
        shaped = signal.sosfilt(np.array(sections), samples) if sections else samples
        shaped = shaped.astype(np.float32)
        times = np.arange(shaped.size, dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)
        if math.isfinite(self.damping_s):
            # what dies away can be held back only as far as its noise stays below it
            shaped *= np.minimum(np.exp(-times / np.float32(self.damping_s)), np.float32(4.0))
        if abs(self.attack_db) > 0.1:
            attack = times[: round(8 * self.attack_s * SAMPLE_RATE_HZ)] / np.float32(self.attack_s)
            shaped[: attack.size] *= np.exp(np.float32(self.attack_db * math.log(10) / 20) * np.exp(-attack))
        if self.drive > 0:
            shaped = np.tanh(shaped * np.float32(self.drive / max(float(np.abs(shaped).max()), 1e-9)))
        return _ended(shaped)


def draw_shape(
    rng: np.random.Generator, hz: tuple[float, float], *, depth: float = 1.0, tune: float | None = None
) -> Shape:
    """Return a shape for a drum that sounds between two frequencies.

    Args:
        rng: draws it.
        hz: where its tone is changed.
        depth: 0 leaves the drum as it is, 1 makes another of it.
        tune: given where drums are tuned together.
    """
    if tune is None:
        tune = math.exp(rng.uniform(math.log(0.75), math.log(1.35)) * depth)
    sections = [shelf(math.exp(rng.uniform(*np.log(hz))), rng.normal(0, 4) * depth)]
    for _ in range(rng.integers(0, 4)):
        at = math.exp(rng.uniform(*np.log(hz)))
        sections.append(peak(at, rng.normal(0, 4.5) * depth, rng.uniform(0.6, 4)))
    draw, damping_s = rng.random(), math.inf
    if draw < 0.4 * depth:
        damping_s = math.exp(rng.uniform(math.log(0.05), math.log(1.0)))
    elif draw < 0.55 * depth:
        damping_s = -math.exp(rng.uniform(math.log(0.3), math.log(2.0)))
    return Shape(
        tune,
        damping_s,
        attack_db=rng.normal(0, 3) * depth,
        attack_s=math.exp(rng.uniform(math.log(0.004), math.log(0.03))),
        sections=tuple(tuple(section) for section in sections),
        drive=rng.uniform(0.8, 4) if rng.random() < 0.15 * depth else 0.0,
        softness_db=rng.uniform(2, 14),
    )


def dulled(samples: np.ndarray, hz: float = 2500.0) -> np.ndarray:
    """Return the stroke without its highs, at the same level."""
    pole = math.exp(-2 * math.pi * hz / SAMPLE_RATE_HZ)
    dull = signal.lfilter([1 - pole], [1, -pole], samples).astype(np.float32)
    return dull * np.float32(10 ** ((level_db(samples) - level_db(dull)) / 20))


def _ended(samples: np.ndarray) -> np.ndarray:
    blocks = np.add.reduceat(samples**2, np.arange(0, samples.size, _FADE), dtype=np.float64)[::-1].cumsum()
    end = samples.size - _FADE * int(np.searchsorted(blocks, _TAIL_ENERGY * blocks[-1]))
    cut = samples[: max(end, 2 * _FADE)] * np.float32(10 ** (-level_db(samples) / 20))
    fade = min(_FADE, cut.size // 2)
    cut[cut.size - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return cut
