"""What rooms, noise and lines do to a window, and what is masked in its spectrogram."""

from __future__ import annotations

import numpy as np

from training.speaker_embedding import augment as acoustics
from training.whisper_micro.speech import SAMPLE_RATE_HZ
from training.whisper_micro.windows import WINDOW_S

_SHARE_NOISY, _SHARE_LOUD = 0.55, 0.3
_SNR_DB, _LOUD_SNR_DB = (15.0, 45.0), (2.0, 15.0)
_SHARE_ROOM, _SHARE_LINE = 0.15, 0.08


class Places:
    """Rooms and noises, made once and used again and again."""

    def __init__(self, rng: np.random.Generator, num_rooms: int = 40, num_noises: int = 16) -> None:
        self._rooms = [acoustics.room_response(rng, (0.1, 0.5)) for _ in range(num_rooms)]
        self._noises = [
            acoustics.coloured_noise(rng, round(1.5 * WINDOW_S * SAMPLE_RATE_HZ)) for _ in range(num_noises)
        ]

    def sound(self, rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
        """Return the samples as they sound at a random place, at a random level; times stay."""
        samples = samples.astype(np.float32)
        if rng.random() < _SHARE_ROOM:
            samples = acoustics.convolve(samples, self._rooms[rng.integers(len(self._rooms))])
        draw = rng.random()
        if draw < _SHARE_LINE / 2:
            samples = acoustics.telephone(rng, samples)
        elif draw < _SHARE_LINE:
            samples = acoustics.low_pass(rng, samples)
        elif draw < 2 * _SHARE_LINE:
            samples = acoustics.equalize(rng, samples)
        if rng.random() < _SHARE_NOISY:
            snr_db = rng.uniform(*(_LOUD_SNR_DB if rng.random() < _SHARE_LOUD else _SNR_DB))
            samples = add_noise(samples, self.noise(rng, samples.size), snr_db)
        peak = max(float(np.abs(samples).max()), 1e-4)
        return samples * min(1.0 / peak, 1.0) * np.float32(10 ** (rng.uniform(-14, 0) / 20))

    def noise(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """Return a stretch of noise of unit power."""
        noise = self._noises[rng.integers(len(self._noises))]
        start = rng.integers(noise.size - num_samples + 1)
        return noise[start : start + num_samples]


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return the sum; the ratio is that of the noise to the parts that are not silent."""
    loud = np.abs(samples) > 1e-4
    speech_rms = acoustics.rms(samples[loud]) if loud.any() else 1e-3
    return (samples + noise * (speech_rms / acoustics.rms(noise) * 10 ** (-snr_db / 20))).astype(np.float32)


def mask(rng: np.random.Generator, mels: np.ndarray) -> None:
    """Overwrite bands and moments of a spectrogram, (mels, frames), with its mean (SpecAugment, Park et al. 2019)."""
    mean = float(mels.mean())
    for _ in range(rng.integers(0, 3)):
        width, start = rng.integers(1, 11), rng.integers(0, mels.shape[0] - 11)
        mels[start : start + width] = mean
    for _ in range(rng.integers(0, 2 + mels.shape[1] // 500)):
        width, start = rng.integers(1, 11), rng.integers(0, max(1, mels.shape[1] - 11))
        mels[:, start : start + width] = mean
