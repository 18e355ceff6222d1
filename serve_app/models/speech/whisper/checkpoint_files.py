"""The files of a Whisper checkpoint in each form, and its tensors: names in Hugging Face's and OpenAI's, and shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

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

# openai-whisper's dims -> Hugging Face's config.json
OPENAI_SIZES = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}


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


PROJECTION = "proj_out.weight"  # only where it is not the embedding
_PREFIX = "model."
_FORMATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}


def expected_tensors(config: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return what a Whisper of that configuration holds: Hugging Face name (after "model.") → (OpenAI name, shape)."""
    return {name: (openai, shape) for name, openai, shape in _tensors(config)}


def check_tensors(weights: Sequence[Path], config: Mapping[str, Any]) -> str:
    """Check, by the headers alone, that the files hold every tensor of that configuration in its shape.

    Returns:
        The number format they are stored in; "float32" where they are mixed.

    Raises:
        ModelLoadingError: a file is cut off or broken, or a tensor is missing, or of another shape or type.
    """
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in weights:
        with open_safetensors(path) as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_slice(key)
                found[key.removeprefix(_PREFIX)] = (tuple(tensor.get_shape()), str(tensor.get_dtype()))
    where = weights[0].parent
    wanted = expected_tensors(config)
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ModelLoadingError(
            f"The weights in {where} lack {len(missing)} of {len(wanted)} tensors of a Whisper of this config.json, "
            f"e.g. {missing[0]}: they belong to another model"
        )
    for name, (_, shape) in wanted.items():
        if found[name][0] != shape:
            raise ModelLoadingError(
                f"The tensor {name} in {where} has shape {list(found[name][0])} where config.json says {list(shape)}: "
                "weights and configuration belong to different models"
            )
    types = {found[name][1] for name in wanted}
    if not types <= _FORMATS.keys():
        raise ModelLoadingError(
            f"The weights in {where} are stored as {', '.join(sorted(types))}; name a checkpoint in float32, float16 "
            "or bfloat16 (the backends make smaller formats of it themselves)"
        )
    return _FORMATS[types.pop()] if len(types) == 1 else "float32"


def open_safetensors(path: Path) -> Any:
    """Return an open file whose header is sound and which is as long as that says; ModelLoadingError otherwise."""
    try:
        return safe_open(path, framework="numpy")  # spares a replica torch, which only some backends need
    except (OSError, SafetensorError) as error:
        raise ModelLoadingError(f"The weights {path} are cut off or broken ({error}); fetch them again") from error


def _tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield (Hugging Face name, OpenAI name, shape)."""
    d_model = config["d_model"]
    yield "encoder.conv1.weight", "encoder.conv1.weight", (d_model, config["num_mel_bins"], 3)
    yield "encoder.conv1.bias", "encoder.conv1.bias", (d_model,)
    yield "encoder.conv2.weight", "encoder.conv2.weight", (d_model, d_model, 3)
    yield "encoder.conv2.bias", "encoder.conv2.bias", (d_model,)
    yield "decoder.embed_tokens.weight", "decoder.token_embedding.weight", (config["vocab_size"], d_model)
    for side, positions, final in (
        ("encoder", "max_source_positions", "ln_post"),
        ("decoder", "max_target_positions", "ln"),
    ):
        shape = (config[positions], d_model)
        yield f"{side}.embed_positions.weight", f"{side}.positional_embedding", shape
        yield from _norm(f"{side}.layer_norm", f"{side}.{final}", d_model)
        for layer in range(config[f"{side}_layers"]):
            yield from _layer(f"{side}.layers.{layer}", f"{side}.blocks.{layer}", d_model, config[f"{side}_ffn_dim"])
            if side == "decoder":
                yield from _attention(
                    f"{side}.layers.{layer}.encoder_attn", f"{side}.blocks.{layer}.cross_attn", d_model
                )


def _layer(name: str, openai: str, d_model: int, ffn_dim: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    yield from _attention(f"{name}.self_attn", f"{openai}.attn", d_model)
    yield f"{name}.fc1.weight", f"{openai}.mlp.0.weight", (ffn_dim, d_model)
    yield f"{name}.fc1.bias", f"{openai}.mlp.0.bias", (ffn_dim,)
    yield f"{name}.fc2.weight", f"{openai}.mlp.2.weight", (d_model, ffn_dim)
    yield f"{name}.fc2.bias", f"{openai}.mlp.2.bias", (d_model,)
    yield from _norm(f"{name}.final_layer_norm", f"{openai}.mlp_ln", d_model)


def _attention(name: str, openai: str, d_model: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    for projection, projected in _ATTENTION.items():
        yield f"{name}.{projection}.weight", f"{openai}.{projected}.weight", (d_model, d_model)
        if projection != "k_proj":  # a key's bias would cancel in the softmax
            yield f"{name}.{projection}.bias", f"{openai}.{projected}.bias", (d_model,)
    yield from _norm(f"{name}_layer_norm", f"{openai}_ln", d_model)


def _norm(name: str, openai: str, d_model: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    yield f"{name}.weight", f"{openai}.weight", (d_model,)
    yield f"{name}.bias", f"{openai}.bias", (d_model,)
