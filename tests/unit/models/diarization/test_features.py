import numpy as np
import pytest
import torch
from scipy import signal

from serve_app.models.diarization.embedding import NUM_FEATURES, NUM_LAGS, NUM_MELS, SpeechFeatures
from serve_app.results import SAMPLE_RATE_HZ


def _pulses(pitch_hz: float, seconds: float = 1.0) -> np.ndarray:
    times_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return sum(np.cos(2 * np.pi * k * pitch_hz * times_s) for k in range(1, int(3500 / pitch_hz))).astype(np.float32)


def test_hundred_frames_a_second():
    assert SpeechFeatures()(torch.randn(2, 80_000)).shape == (2, 501, NUM_FEATURES)


@pytest.mark.parametrize("pitch_hz", [100.0, 180.0, 300.0])
def test_pitchgram_peaks_at_the_pitch_though_the_telephone_cut_it_away(pitch_hz):
    sos = signal.butter(6, [340.0, 3400.0], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    heard = signal.sosfilt(sos, _pulses(pitch_hz)).astype(np.float32)
    pitchgram = SpeechFeatures()(torch.from_numpy(heard)[None])[0, 20:80, NUM_MELS:].mean(dim=0)
    lags_hz = 65.0 * (420.0 / 65.0) ** np.linspace(0.0, 1.0, NUM_LAGS)
    assert lags_hz[int(pitchgram.argmax())] == pytest.approx(pitch_hz, rel=0.06)


def test_pitchgram_does_not_depend_on_a_fixed_channel_or_gain():
    voice = _pulses(140.0)
    coloured = (signal.lfilter([1.0, -0.8], [1.0, 0.3], voice) * 0.02).astype(np.float32)
    features = SpeechFeatures()(torch.from_numpy(np.stack([voice, coloured])))[:, 20:80, NUM_MELS:].mean(dim=1)
    assert torch.cosine_similarity(features[0], features[1], dim=0) > 0.97
