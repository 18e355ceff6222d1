"""`log_bands`: the log-band spectrogram that the drum network reads, 100 frames a second.

Front end of Böck et al., "Online real-time onset detection with recurrent neural networks" (DAFx 2012), as used for
drums by Vogl et al., "Drum transcription via joint beat and drum modeling using convolutional recurrent neural
networks" (ISMIR 2017): magnitudes of a 46 ms Hann window in 12 triangular bands per octave, on a logarithmic scale.
NumPy and SciPy only, so that making training data needs no torch.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import fft

SAMPLE_RATE_HZ = 44_100
FRAMES_PER_S = 100
HOP = SAMPLE_RATE_HZ // FRAMES_PER_S
WINDOW = 2048
_BANDS_PER_OCTAVE = 12
_LOWEST_HZ, _HIGHEST_HZ = 30.0, 17_000.0
# Of magnitudes before the logarithm: noise 70 dB below full scale becomes 0.04, a loud drum 3 to 4.
_GAIN = 10.0
_BLOCK_FRAMES = 3000  # 25 MB of windows at once


def log_bands(samples: np.ndarray) -> np.ndarray:
    """Return the log-band spectrogram of (n,) float32 samples, mono at 44.1 kHz, at the level of `level_gain`.

    It is (ceil(n / 441), bands) float32, from 0 (silence) to about 4. Frame i is centred on sample 441·i; there is
    silence before and after the signal.
    """
    num_frames = -(-len(samples) // HOP)
    bands = np.empty((num_frames, num_bands()), dtype=np.float32)
    padded = np.zeros((max(num_frames, 1) - 1) * HOP + WINDOW, dtype=np.float32)
    kept = samples[: len(padded) - WINDOW // 2]
    padded[WINDOW // 2 : WINDOW // 2 + len(kept)] = kept
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    for start in range(0, num_frames, _BLOCK_FRAMES):
        block = windows[start : start + _BLOCK_FRAMES] * _window()  # (block, window)
        magnitudes = np.abs(fft.rfft(block, axis=1))  # (block, bins)
        bands[start : start + len(block)] = np.log10(1.0 + _GAIN * (magnitudes @ _filters()))
    return bands


def num_bands() -> int:
    """Return the number of bands of the spectrogram."""
    return _filters().shape[1]


def band_centers_hz() -> np.ndarray:
    """Return the centre frequency of each band, (bands,)."""
    return _edge_bins()[1:-1] * SAMPLE_RATE_HZ / WINDOW


@cache
def _window() -> np.ndarray:
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)


@cache
def _edge_bins() -> np.ndarray:
    """Return the bins at which bands begin, peak and end; low ones, narrower than a bin, are one bin wide."""
    octaves = np.log2(_HIGHEST_HZ / _LOWEST_HZ)
    edges_hz = _LOWEST_HZ * 2.0 ** (np.arange(int(octaves * _BANDS_PER_OCTAVE) + 1) / _BANDS_PER_OCTAVE)
    return np.unique(np.round(edges_hz * WINDOW / SAMPLE_RATE_HZ).astype(int))


@cache
def _filters() -> np.ndarray:
    """Return triangular filters of equal sum, (bins, bands)."""
    bins = np.arange(WINDOW // 2 + 1)[:, None]
    edges = _edge_bins()
    begin, center, end = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - begin) / (center - begin), (end - bins) / (end - center)
    filters = np.clip(np.minimum(rising, falling), 0.0, None)
    return (filters / filters.sum(axis=0)).astype(np.float32)
