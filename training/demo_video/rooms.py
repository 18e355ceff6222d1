"""Synthetic rooms: what a voice sounds like from a distance, and the noise that is there anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from training.demo_video.synthesis import SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Room:
    """A room as a microphone hears it.

    Attributes:
        reverberation_s: time in which an echo falls by 60 dB.
        direct_db: power of the direct sound over that of all echoes.
        gain_db: loudness of the speaker.
        seed: of its echoes.
    """

    reverberation_s: float
    direct_db: float
    gain_db: float
    seed: int

    def sound(self, samples: np.ndarray) -> np.ndarray:
        """Return the voice in the room; longer by the reverberation. The direct sound keeps its time."""
        rng = np.random.default_rng(self.seed)
        num = round(self.reverberation_s * SAMPLE_RATE_HZ)
        after_s = np.arange(num) / SAMPLE_RATE_HZ
        # Polack's model: noise that decays exponentially, beginning when the first wall has answered
        echoes = rng.standard_normal(num) * 10 ** (-3 * after_s / self.reverberation_s) * (after_s > 0.004)
        echoes *= np.sqrt(10 ** (-self.direct_db / 10) / np.sum(echoes**2))
        response = echoes
        response[0] = 1.0
        return (fftconvolve(samples, response) * 10 ** (self.gain_db / 20)).astype(np.float32)


def pink_noise(num: int, rms: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls by 3 dB an octave, as ventilation and streets do; (num,) float32."""
    spectrum = np.fft.rfft(rng.standard_normal(num))
    hertz = np.fft.rfftfreq(num, 1 / SAMPLE_RATE_HZ)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 20.0)), num)
    return (noise * rms / np.sqrt(np.mean(noise**2))).astype(np.float32)
