"""A Whisper checkpoint in Hugging Face form: opened, checked, and described.

Everything is told from the small files and the headers of the weights: no tensor is read, so that a wrong folder is
refused in milliseconds, before a library spends seconds on it and fails in words of its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from serve_app.errors import ModelLoadingError
from serve_app.models.file_hashes import combined_sha256
from serve_app.models.speech.whisper_tensors import check_tensors

# "<|endoftext|>" has 50,257 byte pairs below it in a multilingual vocabulary, 50,256 in an English one; openai-whisper
# tells the two apart by the size alone (whisper/model.py, is_multilingual).
_SMALLEST_MULTILINGUAL_VOCABULARY = 51_865

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
TOKENIZER = "tokenizer.json"
SHARD_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class WhisperCheckpoint:
    """A folder that every backend, or its converter, can read.

    It holds config.json, generation_config.json (with languages, tasks and alignment heads), preprocessor_config.json,
    tokenizer.json and safetensors.

    Attributes:
        name: Hugging Face id, the embedded model's name, or the folder's name; a part of `model_version`.
        folder: where the files lie.
        config: content of config.json.
        generation_config: content of generation_config.json.
        languages: two- or three-letter codes that it was made for; ("en",) for an English-only one.
        number_format: of the stored weights: "float32", "float16" or "bfloat16".
        weights: the safetensors files, in the order of their names.
        cache_dir: where hashes of files are kept between starts; None: nowhere.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    languages: tuple[str, ...]
    number_format: str
    weights: tuple[Path, ...]
    cache_dir: Path | None = field(default=None, repr=False)

    @property
    def is_multilingual(self) -> bool:
        """Whether it knows languages and tasks at all: an English-only one has no tokens for them."""
        return is_multilingual(self.config)

    @property
    def num_mel_bins(self) -> int:
        """Rows of its spectrogram: 80, and 128 from large-v3 on."""
        return int(self.config["num_mel_bins"])

    @property
    def vocab_size(self) -> int:
        """Rows of its embedding: 51864 English-only, 51865 up to large-v2, 51866 from large-v3 on."""
        return int(self.config["vocab_size"])

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """(decoder layer, head) whose cross-attention follows the words in time."""
        return tuple((int(layer), int(head)) for layer, head in self.generation_config["alignment_heads"])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the names and contents of all files that backends or converters read.

        Reads the weights once; later starts take each file's hash from the cache while its size and time of change
        are the same.
        """
        small = [self.folder / name for name in (CONFIG, GENERATION_CONFIG, PREPROCESSOR_CONFIG, TOKENIZER)]
        return combined_sha256([*small, *self.weights], self.cache_dir)


def open_checkpoint(folder: Path, *, name: str | None = None, cache_dir: Path | None = None) -> WhisperCheckpoint:
    """Check a Hugging Face folder and say what it holds.

    Args:
        folder: of the checkpoint.
        name: what to call it; None: as the folder.
        cache_dir: where hashes are kept, and a completed copy where the folder lacks what can be derived (the weights
            are linked, not copied); None: such a folder is refused.

    Raises:
        ModelLoadingError: something is missing or broken, or it is no Whisper; says which file and what to do.
    """
    folder = folder.resolve()
    name = name or folder.name
    if not folder.is_dir():
        raise ModelLoadingError(f"There is no folder {folder}; name one with a Whisper checkpoint in Hugging Face form")
    config = read_config(folder)
    generation_config = read_json(folder / GENERATION_CONFIG)
    for needed in (PREPROCESSOR_CONFIG, TOKENIZER):
        if not (folder / needed).is_file():
            raise ModelLoadingError(f"The checkpoint {folder} has no {needed}; copy it from the model it was made of")
    weights = find_weights(folder)
    number_format = check_tensors(weights, config)
    return WhisperCheckpoint(
        name=name,
        folder=folder,
        config=config,
        generation_config=generation_config,
        languages=_languages(config, generation_config),
        number_format=number_format,
        weights=weights,
        cache_dir=cache_dir,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return a Whisper's config.json, or raise ModelLoadingError where it is missing, broken or another model's."""
    config = read_json(folder / CONFIG)
    model_type = config.get("model_type")
    if model_type != "whisper":
        raise ModelLoadingError(f"{folder / CONFIG} describes a model of type {model_type!r}, not a Whisper")
    return config


def is_multilingual(config: Mapping[str, Any]) -> bool:
    """Tell by the size of the vocabulary."""
    return int(config["vocab_size"]) >= _SMALLEST_MULTILINGUAL_VOCABULARY


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or raise ModelLoadingError that names the file."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelLoadingError(
            f"{path.parent} has no {path.name}; name a folder with a whole Whisper checkpoint in Hugging Face form"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelLoadingError(f"{path} can't be read as JSON ({error}); fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise ModelLoadingError(f"{path} does not hold a JSON object; fetch the checkpoint again")
    return content


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return a folder's safetensors, one file or all shards, or raise ModelLoadingError that says what is missing."""
    whole = folder / "model.safetensors"
    if whole.is_file():
        return (whole,)
    if not (folder / SHARD_INDEX).is_file():
        raise ModelLoadingError(f"The checkpoint {folder} has no model.safetensors; fetch it again")
    weight_map = read_json(folder / SHARD_INDEX).get("weight_map")
    names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        raise ModelLoadingError(
            f"{folder / SHARD_INDEX} names {len(names)} files of weights, of which {len(missing)} are not there"
            f"{f', e.g. {missing[0]}' if missing else ''}; fetch the checkpoint again"
        )
    return tuple(folder / name for name in names)


def default_alignment_heads(config: Mapping[str, Any]) -> list[list[int]]:
    """Return every head of the last half of the decoder's layers, openai-whisper's choice for an unknown model."""
    layers, heads = int(config["decoder_layers"]), int(config["decoder_attention_heads"])
    return [list(pair) for pair in itertools.product(range(layers // 2, layers), range(heads))]


def _languages(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the codes that the owner declares (config.json, "languages"), else all that have a token."""
    if not is_multilingual(config):
        return ("en",)
    declared = config.get("languages")
    if declared:
        return tuple(str(code) for code in declared)
    by_id = sorted(generation_config.get("lang_to_id", {}).items(), key=lambda item: item[1])
    return tuple(token.removeprefix("<|").removesuffix("|>") for token, _ in by_id)
