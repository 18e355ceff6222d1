"""The tensors of a Whisper: their names and shapes in Hugging Face form, and their names in OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from serve_app.errors import ModelLoadingError

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
