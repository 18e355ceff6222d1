"""`LogMel`: Whisper's log-mel spectrogram in numpy, equal to faster-whisper's and several times faster.

Only a piece's own samples are transformed; the rest of the 30-s window is 0.0, as in faster-whisper and in
openai-whisper's `transcribe`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from serve_app.results import SAMPLE_RATE_HZ

HOP = 160  # samples, 10 ms
NUM_FRAMES = 3000  # 30 s
_FFT = 400  # samples, 25 ms
_FLOOR = 1e-10
_RANGE = 8.0  # powers of ten below the loudest bin of the piece


class LogMel:
    """Computes a network's input with 80 mel bins, or 128 from large-v3 on."""

    def __init__(self, num_mel_bins: int) -> None:
        filters = FeatureExtractor.get_mel_filters(SAMPLE_RATE_HZ, _FFT, n_mels=num_mel_bins)
        self._filters = np.ascontiguousarray(filters.T, dtype=np.float32)  # (bins, mels)
        self._window = np.hanning(_FFT + 1)[:-1].astype(np.float32)

    def batch(self, pieces: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (pieces, mels, 3000), C-contiguous; each piece has 400 to 480,000 samples."""
        features = np.zeros((len(pieces), self._filters.shape[1], NUM_FRAMES), dtype=np.float32)
        for row, samples in zip(features, pieces, strict=True):
            mels = self.piece(samples)[:, :NUM_FRAMES]
            row[:, : mels.shape[1]] = mels
        return features

    def piece(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (mels, n // 160)."""
        # as in faster-whisper, one more frame of silence counts for the loudest bin, and is dropped
        padded = np.pad(np.pad(samples, (0, HOP)), _FFT // 2, mode="reflect")
        frames = sliding_window_view(padded, _FFT)[::HOP][:-1] * self._window  # (frames, 400)
        spectrum = scipy.fft.rfft(frames, axis=-1, overwrite_x=True)  # complex64
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        mels = power @ self._filters  # (frames, mels)
        np.maximum(mels, _FLOOR, out=mels)
        np.log10(mels, out=mels)
        np.maximum(mels, mels.max() - _RANGE, out=mels)
        mels += 4.0
        mels /= 4.0
        return mels[:-1].T
