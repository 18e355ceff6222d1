"""Align models from folders and from torchaudio, and those that are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio.pipelines
from transformers import Wav2Vec2ForCTC

from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.speech.alignment import model as module
from serve_app.models.speech.alignment.model import WHISPERX, load_align_model
from tests.unit.models.speech.tone_models import LETTERS, SAMPLE_RATE_HZ, write_align_model, write_emotion_model

CPU = torch.device("cpu")


def noise(duration_s):
    return np.random.default_rng(0).normal(0, 0.1, round(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)


def load(spec, tmp_path, language="en"):
    return load_align_model(str(spec), language, device=CPU, cache_dir=tmp_path / "cache")


def test_a_folder_says_its_letters_and_its_frame_rate(tmp_path):
    model = load(write_align_model(tmp_path / "model"), tmp_path)
    assert set(model.alphabet.ids) == set(LETTERS)
    assert (model.alphabet.blank_id, model.alphabet.delimiter_id) == (0, 2)
    assert model.stride_s == 0.02


def test_what_it_hears_is_what_transformers_hears_of_normalised_samples(tmp_path):
    folder = write_align_model(tmp_path / "model")
    samples = 0.3 + 0.01 * noise(1.0)  # quiet, and off centre
    found = load(folder, tmp_path).log_probabilities(samples)
    network = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    normalised = (samples - samples.mean()) / samples.std()
    with torch.inference_mode():
        expected = network(torch.from_numpy(normalised)[None]).logits.log_softmax(-1)[0].numpy()
    assert found.shape == (49, 11)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-5)


def test_a_models_processor_says_whether_samples_are_normalised(tmp_path):
    folder = write_align_model(tmp_path / "model")
    path = folder / "preprocessor_config.json"
    samples = 0.3 + 0.01 * noise(0.5)  # quiet, and off centre
    normalised = load(folder, tmp_path).log_probabilities(samples)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_normalize": False}))
    as_they_are = load(folder, tmp_path).log_probabilities(samples)
    assert np.abs(as_they_are - normalised).max() > 0.05


@pytest.mark.parametrize("num_samples", [1, 400, 1599])
def test_short_samples_are_filled_up(tmp_path, num_samples):
    found = load(write_align_model(tmp_path / "model"), tmp_path).log_probabilities(noise(1.0)[:num_samples])
    assert len(found) == 4
    assert np.isfinite(found).all()


def test_damaged_weights_are_told(tmp_path):
    model = load(write_align_model(tmp_path / "model"), tmp_path)
    torch.nn.init.constant_(model._network.lm_head.weight, float("nan"))
    with pytest.raises(ProcessingError, match="damaged"):
        model.log_probabilities(noise(0.5))


def test_a_model_that_was_not_made_for_letters_is_refused(tmp_path):
    """transformers would give it a head of random numbers."""
    folder = write_emotion_model(tmp_path / "moods")
    with pytest.raises(ModelLoadingError, match=r"lacks 2 of its weights, such as 'lm_head\.bias'"):
        load(folder, tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "can't be loaded"),
        ("model.safetensors", "cut off", "can't be loaded"),
        ("vocab.json", None, "no usable tokenizer"),
        ("preprocessor_config.json", None, "no usable tokenizer .* or preprocessor_config.json"),
    ],
)
def test_what_is_missing_or_broken_is_named(tmp_path, file, content, message):
    folder = write_align_model(tmp_path / "model")
    path = folder / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelLoadingError, match=message):
        load(folder, tmp_path)


def test_another_sample_rate_is_refused(tmp_path):
    folder = write_align_model(tmp_path / "model")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling_rate": 8000}))
    with pytest.raises(ModelLoadingError, match="16 kHz"):
        load(folder, tmp_path)


def test_a_vocabulary_of_word_pieces_is_refused(tmp_path):
    folder = write_align_model(tmp_path / "model", ("th", "ing", "er"))
    with pytest.raises(ModelLoadingError, match="single letter"):
        load(folder, tmp_path)


def test_whisperx_chooses_by_language(tmp_path, monkeypatch):
    asked = []

    def fetched(spec, cache_dir, hf_token):
        asked.append((spec, hf_token))
        return write_align_model(tmp_path / "model")

    monkeypatch.setattr(module, "fetch_weights", fetched)
    load_align_model(WHISPERX, "ko", device=CPU, cache_dir=tmp_path, hf_token="token")
    assert asked == [("kresnik/wav2vec2-large-xlsr-korean", "token")]
    with pytest.raises(ModelLoadingError, match="no align model for 'xx'"):
        load(WHISPERX, tmp_path, "xx")


@pytest.fixture
def bundle(monkeypatch):
    """A bundle of torchaudio's in all but size."""
    real = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H
    small = {
        "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
        "encoder_embed_dim": 16,
        "encoder_num_layers": 1,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 16,
        "encoder_pos_conv_kernel": 8,
        "encoder_pos_conv_groups": 2,
    }
    tiny = dataclasses.replace(real, _path="tiny_asr.pth", _params={**real._params, **small}, _remove_aux_axis=())
    monkeypatch.setattr(torchaudio.pipelines, "TINY", tiny, raising=False)
    return tiny


def test_a_bundle_of_torchaudio_is_read_from_the_cache(tmp_path, bundle):
    torch.manual_seed(0)
    network = torchaudio.models.wav2vec2_model(**bundle._params).eval()
    path = tmp_path / "cache" / "torchaudio" / "tiny_asr.pth"
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    model = load("TINY", tmp_path)
    assert (model.alphabet.blank_id, model.alphabet.delimiter_id, model.stride_s) == (0, 1, 0.02)
    assert len(model.alphabet.ids) == 27  # letters and the apostrophe
    with torch.inference_mode():
        expected = network(torch.from_numpy(noise(1.0))[None])[0][0].log_softmax(-1).numpy()
    found = model.log_probabilities(noise(1.0))
    assert found.shape == (49, 29)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_bundles_file_is_not_unpickled_freely(tmp_path, bundle):
    path = tmp_path / "cache" / "torchaudio" / "tiny_asr.pth"
    path.parent.mkdir(parents=True)
    torch.save({"weight": Path}, path)
    with pytest.raises(ModelLoadingError, match="holds Python objects"):
        load("TINY", tmp_path)
