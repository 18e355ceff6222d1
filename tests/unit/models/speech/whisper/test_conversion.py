"""A checkpoint in other libraries' forms: what it is converted to, once, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ctranslate2
import faster_whisper
import numpy as np
import pytest
import torch
import whisper
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper import writers
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper.conversion import stored_format, to_ctranslate2, to_openai

PROJECT = Path(__file__).parents[5]
Copy = Callable[..., Path]


@pytest.fixture(scope="module")
def checkpoint(mini_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> WhisperCheckpoint:
    return open_checkpoint(mini_whisper, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def in_ctranslate2(checkpoint: WhisperCheckpoint) -> Path:
    assert checkpoint.cache_dir is not None
    return to_ctranslate2(checkpoint, checkpoint.cache_dir)


@pytest.fixture(scope="module")
def in_openai(checkpoint: WhisperCheckpoint) -> Path:
    assert checkpoint.cache_dir is not None
    return to_openai(checkpoint, checkpoint.cache_dir)


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 80, 3000)).astype(np.float32)


@pytest.fixture(scope="module")
def encoded(checkpoint: WhisperCheckpoint, mel: np.ndarray) -> torch.Tensor:
    """What transformers makes of the noise: what the converted models are held against."""
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model.get_encoder()(torch.from_numpy(mel)).last_hidden_state


def test_ctranslate2_computes_the_same(in_ctranslate2: Path, mel: np.ndarray, encoded: torch.Tensor) -> None:
    model = ctranslate2.models.Whisper(str(in_ctranslate2), compute_type="float32", intra_threads=1)
    found = np.array(model.encode(ctranslate2.StorageView.from_array(mel)))
    np.testing.assert_allclose(found, encoded.numpy(), atol=1e-4)


def test_openai_whisper_computes_the_same(in_openai: Path, mel: np.ndarray, encoded: torch.Tensor) -> None:
    model = whisper.load_model(str(in_openai), device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(model.embed_audio(torch.from_numpy(mel)), encoded, atol=1e-4, rtol=1e-3)


def test_decoders_compute_the_same(
    checkpoint: WhisperCheckpoint, in_openai: Path, in_ctranslate2: Path, encoded: torch.Tensor
) -> None:
    tokens = torch.tensor([[50_258, 50_259, 50_359, 50_363, 400, 500]])
    theirs = WhisperForConditionalGeneration.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
    ours = whisper.load_model(str(in_openai), device="cpu")
    with torch.no_grad():
        wanted = theirs(encoder_outputs=(encoded,), decoder_input_ids=tokens).logits
        torch.testing.assert_close(ours.logits(tokens, encoded), wanted, atol=1e-3, rtol=1e-3)
    languages = {f"<|{code}|>": wanted[0, 0, 50_259 + at] for at, code in enumerate(checkpoint.languages)}
    model = ctranslate2.models.Whisper(str(in_ctranslate2), compute_type="float32", intra_threads=1)
    ((best, _), *_), *_ = model.detect_language(ctranslate2.StorageView.from_array(encoded.numpy()))
    assert best == max(languages, key=lambda token: float(languages[token]))


def test_a_ctranslate2_folder_is_all_that_faster_whisper_needs(
    in_ctranslate2: Path, checkpoint: WhisperCheckpoint
) -> None:
    model = faster_whisper.WhisperModel(str(in_ctranslate2), device="cpu", cpu_threads=1, local_files_only=True)
    assert model.hf_tokenizer.token_to_id("<|ko|>") == 50_264
    assert model.feature_extractor.mel_filters.shape[0] == 80
    config = json.loads((in_ctranslate2 / "config.json").read_text())
    assert [tuple(head) for head in config["alignment_heads"]] == list(checkpoint.alignment_heads)
    assert config["suppress_ids_begin"] == [220, 50_257]
    assert len(config["lang_ids"]) == 99


def test_an_openai_file_is_tensors_and_sizes(in_openai: Path, checkpoint: WhisperCheckpoint) -> None:
    content = torch.load(in_openai, weights_only=True)
    assert content["dims"] == {
        "n_mels": 80,
        "n_audio_ctx": 1500,
        "n_audio_state": 32,
        "n_audio_head": 2,
        "n_audio_layer": 2,
        "n_vocab": 51_865,
        "n_text_ctx": 448,
        "n_text_state": 32,
        "n_text_head": 2,
        "n_text_layer": 2,
    }
    assert {tensor.dtype for tensor in content["model_state_dict"].values()} == {torch.float16}
    # each tensor by itself, not the whole checkpoint behind each
    assert in_openai.stat().st_size < 1.05 * checkpoint.weights[0].stat().st_size


def test_it_is_done_once_and_logged(
    checkpoint: WhisperCheckpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        first, second = to_openai(checkpoint, tmp_path), to_openai(checkpoint, tmp_path)
    assert first == second
    assert first.is_relative_to(tmp_path / "converted")
    assert caplog.text.count("Converting mini-whisper to openai (float16), once") == 1


def test_another_checkpoint_of_the_same_name_is_converted_anew(
    checkpoint: WhisperCheckpoint, mini_whisper: Path, copy_of: Copy, tmp_path: Path
) -> None:
    before = to_openai(checkpoint, tmp_path / "cache")
    folder = copy_of(mini_whisper)
    (folder / "generation_config.json").write_text(
        json.dumps({**checkpoint.generation_config, "alignment_heads": [[0, 0]]})
    )
    after = to_openai(open_checkpoint(folder), tmp_path / "cache")
    assert after.parent.name.startswith("mini-whisper-openai-float16-")
    assert after != before


def test_a_converted_checkpoint_that_was_damaged_is_made_again(checkpoint: WhisperCheckpoint, tmp_path: Path) -> None:
    first = to_openai(checkpoint, tmp_path)
    os.truncate(first, 1000)
    again = to_openai(checkpoint, tmp_path)
    assert "dims" in torch.load(again, weights_only=True)


def test_integers_are_stored_as_such(checkpoint: WhisperCheckpoint, tmp_path: Path) -> None:
    converted = to_ctranslate2(checkpoint, tmp_path, "int8")
    model = ctranslate2.models.Whisper(str(converted), compute_type="int8", intra_threads=1)
    assert model.compute_type.startswith("int8")
    assert "-ctranslate2-int8-" in converted.name
    # most of it is the embedding, of which a half is left
    assert (converted / "model.bin").stat().st_size < 0.6 * checkpoint.weights[0].stat().st_size


def test_weights_are_read_in_their_own_format_whatever_config_says(
    mini_whisper: Path, copy_of: Copy, tmp_path: Path
) -> None:
    folder = copy_of(mini_whisper)
    state = {name: tensor.float() + 1e-6 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16", "torch_dtype": "float16"}))
    converted = to_ctranslate2(open_checkpoint(folder), tmp_path / "cache")
    assert "-ctranslate2-float32-" in converted.name
    stored = (converted / "model.bin").read_bytes()
    embedding = state["model.decoder.embed_tokens.weight"][:4].numpy().tobytes()
    assert embedding in stored  # to the last bit


@pytest.mark.parametrize(
    ("compute_type", "number_format", "stored"),
    [
        (None, "float16", "float16"),
        (None, "float32", "float32"),
        ("auto", "bfloat16", "bfloat16"),
        ("float32", "float16", "float16"),  # more digits would all be zeros
        ("float16", "float32", "float16"),
        ("bfloat16", "float32", "bfloat16"),
        ("bfloat16", "float16", "float16"),
        ("int8", "float16", "int8"),
        ("int8_float16", "float32", "int8_float16"),
        ("int16", "float32", "int16"),
    ],
)
def test_the_stored_format_follows_from_both(compute_type: str | None, number_format: str, stored: str) -> None:
    assert stored_format(compute_type, number_format) == stored


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ModelLoadingError, match=r"no compute type 'float64'; it has int8, .*float32"):
        stored_format("float64", "float32")


def test_what_openai_whisper_cannot_express_is_refused(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"scale_embedding": True, "activation_function": "relu"}))
    with pytest.raises(ModelLoadingError, match=r"has no Whisper with activation_function relu, scale_embedding True"):
        to_openai(open_checkpoint(folder), tmp_path / "cache")


def test_a_converter_that_fails_says_so_and_leaves_nothing(
    checkpoint: WhisperCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(checkpoint: WhisperCheckpoint, target: Path, number_format: str) -> None:
        (target / "model.bin").write_bytes(b"half")
        raise ValueError("Some required model attributes are not set")

    monkeypatch.setattr(writers, "write_ctranslate2", fail)
    with pytest.raises(ModelLoadingError, match=r"mini-whisper can't be converted to ctranslate2 \(ValueError: Some"):
        to_ctranslate2(checkpoint, tmp_path)
    assert [path.suffix for path in (tmp_path / "converted").iterdir()] == [".lock"]


def test_an_openai_file_holds_no_code(in_openai: Path) -> None:
    assert in_openai.name == writers.MODEL_FILE
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(in_openai)
    assert unsafe == []


@pytest.mark.slow
def test_two_processes_convert_once(mini_whisper: Path, tmp_path: Path) -> None:
    """Started together over an empty cache, as two replicas are; whoever comes second uses what the first made."""
    code = (
        "import logging, sys, time\n"
        "from pathlib import Path\n"
        "import serve_app.models.speech.whisper.writers\n"  # imported before the start, that they really meet
        "from serve_app.models.speech.whisper.conversion import to_openai\n"
        "from serve_app.models.speech.whisper.checkpoint import open_checkpoint\n"
        "folder, cache, gate, name = map(Path, sys.argv[1:])\n"
        "checkpoint = open_checkpoint(folder, cache_dir=cache)\n"
        "checkpoint.content_hash\n"
        "gate.with_name(name.name).touch()\n"
        "deadline = time.monotonic() + 120\n"
        "while not gate.exists():\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.001)\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "print(to_openai(checkpoint, cache))\n"
    )
    gate = tmp_path / "gate"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(mini_whisper), str(tmp_path / "cache"), str(gate), f"ready-{number}"],
            cwd=PROJECT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        deadline = time.monotonic() + 120
        while not all((tmp_path / f"ready-{number}").exists() for number in range(2)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        gate.touch()
        answers = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sum(log.count("Converting mini-whisper to openai") for _, log in answers) == 1
    assert answers[0][0] == answers[1][0] != ""
