"""Whisper folders that lack files: what is derived, and what can't be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper.checkpoint import open_checkpoint
from serve_app.models.speech.whisper.checkpoint_completion import completed

Copy = Callable[..., Path]


def content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def test_a_complete_folder_is_used_as_it_is(mini_whisper: Path, tmp_path: Path) -> None:
    assert completed(mini_whisper, tmp_path / "cache") == mini_whisper
    assert not (tmp_path / "cache").exists()


def test_a_generation_config_is_derived(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    original = content(mini_whisper / "generation_config.json")
    folder = copy_of(mini_whisper)
    (folder / "generation_config.json").unlink()
    checkpoint = open_checkpoint(folder, cache_dir=tmp_path / "cache")
    derived = content(checkpoint.folder / "generation_config.json")
    for name in (
        "lang_to_id",
        "task_to_id",
        "no_timestamps_token_id",
        "prev_sot_token_id",
        "begin_suppress_tokens",
        "suppress_tokens",
        "decoder_start_token_id",
        "eos_token_id",
        "is_multilingual",
    ):
        assert derived[name] == original[name], name
    assert checkpoint.alignment_heads == ((1, 0), (1, 1))
    assert checkpoint.name == "mini-whisper"
    assert not (folder / "generation_config.json").exists()  # the operator's folder is left alone


def test_what_a_generation_config_says_is_kept(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    said = content(folder / "generation_config.json") | {"alignment_heads": [[0, 1]], "suppress_tokens": [7]}
    del said["lang_to_id"], said["begin_suppress_tokens"]
    (folder / "generation_config.json").write_text(json.dumps(said))
    checkpoint = open_checkpoint(folder, cache_dir=tmp_path / "cache")
    assert checkpoint.alignment_heads == ((0, 1),)
    assert checkpoint.generation_config["suppress_tokens"] == [7]
    assert len(checkpoint.languages) == 99


def test_older_checkpoints_say_in_config_what_is_suppressed(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    (folder / "generation_config.json").unlink()
    config = content(folder / "config.json") | {"suppress_tokens": [1, 2]}
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(folder, cache_dir=tmp_path / "cache").generation_config["suppress_tokens"] == [1, 2]


def test_a_spectrogram_is_derived(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    (folder / "preprocessor_config.json").unlink()
    made = open_checkpoint(folder, cache_dir=tmp_path / "cache").folder
    assert content(made / "preprocessor_config.json") == content(mini_whisper / "preprocessor_config.json")


def test_an_older_tokenizer_is_rewritten(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    model = content(folder / "tokenizer.json")["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]))
    checkpoint = open_checkpoint(folder, cache_dir=tmp_path / "cache")
    new = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    old = Tokenizer.from_file(str(mini_whisper / "tokenizer.json"))
    for text in ("Good morning, Daniel.", " 안녕하세요 여러분", "<|ko|><|transcribe|><|0.00|> x<|notimestamps|>"):
        assert new.encode(text).ids == old.encode(text).ids
    assert checkpoint.languages == open_checkpoint(mini_whisper).languages


def test_pickled_weights_become_safetensors(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    state = pickle_weights(folder, tied="proj_out.weight")
    checkpoint = open_checkpoint(folder, cache_dir=tmp_path / "cache")
    made = load_file(checkpoint.weights[0])
    assert made.keys() == state.keys()
    assert all(torch.equal(made[name], state[name]) for name in state)
    assert not list(checkpoint.folder.glob("*.bin"))


def test_pickled_shards_are_joined(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    made = load_file(open_checkpoint(folder, cache_dir=tmp_path / "cache").weights[0])
    assert all(torch.equal(made[name], state[name]) for name in state)


class _Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_no_code_in_pickled_weights_is_run(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    (folder / "model.safetensors").unlink()
    torch.save({"model.encoder.conv1.weight": _Malicious(tmp_path / "trace")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadingError, match=r"pytorch_model\.bin can't be read as plain tensors"):
        open_checkpoint(folder, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "trace").exists()
    assert not [path for path in (tmp_path / "cache" / "completed").iterdir() if path.suffix != ".lock"]


def test_pickled_weights_that_are_cut_off_are_refused(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    pickle_weights(folder)
    os.truncate(folder / "pytorch_model.bin", 10_000)
    with pytest.raises(ModelLoadingError, match=r"pytorch_model\.bin can't be read"):
        open_checkpoint(folder, cache_dir=tmp_path / "cache")


def pickle_weights(folder: Path, tied: str | None = None) -> dict[str, torch.Tensor]:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    extra = {tied: state["model.decoder.embed_tokens.weight"]} if tied else {}
    torch.save(state | extra, folder / "pytorch_model.bin")
    return state


def test_a_completed_copy_is_made_once_and_again_after_a_change(
    mini_whisper: Path, copy_of: Copy, tmp_path: Path
) -> None:
    folder = copy_of(mini_whisper)
    (folder / "preprocessor_config.json").unlink()
    first = open_checkpoint(folder, cache_dir=tmp_path / "cache").folder
    made_at = first.stat().st_mtime_ns
    assert open_checkpoint(folder, cache_dir=tmp_path / "cache").folder == first
    assert first.stat().st_mtime_ns == made_at
    config = content(folder / "config.json") | {"languages": ["en"]}
    (folder / "config.json").write_text(json.dumps(config))
    second = open_checkpoint(folder, cache_dir=tmp_path / "cache")
    assert second.folder != first
    assert second.languages == ("en",)


def test_weights_are_linked_not_copied(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    (folder / "preprocessor_config.json").unlink()
    (weights,) = open_checkpoint(folder, cache_dir=tmp_path / "cache").weights
    assert weights.is_symlink()
    assert weights.resolve() == folder / "model.safetensors"


def test_no_tokenizer_can_be_derived_from_nothing(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    with pytest.raises(ModelLoadingError, match=r"lacks tokenizer\.json, and merges\.txt to make it of"):
        open_checkpoint(folder, cache_dir=tmp_path / "cache")


def test_another_models_tokenizer_is_refused(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    (folder / "generation_config.json").unlink()
    foreign = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(foreign))
    with pytest.raises(ModelLoadingError, match=r"has no <\|endoftext\|>: it is not a Whisper's"):
        open_checkpoint(folder, cache_dir=tmp_path / "cache")


def test_without_a_cache_what_is_missing_is_said(mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper)
    (folder / "preprocessor_config.json").unlink()
    (folder / "generation_config.json").unlink()
    with pytest.raises(ModelLoadingError, match=r"lacks preprocessor_config\.json, generation_config\.json"):
        open_checkpoint(folder)
