"""What a Whisper folder is told to hold, and how a wrong one is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.weights import EMBEDDED

Copy = Callable[..., Path]


def edit_json(path: Path, **changes: Any) -> None:
    """Set some keys; None removes one."""
    content = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), "utf-8")


def test_a_folder_says_what_it_holds(mini_whisper: Path) -> None:
    checkpoint = open_checkpoint(mini_whisper)
    assert checkpoint.name == "mini-whisper"
    assert checkpoint.folder == mini_whisper
    assert (checkpoint.config["num_mel_bins"], checkpoint.config["vocab_size"]) == (80, 51_865)
    assert checkpoint.is_multilingual
    assert checkpoint.languages[:4] == ("en", "zh", "de", "es")  # in the order of their tokens
    assert len(checkpoint.languages) == 99
    assert checkpoint.alignment_heads == ((1, 0), (1, 1))
    assert checkpoint.number_format == "float16"
    assert checkpoint.weights == (mini_whisper / "model.safetensors",)
    assert checkpoint.config["d_model"] == 32


def test_a_name_is_given_or_the_folders(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper, "openai_whisper-large-v3-turbo")
    assert open_checkpoint(folder).name == "openai_whisper-large-v3-turbo"
    assert open_checkpoint(folder, name="openai/whisper-large-v3-turbo").name == "openai/whisper-large-v3-turbo"


def test_an_owner_may_declare_fewer_languages_than_have_tokens(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper)
    edit_json(folder / "config.json", languages=["en", "ko"])
    assert open_checkpoint(folder).languages == ("en", "ko")


def test_an_english_only_vocabulary_hears_english(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper, "whisper-mini.en")
    shorten_vocabulary(folder, 51_864)
    checkpoint = open_checkpoint(folder)
    assert not checkpoint.is_multilingual
    assert checkpoint.languages == ("en",)


def shorten_vocabulary(folder: Path, vocab_size: int) -> None:
    state = load_file(folder / "model.safetensors")
    name = "model.decoder.embed_tokens.weight"
    save_file(state | {name: state[name][:vocab_size].clone()}, folder / "model.safetensors")
    edit_json(folder / "config.json", vocab_size=vocab_size)


@pytest.mark.parametrize(
    ("dtype", "number_format"),
    [(torch.float32, "float32"), (torch.float16, "float16"), (torch.bfloat16, "bfloat16")],
)
def test_the_number_format_is_that_of_the_weights_whatever_config_says(
    mini_whisper: Path, copy_of: Copy, dtype: torch.dtype, number_format: str
) -> None:
    folder = copy_of(mini_whisper)
    state = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")
    edit_json(folder / "config.json", dtype="float16", torch_dtype="float16")
    assert open_checkpoint(folder).number_format == number_format


def test_mixed_number_formats_count_as_the_widest(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper)
    state = load_file(folder / "model.safetensors")
    name = "model.encoder.layer_norm.weight"
    save_file(state | {name: state[name].float()}, folder / "model.safetensors")
    assert open_checkpoint(folder).number_format == "float32"


def test_weights_may_lie_in_shards(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper)
    shard(folder)
    assert [path.name for path in open_checkpoint(folder).weights] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_a_missing_shard_is_named(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper)
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelLoadingError, match=r"names 2 files.* 1 are not there, e\.g\. model-00002-of-00002"):
        open_checkpoint(folder)


def test_a_shard_index_leads_nowhere_else(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper)
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    index = {"weight_map": {"model.encoder.conv1.weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelLoadingError, match="1 are not there"):
        open_checkpoint(folder)


def test_shards_that_transformers_would_unpickle_are_refused(mini_whisper: Path, copy_of: Copy) -> None:
    """A file can be a whole safetensors file and an archive of torch.save at once; transformers goes by its name."""
    folder = copy_of(mini_whisper)
    (folder / "model.safetensors").rename(folder / "model.bin")
    index = {"weight_map": {"model.encoder.conv1.weight": "model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelLoadingError, match=r"'model\.bin', which is no safetensors"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["transformers_weights", "configuration_files"])
def test_a_config_leads_to_no_other_files(mini_whisper: Path, copy_of: Copy, name: str) -> None:
    folder = copy_of(mini_whisper)
    edit_json(folder / "config.json", **{name: "sub/x.safetensors.index.json"})
    with pytest.raises(ModelLoadingError, match=f"{name}, which leads to files that are not checked"):
        open_checkpoint(folder)


def shard(folder: Path) -> None:
    """Split a folder's weights as transformers does."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: state[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def make_it_a_bert(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="bert", architectures=["BertForMaskedLM"])


def make_it_a_classifier(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["WhisperForAudioClassification"])


def cut_off_the_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1000)


def cut_into_the_header(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def lose_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["model.decoder.layers.1.encoder_attn.v_proj.bias"]
    save_file(state, folder / "model.safetensors")


def take_a_larger_models_config(folder: Path) -> None:
    edit_json(folder / "config.json", d_model=64)


def quantize(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor.to(torch.int8) for name, tensor in state.items()}, folder / "model.safetensors")


def lose_a_size(folder: Path) -> None:
    edit_json(folder / "config.json", num_mel_bins=None)


def garble_the_config(folder: Path) -> None:
    (folder / "config.json").write_text("<html>")


def take_a_list_for_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def lose_the_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def lose_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def take_another_spectrogram(folder: Path) -> None:
    edit_json(folder / "preprocessor_config.json", feature_size=128)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (make_it_a_bert, r"config\.json describes a 'bert' model \(BertForMaskedLM\), not a Whisper"),
        (make_it_a_classifier, r"WhisperForAudioClassification\), not a Whisper that transcribes"),
        (cut_off_the_weights, r"model\.safetensors are cut off or broken"),
        (cut_into_the_header, r"model\.safetensors are cut off or broken"),
        (lose_a_tensor, r"lack 1 of \d+ tensors .* decoder\.layers\.1\.encoder_attn\.v_proj\.bias"),
        (take_a_larger_models_config, r"has shape \[32.*\] where config\.json has \[64"),
        (quantize, r"stored as I8"),
        (lose_a_size, r"lacks num_mel_bins"),
        (garble_the_config, r"config\.json can't be read as JSON"),
        (take_a_list_for_config, r"config\.json does not hold a JSON object"),
        (lose_the_config, r"has no config\.json"),
        (lose_the_weights, r"has no weights: neither model\.safetensors, nor its shards, nor pytorch_model\.bin"),
        (take_another_spectrogram, r"makes 128 mel bins where the model needs 80"),
    ],
)
def test_what_is_wrong_is_said(mini_whisper: Path, copy_of: Copy, break_it: Callable[[Path], None], says: str) -> None:
    folder = copy_of(mini_whisper)
    break_it(folder)
    with pytest.raises(ModelLoadingError, match=says):
        open_checkpoint(folder)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"There is no file or folder .*nowhere; name a folder"):
        open_checkpoint(tmp_path / "nowhere")


def test_the_hash_follows_the_content_alone(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    original = open_checkpoint(mini_whisper, cache_dir=tmp_path / "cache").content_hash
    folder = copy_of(mini_whisper, "moved-and-renamed")
    (folder / "README.md").write_text("what no backend reads")
    assert hash_of(folder) == original
    flip_a_bit(folder / "model.safetensors")
    changed = hash_of(folder)
    edit_json(folder / "generation_config.json", suppress_tokens=[1])
    assert len({original, changed, hash_of(folder)}) == 3


def hash_of(folder: Path) -> str:
    return open_checkpoint(folder).content_hash


def flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_a_checkpoint_travels_between_processes(mini_whisper: Path) -> None:
    checkpoint = open_checkpoint(mini_whisper)
    travelled: WhisperCheckpoint = pickle.loads(pickle.dumps(checkpoint))
    assert travelled == checkpoint
    assert travelled.content_hash == checkpoint.content_hash


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, None),
        ({"decoder_layers": 4, "encoder_layers": 32}, "large-v3-turbo"),
        ({"decoder_layers": 2, "encoder_layers": 32}, "distil-whisper"),
        ({"vocab_size": 51864}, "English only"),
        ({"tasks": ["transcribe"]}, "lists no such task"),
        # whoever has trained a short decoder for it says so
        ({"decoder_layers": 4, "encoder_layers": 32, "tasks": ["transcribe", "translate"]}, None),
    ],
)
def test_which_can_translate(mini_whisper: Path, config: dict[str, object], why: str | None) -> None:
    checkpoint = open_checkpoint(mini_whisper)
    told = dataclasses.replace(checkpoint, config={**checkpoint.config, **config}).no_translation
    assert told is None if why is None else why in (told or "")


def test_the_embedded_model_transcribes_only() -> None:
    assert "trained to transcribe only" in (open_checkpoint(EMBEDDED["whisper-micro"]).no_translation or "")
