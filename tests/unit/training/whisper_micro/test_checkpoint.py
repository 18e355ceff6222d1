import json
import warnings

import ctranslate2
import numpy as np
import pytest
import torch
from faster_whisper import WhisperModel
from safetensors.torch import load_file
from transformers import AutoProcessor, WhisperForConditionalGeneration
from whisper.tokenizer import get_tokenizer

from training.whisper_micro.checkpoint import (
    build_tokenizer,
    generation_config,
    main,
    preprocessor_config,
    write_random_checkpoint,
)

pytestmark = pytest.mark.slow  # trains; what is served does not depend on it

TEXTS = (
    "the meeting starts at three",
    " 회의가 세 시에 시작해요",
    "It's 12.50 € — naïve 🙂",
    "tabs\tand\n\nlines  and   spaces ",
    "don't we'll they've I'M",
)


@pytest.fixture(scope="module", params=[99, 100])
def num_languages(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(num_languages, tmp_path_factory):
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"), num_languages=num_languages)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    write_random_checkpoint(folder, d_model=32, encoder_layers=1, decoder_layers=2, heads=2, seed=5)
    return folder


class TestTokenizer:
    @pytest.mark.parametrize("text", TEXTS)
    def test_encodes_as_openais(self, tokenizer, num_languages, text):
        expected = get_tokenizer(True, num_languages=num_languages).encode(text)
        assert tokenizer(text, add_special_tokens=False).input_ids == expected

    def test_has_every_id_of_openais(self, tokenizer, num_languages):
        openai = get_tokenizer(True, num_languages=num_languages)
        assert len(tokenizer) == openai.encoding.n_vocab
        ids = {name: tokenizer.convert_tokens_to_ids(name) for name in openai.special_tokens}
        assert ids == openai.special_tokens

    @pytest.mark.parametrize("text", TEXTS)
    def test_decodes_what_it_encoded(self, tokenizer, text):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text

    def test_timestamps_outlive_the_skipping_of_special_tokens(self, tokenizer, num_languages):
        openai = get_tokenizer(True, num_languages=num_languages)
        ids = [openai.sot, openai.timestamp_begin + 25, *openai.encode(" hello"), openai.eot]
        text = tokenizer.decode(ids, skip_special_tokens=True, decode_with_timestamps=True)
        assert text == "<|0.50|> hello"

    def test_is_small(self, tokenizer):
        assert len(tokenizer.backend_tokenizer.to_str(pretty=False)) < 2_000_000


class TestGenerationConfig:
    def test_names_the_ids_of_its_vocabulary(self):
        config = generation_config(vocab_size=51_866, alignment_heads=[(1, 0)])
        openai = get_tokenizer(True, num_languages=100)
        assert config.lang_to_id["<|yue|>"] == openai.to_language_token("yue")
        assert config.no_timestamps_token_id == openai.no_timestamps
        assert config.task_to_id["transcribe"] == openai.transcribe
        assert config.alignment_heads == [[1, 0]]

    def test_smaller_vocabulary_has_fewer_languages(self):
        config = generation_config(alignment_heads=[(0, 0)])
        assert len(config.lang_to_id) == 99
        assert config.no_timestamps_token_id == 50_363

    def test_refuses_a_vocabulary_that_no_multilingual_whisper_has(self):
        with pytest.raises(ValueError, match="51864"):
            generation_config(vocab_size=51_864, alignment_heads=[])


class TestRandomCheckpoint:
    def test_transformers_reads_it(self, small):
        processor = AutoProcessor.from_pretrained(small)
        model = WhisperForConditionalGeneration.from_pretrained(small)
        features = processor(np.zeros(16_000, np.float32), sampling_rate=16_000, return_tensors="pt").input_features
        assert features.shape == (1, 80, 3000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokens = model.generate(features.to(model.dtype), language="ko", max_new_tokens=3)
        assert tokens.shape[1] >= 3
        assert model.generation_config.alignment_heads == [[1, 0], [1, 1]]

    def test_ctranslate2_converts_and_runs_it(self, small, tmp_path):
        converter = ctranslate2.converters.TransformersConverter(
            str(small), copy_files=["tokenizer.json", "preprocessor_config.json"]
        )
        converter.convert(str(tmp_path / "converted"), quantization="float32")
        model = WhisperModel(str(tmp_path / "converted"), device="cpu", compute_type="float32", cpu_threads=1)
        assert set(model.supported_languages) >= {"en", "ko"}
        language, probability, everything = model.detect_language(np.zeros(16_000, np.float32))
        assert len(everything) == 99
        assert language == everything[0][0]
        assert probability == pytest.approx(everything[0][1])

    def test_shape_of_the_large_ones(self, tmp_path):
        write_random_checkpoint(
            tmp_path, d_model=32, encoder_layers=1, decoder_layers=1, heads=2, num_mel_bins=128, vocab_size=51_866
        )
        weights = load_file(tmp_path / "model.safetensors")
        assert weights["model.encoder.conv1.weight"].shape == (32, 128, 3)
        assert weights["model.decoder.embed_tokens.weight"].shape == (51_866, 32)
        assert json.loads((tmp_path / "preprocessor_config.json").read_text())["feature_size"] == 128

    def test_depends_on_the_seed_alone(self, small, tmp_path):
        for seed in (5, 6):
            write_random_checkpoint(
                tmp_path / str(seed), d_model=32, encoder_layers=1, decoder_layers=2, heads=2, seed=seed
            )
        first, same, other = (
            load_file(folder / "model.safetensors") for folder in (small, tmp_path / "5", tmp_path / "6")
        )
        name = "model.decoder.embed_tokens.weight"
        assert all(torch.equal(first[each], same[each]) for each in first)
        assert not torch.equal(first[name], other[name])
        assert first[name].dtype == torch.float16

    def test_leaves_torchs_generator_alone(self, tmp_path):
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        write_random_checkpoint(tmp_path, d_model=32, encoder_layers=1, decoder_layers=1, heads=2)
        assert torch.equal(torch.rand(1), expected)

    def test_everybody_may_read_it(self, small):
        assert all(path.stat().st_mode & 0o444 == 0o444 for path in small.iterdir())


def test_command_line_cuts_layers(monkeypatch, tmp_path):
    arguments = ["checkpoint", "--shape", "tiny", "--layers", "1", "--dtype", "float32", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    weights = load_file(tmp_path / "model.safetensors")
    assert weights["model.encoder.layers.0.fc1.weight"].shape == (1536, 384)
    assert not any("layers.1." in name for name in weights)
    assert weights["model.encoder.layers.0.fc1.weight"].dtype == torch.float32


def test_preprocessor_pads_to_thirty_seconds():
    config = preprocessor_config()
    assert config["n_samples"] == 30 * config["sampling_rate"]
    assert config["nb_max_frames"] * config["hop_length"] == config["n_samples"]
