"""`open_checkpoint`: checks and describes a Whisper checkpoint in any form.

A wrong checkpoint is refused here, before a library spends seconds on it. Hugging Face and CTranslate2 folders are
described by their small files and the headers of the weights: no tensor is read, and torch is not needed. An OpenAI
`.pt` file is read once; its description is cached. `conversion` makes the form that a backend reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from serve_app.errors import ModelLoadingError
from serve_app.models.built_folder import built_folder
from serve_app.models.file_hashes import combined_sha256, sha256_of
from serve_app.models.speech.whisper import checkpoint_files as files
from serve_app.models.speech.whisper.checkpoint_completion import completed
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.models.speech.whisper.ctranslate2_reader import describe_ctranslate2
from serve_app.results import SpeechTask
from serve_app.sentences import Sentence

_DESCRIPTION_VERSION = 1  # changes with the files that are derived from an OpenAI file


@dataclass(frozen=True)
class WhisperCheckpoint:
    """A checkpoint whose tensors are not read yet.

    Its folder has tokenizer.json. A Hugging Face folder also has config.json, generation_config.json (with languages,
    tasks and alignment heads), preprocessor_config.json and safetensors; a CTranslate2 folder has its own config.json
    and the weights; the folder of an OpenAI file has the files derived from it.
    """

    name: str  # a part of `model_version`
    form: Form
    folder: Path
    config: Mapping[str, Any]  # config.json in Hugging Face form
    generation_config: Mapping[str, Any]  # generation_config.json in Hugging Face form
    languages: tuple[str, ...]  # two- or three-letter codes that it was made for
    number_format: str  # of the weights: "float32", "float16", "bfloat16", in CTranslate2 also "int8", "int16"
    weights: tuple[Path, ...]  # the safetensors files, ordered by name, or CTranslate2's or OpenAI's one file
    cache_dir: Path | None = field(default=None, repr=False)  # keeps hashes of files between starts

    @property
    def is_multilingual(self) -> bool:
        """Whether it has tokens for languages and tasks; an English-only one has none."""
        return files.is_multilingual(self.config)

    @property
    def no_translation(self) -> str | None:
        """Why it can't translate into English; None: it can. "tasks" in config.json decides, where present."""
        declared = self.config.get("tasks")
        if declared:
            return None if SpeechTask.TRANSLATE in declared else Sentence("its config.json lists no such task")
        if not self.is_multilingual:
            return Sentence("it was made for English only")
        if self.config["decoder_layers"] < self.config["encoder_layers"]:
            # openai-whisper's README: turbo is not trained for translation, and answers in the original language; all
            # sizes that translate have as many layers in the decoder as in the encoder
            return Sentence(
                "it was trained to transcribe only, as others with a shortened decoder (large-v3-turbo, distil-whisper)"
            )
        return None

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """(decoder layer, head) whose cross-attention follows the words in time."""
        return tuple((int(layer), int(head)) for layer, head in self.generation_config["alignment_heads"])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the names and contents of all files that backends or converters read.

        The cache keeps a file's hash until its size or time of change differs.
        """
        names = (files.CONFIG, files.GENERATION_CONFIG, files.PREPROCESSOR_CONFIG, files.TOKENIZER)
        small = [self.folder / name for name in names if (self.folder / name).is_file()]
        return combined_sha256([*small, *self.weights], self.cache_dir)


def open_checkpoint(path: Path, *, name: str | None = None, cache_dir: Path | None = None) -> WhisperCheckpoint:
    """Check and describe a checkpoint.

    Args:
        path: a Hugging Face folder, a CTranslate2 folder, or an OpenAI `.pt` file.
        name: None: that of the folder or file.
        cache_dir: for hashes, the description of a `.pt` file, and a completed copy of a Hugging Face folder that lacks
            files; None: checkpoints that need it are refused.

    Raises:
        ModelLoadingError: a file is missing or broken, or it is no Whisper; the message says what to do.
    """
    path = path.resolve()
    if not path.exists():
        raise ModelLoadingError(
            Sentence(
                "There is no file or folder {path}; name a folder with a Whisper checkpoint in Hugging Face or "
                "CTranslate2 form, or a .pt file of openai-whisper",
                path=path,
            )
        )
    form = files.find_form(path)
    weights: tuple[Path, ...]
    if form is Form.CTRANSLATE2:
        folder, weights = path, (path / files.CTRANSLATE2_WEIGHTS,)
        config, generation_config, number_format = describe_ctranslate2(path)
    elif form is Form.OPENAI:
        folder, weights = _described(path, cache_dir), (path,)
        config, generation_config = files.read_config(folder), files.read_json(folder / files.GENERATION_CONFIG)
        number_format = str(config["dtype"])
    else:
        folder = completed(path, cache_dir)
        config, generation_config = files.read_config(folder), files.read_json(folder / files.GENERATION_CONFIG)
        weights = files.find_weights(folder)
        number_format = files.check_tensors(weights, config)
    preprocessor = folder / files.PREPROCESSOR_CONFIG
    wanted = config["num_mel_bins"]
    num_mel_bins = files.read_json(preprocessor).get("feature_size", wanted) if preprocessor.is_file() else wanted
    if num_mel_bins != wanted:
        raise ModelLoadingError(
            Sentence(
                "{preprocessor} makes {num_mel_bins} mel bins where the model needs {wanted}; remove it, and a "
                "fitting one is made",
                preprocessor=preprocessor,
                num_mel_bins=num_mel_bins,
                wanted=wanted,
            )
        )
    languages = _languages(config, generation_config)
    return WhisperCheckpoint(
        name or path.name, form, folder, config, generation_config, languages, number_format, weights, cache_dir
    )


def _described(path: Path, cache_dir: Path | None) -> Path:
    """Return the folder with the files derived from an OpenAI file, made once for each content."""
    if path.suffix != ".pt":
        raise ModelLoadingError(
            Sentence(
                "{path} is a file, and no .pt of openai-whisper; name the folder with the whole Whisper checkpoint",
                path=path,
            )
        )
    if cache_dir is None:
        raise ModelLoadingError(
            Sentence("The checkpoint {path} has no tokenizer; give a cache folder, where one is kept for it", path=path)
        )
    try:
        sha256 = sha256_of(path, cache_dir)
    except OSError as error:
        raise ModelLoadingError(
            Sentence("{path} can't be read ({reason})", path=path, reason=error.strerror or error)
        ) from error

    def build(target: Path) -> None:
        from serve_app.models.speech.whisper.openai_reader import write_description  # brings torch

        write_description(path, sha256, target)

    folder = cache_dir / "described" / f"openai-{sha256[:16]}-v{_DESCRIPTION_VERSION}"
    built_folder(folder, build)
    return folder


def _languages(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the codes that config.json declares ("languages"), else all that have a token."""
    if not files.is_multilingual(config):
        return ("en",)
    declared = config.get("languages")
    if declared:
        return tuple(str(code) for code in declared)
    by_id = sorted(generation_config["lang_to_id"].items(), key=lambda item: item[1])
    return tuple(token.removeprefix("<|").removesuffix("|>") for token, _ in by_id)
