"""The files of a Whisper checkpoint in each form, and what config.json must say in Hugging Face form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from serve_app.errors import ModelLoadingError

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
CTRANSLATE2_WEIGHTS = "model.bin"
CTRANSLATE2_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
LANGUAGE_TOKEN = re.compile(r"<\|([a-z]{2,3})\|>")

# openai-whisper, model.py (is_multilingual), tells an English-only vocabulary by its size alone
_SMALLEST_MULTILINGUAL_VOCABULARY = 51_865
_ARCHITECTURES = {"WhisperForConditionalGeneration", "WhisperModel"}
_SIZES = (
    "vocab_size",
    "num_mel_bins",
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_layers",
    "decoder_attention_heads",
    "decoder_ffn_dim",
    "max_source_positions",
    "max_target_positions",
)


class Form(StrEnum):
    """In which form a checkpoint lies, or is to be converted to."""

    HUGGING_FACE = "huggingface"
    CTRANSLATE2 = "ctranslate2"
    OPENAI = "openai"


def find_form(path: Path) -> Form:
    """Return the form of a checkpoint: a file is OpenAI's, a folder is known by its files.

    Where a folder holds Hugging Face's and CTranslate2's weights side by side, the former count.
    """
    if path.is_file():
        return Form.OPENAI
    weights = (WEIGHTS, SHARD_INDEX, PICKLED, PICKLED_INDEX)
    has_others = any((path / name).is_file() for name in weights)
    is_ctranslate2 = (path / CTRANSLATE2_WEIGHTS).is_file() and not has_others
    return Form.CTRANSLATE2 if is_ctranslate2 else Form.HUGGING_FACE


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's config.json.

    Raises:
        ModelLoadingError: it is missing or broken, lacks a size, or describes another model than a Whisper that writes.
    """
    path = folder / CONFIG
    config = read_json(path)
    architectures = config.get("architectures") or ["WhisperForConditionalGeneration"]
    if config.get("model_type") != "whisper" or not _ARCHITECTURES & set(architectures):
        what = f"{config.get('model_type')!r} model ({', '.join(map(str, architectures))})"
        raise ModelLoadingError(f"{path} describes a {what}, not a Whisper that transcribes; name another checkpoint")
    wrong = [name for name in _SIZES if not isinstance(config.get(name), int) or config[name] < 1]
    if wrong:
        raise ModelLoadingError(
            f"{path} does not say {', '.join(wrong)}; copy it from the model that the checkpoint was made of"
        )
    return config


def is_multilingual(config: Mapping[str, Any]) -> bool:
    """Whether a Whisper of that configuration has tokens for languages and tasks."""
    return int(config["vocab_size"]) >= _SMALLEST_MULTILINGUAL_VOCABULARY


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return a folder's safetensors, one file or all shards, or raise ModelLoadingError that says what is missing."""
    whole = folder / WEIGHTS
    if whole.is_file():
        return (whole,)
    index = folder / SHARD_INDEX
    if not index.is_file():
        raise ModelLoadingError(f"The checkpoint {folder} has no {WEIGHTS}; fetch it again")
    weight_map = read_json(index).get("weight_map")
    names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        example = f", e.g. {missing[0]}" if missing else ""
        raise ModelLoadingError(
            f"{index} names {len(names)} files of weights, of which {len(missing)} are not there{example}; fetch the "
            "checkpoint again"
        )
    return tuple(folder / name for name in names)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object as the hub's files are written."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or raise ModelLoadingError that names the file."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelLoadingError(
            f"{path.parent} has no {path.name}; name a folder with a whole Whisper checkpoint"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelLoadingError(f"{path} can't be read as JSON ({error}); fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise ModelLoadingError(f"{path} does not hold a JSON object; fetch the checkpoint again")
    return content
