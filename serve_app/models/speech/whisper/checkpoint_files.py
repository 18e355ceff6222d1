"""Files of a Whisper checkpoint in each form, and the names and shapes of its tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from serve_app.errors import ModelLoadingError
from serve_app.sentences import Sentence

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
_ELSEWHERE = {"transformers_weights", "configuration_files"}  # of config.json: what transformers reads instead
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
CTRANSLATE2_WEIGHTS = "model.bin"
CTRANSLATE2_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
LANGUAGE_TOKEN = re.compile(r"<\|([a-z]{2,3})\|>")

# openai-whisper, model.py (is_multilingual), recognises an English-only vocabulary by its size alone
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

# of every Whisper in OpenAI's or CTranslate2's form (openai-whisper, model.py; ctranslate2, whisper_spec.py)
FIXED_CONFIG = {
    "architectures": ["WhisperForConditionalGeneration"],
    "model_type": "whisper",
    "activation_function": "gelu",
    "scale_embedding": False,
}
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
    """Form of a checkpoint."""

    HUGGING_FACE = "huggingface"
    CTRANSLATE2 = "ctranslate2"
    OPENAI = "openai"


def find_form(path: Path) -> Form:
    """Return the form of a checkpoint: a file is OpenAI's; in a folder, Hugging Face's weights come first."""
    if path.is_file():
        return Form.OPENAI
    weights = (WEIGHTS, SHARD_INDEX, PICKLED, PICKLED_INDEX)
    has_others = any((path / name).is_file() for name in weights)
    is_ctranslate2 = (path / CTRANSLATE2_WEIGHTS).is_file() and not has_others
    return Form.CTRANSLATE2 if is_ctranslate2 else Form.HUGGING_FACE


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's config.json; ModelLoadingError if it is not that of a Whisper, or lacks a size."""
    path = folder / CONFIG
    config = read_json(path)
    architectures = config.get("architectures") or ["WhisperForConditionalGeneration"]
    if config.get("model_type") != "whisper" or not _ARCHITECTURES & set(architectures):
        what = f"{config.get('model_type')!r} model ({', '.join(map(str, architectures))})"
        raise ModelLoadingError(
            Sentence(
                "{path} describes a {what}, not a Whisper that transcribes; name another checkpoint",
                path=path,
                what=what,
            )
        )
    elsewhere = sorted(_ELSEWHERE & set(config))
    if elsewhere:
        raise ModelLoadingError(
            Sentence(
                "{path} has {elsewhere}, which leads to files that are not checked; remove it",
                path=path,
                elsewhere=elsewhere[0],
            )
        )
    wrong = [name for name in _SIZES if not isinstance(config.get(name), int) or config[name] < 1]
    if wrong:
        raise ModelLoadingError(
            Sentence(
                "{path} lacks {wrong}; copy it from the model that the checkpoint was made of",
                path=path,
                wrong=", ".join(wrong),
            )
        )
    return config


def is_multilingual(config: Mapping[str, Any]) -> bool:
    """Whether a Whisper has tokens for languages and tasks."""
    return int(config["vocab_size"]) >= _SMALLEST_MULTILINGUAL_VOCABULARY


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return a folder's safetensors, one file or all shards; ModelLoadingError names a missing one."""
    whole = folder / WEIGHTS
    if whole.is_file():
        return (whole,)
    index = folder / SHARD_INDEX
    if not index.is_file():
        raise ModelLoadingError(
            Sentence("The checkpoint {folder} has no {weights}; fetch it again", folder=folder, weights=WEIGHTS)
        )
    weight_map = read_json(index).get("weight_map")
    names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    unsafe = [name for name in names if not name.endswith(".safetensors")]
    if unsafe:  # transformers goes by the name, and unpickles any other file
        raise ModelLoadingError(
            Sentence(
                "{index} names {unsafe}, which is no safetensors; fetch the checkpoint again",
                index=index,
                unsafe=repr(unsafe[0][:200]),
            )
        )
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        example = f", e.g. {missing[0]}" if missing else ""
        raise ModelLoadingError(
            Sentence(
                "{index} names {num} files of weights, of which {num2} are not there{example}; fetch the "
                "checkpoint again",
                index=index,
                num=len(names),
                num2=len(missing),
                example=example,
            )
        )
    return tuple(folder / name for name in names)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in the format of the hub's files."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; ModelLoadingError names the file."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelLoadingError(
            Sentence(
                "{parent} has no {name}; name a folder with a whole Whisper checkpoint",
                parent=path.parent,
                name=path.name,
            )
        ) from None
    except (OSError, ValueError) as error:
        raise ModelLoadingError(
            Sentence(
                "{path} can't be read as JSON ({reason}); fetch the checkpoint again", path=path, reason=str(error)
            )
        ) from error
    if not isinstance(content, dict):
        raise ModelLoadingError(Sentence("{path} does not hold a JSON object; fetch the checkpoint again", path=path))
    return content


PROJECTION = "proj_out.weight"  # only where it is not the embedding
_PREFIX = "model."
_FORMATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}


def expected_tensors(config: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the tensors of a Whisper: Hugging Face name (after "model.") → (OpenAI name, shape)."""
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    width = config["d_model"]

    def add(name: str, openai: str, *shape: int, has_bias: bool = True) -> None:
        tensors[f"{name}.weight"] = (f"{openai}.weight", shape)
        if has_bias:
            tensors[f"{name}.bias"] = (f"{openai}.bias", shape[:1])

    add("encoder.conv1", "encoder.conv1", width, config["num_mel_bins"], 3)
    add("encoder.conv2", "encoder.conv2", width, width, 3)
    add("decoder.embed_tokens", "decoder.token_embedding", config["vocab_size"], width, has_bias=False)
    for side, positions, final in (
        ("encoder", "max_source_positions", "ln_post"),
        ("decoder", "max_target_positions", "ln"),
    ):
        tensors[f"{side}.embed_positions.weight"] = (f"{side}.positional_embedding", (config[positions], width))
        add(f"{side}.layer_norm", f"{side}.{final}", width)
        attentions = {"self_attn": "attn", "encoder_attn": "cross_attn"} if side == "decoder" else {"self_attn": "attn"}
        for layer in range(config[f"{side}_layers"]):
            name, openai = f"{side}.layers.{layer}", f"{side}.blocks.{layer}"
            for attention, theirs in attentions.items():
                for projection, projected in _ATTENTION.items():
                    # a key's bias would cancel in the softmax
                    names = f"{name}.{attention}.{projection}", f"{openai}.{theirs}.{projected}"
                    add(*names, width, width, has_bias=projection != "k_proj")
                add(f"{name}.{attention}_layer_norm", f"{openai}.{theirs}_ln", width)
            add(f"{name}.fc1", f"{openai}.mlp.0", config[f"{side}_ffn_dim"], width)
            add(f"{name}.fc2", f"{openai}.mlp.2", width, config[f"{side}_ffn_dim"])
            add(f"{name}.final_layer_norm", f"{openai}.mlp_ln", width)
    return tensors


def check_tensors(weights: Sequence[Path], config: Mapping[str, Any]) -> str:
    """Check by the files' headers that they hold every tensor in its shape; return the number format.

    It is "float32" where formats are mixed.

    Raises:
        ModelLoadingError: a file is cut off or broken, or a tensor is missing, or of another shape or type.
    """
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in weights:
        try:
            file = safe_open(path, framework="numpy")  # spares a replica torch, which only some backends need
        except (OSError, SafetensorError) as error:
            raise ModelLoadingError(
                Sentence(
                    "The weights {path} are cut off or broken ({reason}); fetch them again",
                    path=path,
                    reason=str(error),
                )
            ) from error
        with file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_slice(key)
                found[key.removeprefix(_PREFIX)] = (tuple(tensor.get_shape()), str(tensor.get_dtype()))
    where = weights[0].parent
    wanted = expected_tensors(config)
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ModelLoadingError(
            Sentence(
                "The weights in {where} lack {num} of {num2} tensors of a Whisper of this config.json, e.g. "
                "{missing}: they belong to another model",
                where=where,
                num=len(missing),
                num2=len(wanted),
                missing=missing[0],
            )
        )
    for name, (_, shape) in wanted.items():
        if found[name][0] != shape:
            raise ModelLoadingError(
                Sentence(
                    "The tensor {name} in {where} has shape {found} where config.json has {shape}: weights and "
                    "configuration belong to different models",
                    name=name,
                    where=where,
                    found=list(found[name][0]),
                    shape=list(shape),
                )
            )
    types = {found[name][1] for name in wanted}
    if not types <= _FORMATS.keys():
        raise ModelLoadingError(
            Sentence(
                "The weights in {where} are stored as {types}; name a checkpoint in float32, float16 or bfloat16 "
                "(the backends make smaller formats of it themselves)",
                where=where,
                types=", ".join(sorted(types)),
            )
        )
    return _FORMATS[types.pop()] if len(types) == 1 else "float32"
