"""A Whisper checkpoint in Hugging Face form: opened, checked, and described.

Everything is told from the small files and the headers of the weights: no tensor is read, so that a wrong folder is
refused in milliseconds, before a library spends seconds on it and fails in words of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from serve_app.errors import ModelLoadingError
from serve_app.models.file_hashes import combined_sha256
from serve_app.models.speech.checkpoint_completion import completed
from serve_app.models.speech.checkpoint_files import (
    CONFIG,
    GENERATION_CONFIG,
    PREPROCESSOR_CONFIG,
    TOKENIZER,
    find_weights,
    is_multilingual,
    read_config,
    read_json,
)
from serve_app.models.speech.whisper_tensors import check_tensors
from serve_app.results import SpeechTask


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
        """Whether it knows languages and tasks at all; an English-only one is asked for neither."""
        return is_multilingual(self.config)

    @property
    def no_translation(self) -> str | None:
        """Why it can't translate into English; None: it can. config.json may say so by "tasks"."""
        declared = self.config.get("tasks")
        if declared:
            return None if SpeechTask.TRANSLATE in declared else "its config.json lists no such task"
        if not self.is_multilingual:
            return "it was made for English only"
        if self.config["decoder_layers"] < self.config["encoder_layers"]:
            # openai-whisper's README: turbo is not trained for translation, and answers in the original language; all
            # sizes that translate have as many layers in the decoder as in the encoder
            return (
                "it was trained to transcribe only, as others with a shortened decoder (large-v3-turbo, distil-whisper)"
            )
        return None

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
    folder = completed(folder, cache_dir)
    config = read_config(folder)
    generation_config = read_json(folder / GENERATION_CONFIG)
    num_mel_bins = read_json(folder / PREPROCESSOR_CONFIG).get("feature_size", config["num_mel_bins"])
    if num_mel_bins != config["num_mel_bins"]:
        raise ModelLoadingError(
            f"{folder / PREPROCESSOR_CONFIG} makes {num_mel_bins} mel bins where the model wants "
            f"{config['num_mel_bins']}; remove it, so that a fitting one is made"
        )
    weights = find_weights(folder)
    return WhisperCheckpoint(
        name=name,
        folder=folder,
        config=config,
        generation_config=generation_config,
        languages=_languages(config, generation_config),
        number_format=check_tensors(weights, config),
        weights=weights,
        cache_dir=cache_dir,
    )


def _languages(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the codes that the owner declares (config.json, "languages"), else all that have a token."""
    if not is_multilingual(config):
        return ("en",)
    declared = config.get("languages")
    if declared:
        return tuple(str(code) for code in declared)
    by_id = sorted(generation_config["lang_to_id"].items(), key=lambda item: item[1])
    return tuple(token.removeprefix("<|").removesuffix("|>") for token, _ in by_id)
