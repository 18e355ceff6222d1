"""Drum kits to play songs on."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from training.drums.articulations import ARTICULATIONS

Split = Literal["train", "held_out"]
SAMPLE_RATE_HZ = 44_100


class Kit(Protocol):
    """A drum kit that stands in one place: each of its drums sounds alike from stroke to stroke, never the same.

    Attributes:
        name: what it is made of.
        articulations: all that it can play; kits of this package play all of `ARTICULATIONS`.
    """

    name: str
    articulations: frozenset[str]

    def stroke(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return one stroke, (n,) float32 mono at 44.1 kHz with the attack within 3 ms of its first sample.

        Args:
            rng: draws what differs from one stroke to the next.
            articulation: one of `articulations`.
            velocity: in (0, 1]; a harder stroke is louder and brighter. Drums keep their natural balance: at velocity 1
                the kit's loudest drums peak near full scale.
        """


def make_kit(rng: np.random.Generator, split: Split) -> Kit:
    """Return a kit that was not heard before, of the split's own sources."""
    return _CrudeKit(rng, split)


def held_out_kits() -> list[Kit]:
    """Return fixed kits whose sounds no kit of the split "train" shares."""
    return [_CrudeKit(np.random.default_rng(seed), "held_out") for seed in range(4)]


# frequency in Hz, decay time of the tone and of the noise in s, share of noise, high-pass of the noise in Hz, level
_CRUDE = {
    "kick": (60, 0.12, 0.01, 0.2, 1000, 1.0),
    "snare": (190, 0.06, 0.09, 0.7, 1500, 0.9),
    "snare_rim": (240, 0.05, 0.07, 0.6, 2500, 0.9),
    "snare_brush": (200, 0.02, 0.1, 0.9, 1000, 0.3),
    "side_stick": (900, 0.02, 0.01, 0.3, 2000, 0.5),
    "hihat_closed": (8000, 0.02, 0.03, 0.9, 6000, 0.3),
    "hihat_half": (8000, 0.05, 0.15, 0.9, 6000, 0.4),
    "hihat_open": (8000, 0.1, 0.4, 0.9, 5000, 0.4),
    "hihat_pedal": (6000, 0.02, 0.03, 0.9, 4000, 0.2),
    "ride": (3400, 0.3, 0.9, 0.6, 3000, 0.3),
    "ride_bell": (1900, 0.6, 0.6, 0.3, 3000, 0.4),
    "crash": (700, 0.5, 1.0, 0.9, 1500, 0.6),
    "splash": (900, 0.2, 0.35, 0.9, 2500, 0.5),
    "china": (500, 0.2, 0.6, 0.9, 1000, 0.6),
    "tom_high": (180, 0.2, 0.02, 0.2, 500, 0.8),
    "tom_mid": (130, 0.25, 0.02, 0.2, 500, 0.8),
    "tom_low": (85, 0.3, 0.02, 0.2, 500, 0.9),
    "clap": (1200, 0.01, 0.08, 0.98, 900, 0.5),
    "tambourine": (9000, 0.05, 0.1, 0.8, 6000, 0.3),
    "cowbell": (560, 0.15, 0.01, 0.1, 2000, 0.4),
    "shaker": (7000, 0.01, 0.05, 0.98, 5000, 0.2),
    "woodblock": (1100, 0.03, 0.01, 0.1, 2000, 0.4),
    "conga": (280, 0.12, 0.01, 0.1, 1000, 0.5),
    "other": (1500, 0.2, 0.05, 0.3, 1000, 0.3),
}


class _CrudeKit:
    """Decaying tones and noise: what B and C can begin with."""

    def __init__(self, rng: np.random.Generator, split: Split) -> None:
        self.name = f"crude:{split}"
        self.articulations = frozenset(ARTICULATIONS)
        self._tuning = {name: float(rng.uniform(0.8, 1.25)) for name in ARTICULATIONS}
        self._decay = {name: float(rng.uniform(0.7, 1.4)) for name in ARTICULATIONS}

    def stroke(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return one stroke."""
        tone_hz, tone_s, noise_s, share, cutoff_hz, level = _CRUDE[articulation]
        decay = self._decay[articulation]
        times = np.arange(round(6 * decay * max(tone_s, noise_s) * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        pitch_hz = tone_hz * self._tuning[articulation] * (1 + 0.8 * np.exp(-times / 0.02) * (tone_hz < 400))
        tone = np.sin(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ) * np.exp(-times / tone_s / decay)
        spectrum = np.fft.rfft(rng.standard_normal(times.size))
        frequencies = np.fft.rfftfreq(times.size, 1 / SAMPLE_RATE_HZ)
        noise = np.fft.irfft(spectrum * (frequencies > cutoff_hz), times.size) * np.exp(-times / noise_s / decay)
        mixed = (1 - share) * tone + share * (0.3 + 0.3 * velocity) * noise
        return (mixed * (level * velocity**1.5 / max(np.abs(mixed).max(), 1e-9))).astype(np.float32)
