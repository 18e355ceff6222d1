"""The spectrogram is the libraries' own, whatever makes it faster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import whisper.audio
from faster_whisper.feature_extractor import FeatureExtractor

from serve_app.models.speech.whisper.log_mel import NUM_FRAMES, LogMel


def tones(num_samples: int) -> np.ndarray:
    rng = np.random.default_rng(num_samples)
    at = np.arange(num_samples) / 16_000
    loudness = 0.3 * np.abs(np.sin(7 * at)) + 1e-4
    return (loudness * np.sin(900 * at**1.5) + 0.001 * rng.standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("num_mel_bins", [80, 128])
@pytest.mark.parametrize("num_samples", [1600, 16_000 * 8 + 77, 480_000])
def test_equals_faster_whispers(num_samples: int, num_mel_bins: int) -> None:
    samples = tones(num_samples)
    expected = FeatureExtractor(feature_size=num_mel_bins)(samples)[..., :-1]  # as its batched pipeline calls it
    mels = LogMel(num_mel_bins).piece(samples)
    assert mels.dtype == np.float32
    np.testing.assert_allclose(mels, expected, atol=1e-4)  # of values from -1.5 to 2: two FFTs in single precision


def test_equals_openais_inside_the_piece() -> None:
    samples = tones(16_000 * 4)
    expected = whisper.audio.log_mel_spectrogram(torch.from_numpy(samples), 80, padding=160).numpy()
    mels = LogMel(80).piece(samples)
    np.testing.assert_allclose(mels, expected[:, : mels.shape[1]], atol=1e-4)


def test_a_batch_is_padded_with_zeros_to_the_window() -> None:
    mel = LogMel(80)
    pieces = [tones(16_000), tones(480_000), tones(480_160)[:480_100]]
    batch = mel.batch(pieces)
    assert batch.shape == (3, 80, NUM_FRAMES)
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch[0, :, :100], mel.piece(pieces[0]))
    assert not batch[0, :, 100:].any()
    np.testing.assert_array_equal(batch[1], mel.piece(pieces[1]))
    np.testing.assert_array_equal(batch[2], mel.piece(pieces[2])[:, :NUM_FRAMES])


def test_neither_samples_nor_neighbours_are_changed() -> None:
    samples = tones(5000)
    before = samples.copy()
    mel = LogMel(80)
    alone = mel.batch([samples])[0]
    np.testing.assert_array_equal(samples, before)
    np.testing.assert_array_equal(mel.batch([tones(9000), samples])[1], alone)
