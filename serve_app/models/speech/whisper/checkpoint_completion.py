"""`completed`: makes the files that published Whisper folders often lack.

Fine-tuned and older checkpoints lack generation_config.json (or its languages and alignment heads),
preprocessor_config.json or tokenizer.json, or have pickled weights. A completed copy is made once from the other files;
whole weights are linked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from serve_app.errors import ModelLoadingError
from serve_app.models.built_folder import built_folder
from serve_app.models.speech.whisper import checkpoint_files as files
from serve_app.sentences import Sentence, reason_of

_VERSION = 1  # changes with the derived files, so that older copies are not used
_OLDER_TOKENIZER = ("vocab.json", "merges.txt")
# openai-whisper, decoding.py: the first segment begins within a second, 50 steps of 0.02 s
_MAX_INITIAL_TIMESTAMP_INDEX = 50


def completed(folder: Path, cache_dir: Path | None) -> Path:
    """Return the (resolved) folder if it is complete, else a completed copy of it in the cache.

    Raises:
        ModelLoadingError: a missing file can't be derived, or there is no cache.
    """
    config = files.read_config(folder)
    missing = _what_is_missing(folder, config)
    if not missing:
        return folder
    if cache_dir is None:
        raise ModelLoadingError(
            Sentence(
                "The checkpoint {folder} lacks {missing}; complete it, or give a cache folder",
                folder=folder,
                missing=", ".join(missing),
            )
        )
    names = sorted(path for path in folder.iterdir() if path.is_file())
    state = [_VERSION, str(folder), *((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in names)]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]

    def build(target: Path) -> None:
        for path in names:
            if path.name not in missing and not path.name.startswith("pytorch_model"):
                os.symlink(path.resolve(), target / path.name)
        for name, make in missing.items():
            (target / name).unlink(missing_ok=True)
            make(folder, target, config)

    completed_folder = cache_dir / "completed" / f"{folder.name}-{key}"
    built_folder(completed_folder, build)
    return completed_folder


_Make = Callable[[Path, Path, dict[str, Any]], None]


def _what_is_missing(folder: Path, config: Mapping[str, Any]) -> dict[str, _Make]:
    """Return the missing files by name, with the function that makes each, in order."""
    missing: dict[str, _Make] = {}
    if not (folder / files.WEIGHTS).is_file() and not (folder / files.SHARD_INDEX).is_file():
        if not (folder / files.PICKLED).is_file() and not (folder / files.PICKLED_INDEX).is_file():
            raise ModelLoadingError(
                Sentence(
                    "The checkpoint {folder} has no weights: neither {weights}, nor its shards, nor {pickled}; fetch "
                    "it again",
                    folder=folder,
                    weights=files.WEIGHTS,
                    pickled=files.PICKLED,
                )
            )
        missing[files.WEIGHTS] = _write_safetensors
    if not (folder / files.PREPROCESSOR_CONFIG).is_file():
        missing[files.PREPROCESSOR_CONFIG] = lambda _, target, config: files.write_json(
            target / files.PREPROCESSOR_CONFIG, make_preprocessor_config(config)
        )
    if not (folder / files.TOKENIZER).is_file():
        absent = [name for name in _OLDER_TOKENIZER if not (folder / name).is_file()]
        if absent:
            raise ModelLoadingError(
                Sentence(
                    "The checkpoint {folder} has no tokenizer: it lacks {tokenizer}, and {absent} to make it of; copy "
                    "them from the model that it was made of",
                    folder=folder,
                    tokenizer=files.TOKENIZER,
                    absent=" and ".join(absent),
                )
            )
        missing[files.TOKENIZER] = _write_tokenizer
    # last: it needs the tokenizer
    path = folder / files.GENERATION_CONFIG
    if files.TOKENIZER in missing or not path.is_file() or _lacks(files.read_json(path), config):
        missing[files.GENERATION_CONFIG] = _write_generation_config
    return missing


def _lacks(generation_config: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    needed = ["alignment_heads", "no_timestamps_token_id", "suppress_tokens", "begin_suppress_tokens"]
    if files.is_multilingual(config):
        needed += ["lang_to_id", "task_to_id"]
    return any(generation_config.get(name) is None for name in needed)


def _write_generation_config(folder: Path, target: Path, config: dict[str, Any]) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(target / files.TOKENIZER))
    known = files.read_json(folder / files.GENERATION_CONFIG) if (folder / files.GENERATION_CONFIG).is_file() else {}
    files.write_json(target / files.GENERATION_CONFIG, make_generation_config(tokenizer, config, known, folder))


def make_generation_config(
    tokenizer: tokenizers.Tokenizer, config: Mapping[str, Any], known: Mapping[str, Any], source: Path
) -> dict[str, Any]:
    """Return the content of generation_config.json: the known values, and derived ones where they are None or missing.

    Raises:
        ModelLoadingError: the tokenizer is not a Whisper's.
    """

    def token(text: str) -> int:
        found = tokenizer.token_to_id(text)
        if found is None:
            raise ModelLoadingError(
                Sentence(
                    "The tokenizer in {source} has no {text}: it is not a Whisper's; copy the tokenizer of the model "
                    "that the checkpoint was made of",
                    source=source,
                    text=text,
                )
            )
        return int(found)

    end, start = token("<|endoftext|>"), token("<|startoftranscript|>")
    layers, heads = int(config["decoder_layers"]), int(config["decoder_attention_heads"])
    derived: dict[str, Any] = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": start,
        "no_timestamps_token_id": token("<|notimestamps|>"),
        "prev_sot_token_id": token("<|startofprev|>"),
        "max_initial_timestamp_index": _MAX_INITIAL_TIMESTAMP_INDEX,
        "max_length": config["max_target_positions"],
        "return_timestamps": False,
        "suppress_tokens": config.get("suppress_tokens") or [],  # older checkpoints have them here
        # not from config.json, where transformers writes the English-only end for every Whisper
        "begin_suppress_tokens": [*tokenizer.encode(" ", add_special_tokens=False).ids, end],
        # all heads of the upper half of the decoder: openai-whisper's choice for an unknown model
        "alignment_heads": [[layer, head] for layer in range(layers // 2, layers) for head in range(heads)],
        "is_multilingual": files.is_multilingual(config),
    }
    if files.is_multilingual(config):
        ids = {added.content: int(at) for at, added in tokenizer.get_added_tokens_decoder().items()}
        derived["lang_to_id"] = {text: at for text, at in ids.items() if files.LANGUAGE_TOKEN.fullmatch(text)}
        derived["task_to_id"] = {"transcribe": token("<|transcribe|>"), "translate": token("<|translate|>")}
    return derived | {name: value for name, value in known.items() if value is not None}


def make_preprocessor_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of Whisper's spectrogram: 25 ms windows every 10 ms, padded to 30 s; only its rows differ."""
    return {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config["num_mel_bins"],
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16_000,
    }


def _write_tokenizer(folder: Path, target: Path, config: dict[str, Any]) -> None:
    """Write tokenizer.json from vocab.json, merges.txt and the small files beside them."""
    from transformers.models.whisper import WhisperTokenizerFast

    try:
        tokenizer = WhisperTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        tokenizer.backend_tokenizer.save(str(target / files.TOKENIZER), pretty=False)
    except Exception as error:  # transformers' parsers raise many kinds
        raise ModelLoadingError(
            Sentence(
                "The tokenizer in {folder} can't be read ({kind}: {reason}); copy it from the model that the "
                "checkpoint was made of",
                folder=folder,
                kind=type(error).__name__,
                reason=reason_of(error),
            )
        ) from error


def _write_safetensors(folder: Path, target: Path, config: dict[str, Any]) -> None:
    """Write pickled weights as safetensors; no code in the pickle is run."""
    import torch
    from safetensors.torch import save_file

    from serve_app.models.pickled import Refused, read_checkpoint

    index, names = folder / files.PICKLED_INDEX, [files.PICKLED]
    if index.is_file():
        names = sorted({str(name) for name in files.read_json(index)["weight_map"].values()})
    tensors: dict[str, Any] = {}
    for name in names:
        try:
            content = read_checkpoint(folder / Path(name).name)
        except (Refused, OSError) as error:
            raise ModelLoadingError(
                Sentence(
                    "The weights {folder} can't be read as plain tensors: {reason}. Fetch them again, or name a "
                    "checkpoint with {weights}",
                    folder=folder / name,
                    reason=reason_of(error),
                    weights=files.WEIGHTS,
                )
            ) from error
        if not isinstance(content, dict) or not all(
            isinstance(key, str) and torch.is_tensor(tensor) for key, tensor in content.items()
        ):
            raise ModelLoadingError(
                Sentence("The weights {folder} are no table of tensors; fetch them again", folder=folder / name)
            )
        tensors |= content
    if config.get("tie_word_embeddings", True):
        tensors.pop("proj_out.weight", None)  # equal to the embedding
    save_file(
        {key: tensor.contiguous() for key, tensor in tensors.items()}, target / files.WEIGHTS, metadata={"format": "pt"}
    )
