"""What the speaker embedding sees of a waveform: log-mel energies and a pitchgram, 100 frames a second.

The mel bands carry the vocal tract and, alas, the channel. The pitchgram carries the voice's pitch and nothing of
the channel: the spectrum is whitened over frequency and then correlated with combs of cosines, which is an
autocorrelation sampled at chosen lags. It survives the telephone, where the fundamental itself is cut away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160
NUM_MELS = 64
NUM_LAGS = 40
NUM_FEATURES = NUM_MELS + NUM_LAGS

_MEL_FFT_SAMPLES = 512
_PITCH_FFT_SAMPLES = 1024
_MEL_WINDOW_SAMPLES = 400
_PITCH_WINDOW_SAMPLES = 800
_MEL_RANGE_HZ = (60.0, 7600.0)
_PITCH_RANGE_HZ = (65.0, 420.0)
_COMB_RANGE_HZ = (90.0, 3500.0)
# About 25 bins of 15.6 Hz: wider than the spacing of harmonics of any voice, narrower than a formant.
_WHITENING_BINS = 25


class SpeechFeatures(nn.Module):
    """Turn waveforms into frames of NUM_MELS natural-log mel energies followed by NUM_LAGS pitchgram values."""

    mel_filters: Tensor
    combs: Tensor
    mel_window: Tensor
    pitch_window: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants, rebuilt rather than stored: they are no part of the trained state.
        self.register_buffer("mel_filters", _mel_filters(), persistent=False)
        self.register_buffer("combs", _combs(), persistent=False)
        self.register_buffer("mel_window", torch.hann_window(_MEL_WINDOW_SAMPLES), persistent=False)
        self.register_buffer("pitch_window", torch.hann_window(_PITCH_WINDOW_SAMPLES), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return features, (batch, frames, NUM_FEATURES); frames = samples // 160 + 1.

        Args:
            waveforms: (batch, samples), 16 kHz, at least 513 samples.
        """
        power = _power(waveforms, _MEL_FFT_SAMPLES, self.mel_window)  # (batch, bins, frames)
        mels = torch.log(torch.matmul(self.mel_filters, power) + 1e-10)
        first, last = _comb_bins()
        power = _power(waveforms, _PITCH_FFT_SAMPLES, self.pitch_window)[:, first:last]
        magnitude = power.clamp(min=1e-12).sqrt().sqrt()
        smooth = functional.avg_pool1d(
            magnitude.transpose(1, 2), _WHITENING_BINS, stride=1, padding=_WHITENING_BINS // 2, count_include_pad=False
        ).transpose(1, 2)
        pitchgram = torch.matmul(self.combs, magnitude / smooth - 1.0)
        return torch.cat([mels, pitchgram], dim=1).transpose(1, 2)


def _power(waveforms: Tensor, fft_samples: int, window: Tensor) -> Tensor:
    spectrum = torch.stft(
        waveforms, fft_samples, HOP_SAMPLES, window.numel(), window, pad_mode="reflect", return_complex=True
    )
    return spectrum.real.square() + spectrum.imag.square()


def _mel_filters() -> Tensor:
    """Return triangular filters, (mels, bins), on the HTK mel scale, each of unit area."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in _MEL_RANGE_HZ)
    corners_hz = 700.0 * (10.0 ** (torch.linspace(low, high, NUM_MELS + 2) / 2595.0) - 1.0)
    bins_hz = torch.linspace(0.0, SAMPLE_RATE_HZ / 2, _MEL_FFT_SAMPLES // 2 + 1)
    left, centre, right = corners_hz[:-2, None], corners_hz[1:-1, None], corners_hz[2:, None]
    rising = (bins_hz - left) / (centre - left)
    falling = (right - bins_hz) / (right - centre)
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    return filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-6)


def _comb_bins() -> tuple[int, int]:
    bin_hz = SAMPLE_RATE_HZ / _PITCH_FFT_SAMPLES
    return round(_COMB_RANGE_HZ[0] / bin_hz), round(_COMB_RANGE_HZ[1] / bin_hz)


def _combs() -> Tensor:
    """Return cosines over frequency, (lags, bins): peaks at the harmonics of log-spaced fundamentals."""
    first, last = _comb_bins()
    bins_hz = torch.arange(first, last) * (SAMPLE_RATE_HZ / _PITCH_FFT_SAMPLES)
    low, high = _PITCH_RANGE_HZ
    pitches_hz = low * (high / low) ** torch.linspace(0.0, 1.0, NUM_LAGS)
    combs = torch.cos(2.0 * math.pi * bins_hz[None] / pitches_hz[:, None])
    return combs * (4.0 / (last - first))
