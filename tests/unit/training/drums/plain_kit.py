"""A kit of decaying tones and noise, quick to make."""

from __future__ import annotations

import numpy as np

from training.drums.articulations import ARTICULATIONS, LABEL_OF

_SOUNDS = {  # frequency in Hz, decay in s, share of noise
    "kick": (60, 0.1, 0.2), "snare": (190, 0.08, 0.7), "hihat": (8000, 0.04, 0.9), "tom": (110, 0.2, 0.2),
    "cymbal": (5000, 0.5, 0.9), "percussion": (700, 0.05, 0.2),
}  # fmt: skip


class PlainKit:
    """Every stroke begins at its first sample, at its loudest."""

    name = "plain"
    articulations = frozenset(ARTICULATIONS)

    def stroke(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return one stroke."""
        tone_hz, decay_s, share = _SOUNDS[LABEL_OF[articulation]]
        if articulation == "hihat_open":
            decay_s = 0.5
        times_s = np.arange(int(6 * decay_s * 44_100)) / 44_100
        tone = np.cos(2 * np.pi * tone_hz * times_s)
        noise = np.diff(rng.standard_normal(times_s.size + 1)) / 2
        return (velocity**1.5 * ((1 - share) * tone + share * noise) * np.exp(-times_s / decay_s)).astype(np.float32)
