"""Writers of a Whisper checkpoint in each form; they read its tensors from any form."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ctranslate2.converters import TransformersConverter
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper import checkpoint_files as files
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.checkpoint_completion import make_preprocessor_config
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.models.speech.whisper.ctranslate2_reader import ctranslate2_tensors
from serve_app.sentences import Sentence


def stored_tensors(checkpoint: WhisperCheckpoint) -> Iterator[tuple[str, Tensor]]:
    """Yield Hugging Face names (after "model.") and tensors, one at a time: floats as stored, integers as float32."""
    if checkpoint.form is Form.CTRANSLATE2:
        yield from ctranslate2_tensors(checkpoint.weights[0], checkpoint.config)
    elif checkpoint.form is Form.OPENAI:
        from serve_app.models.speech.whisper.openai_reader import openai_tensors

        yield from openai_tensors(checkpoint.weights[0], checkpoint.config)
    else:
        wanted = {*files.expected_tensors(checkpoint.config), files.PROJECTION}
        for path in checkpoint.weights:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (no mapping)
                    name = key.removeprefix("model.")
                    if name in wanted:
                        yield name, file.get_tensor(key)


# On the hub OpenAI stores models before large-v3 in float32, though the numbers have 16 bits.
_FIRST_HALF_VOCABULARY = 51_866
_HALF = ("float16", "bfloat16")
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def hugging_face_format(checkpoint: WhisperCheckpoint) -> str:
    """Return the number format to write: OpenAI's own for that vocabulary, so that its files are equal to the last bit.

    float32 holds every float16 and bfloat16, and the quotients of integers and scales.
    """
    is_half = checkpoint.number_format in _HALF and checkpoint.config["vocab_size"] >= _FIRST_HALF_VOCABULARY
    return checkpoint.number_format if is_half else "float32"


def write_hugging_face(checkpoint: WhisperCheckpoint, target: Path) -> None:
    """Fill a folder with the files of Hugging Face's form. Takes the memory of the written weights once."""
    number_format = hugging_face_format(checkpoint)
    dtype = getattr(torch, number_format)
    tensors = {
        name if name == files.PROJECTION else f"model.{name}": tensor.to(dtype).contiguous()
        for name, tensor in stored_tensors(checkpoint)
    }
    save_file(tensors, target / files.WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(checkpoint.folder / files.TOKENIZER, target / files.TOKENIZER)
    ids = {name: checkpoint.generation_config[name] for name in _TOKEN_IDS}
    files.write_json(
        target / files.CONFIG, {**checkpoint.config, **ids, "is_encoder_decoder": True, "dtype": number_format}
    )
    files.write_json(target / files.GENERATION_CONFIG, checkpoint.generation_config)
    files.write_json(target / files.PREPROCESSOR_CONFIG, make_preprocessor_config(checkpoint.config))


MODEL_FILE = "model.pt"


def write_openai(checkpoint: WhisperCheckpoint, target: Path) -> None:
    """Write `model.pt` (tensors and sizes: loadable with weights_only); weights keep their number format.

    Raises:
        ModelLoadingError: the checkpoint differs from what openai-whisper fixes in its code (model.py).
    """
    config = checkpoint.config
    wide = 4 * config["d_model"]
    usual = {
        "encoder_ffn_dim": wide,
        "decoder_ffn_dim": wide,
        "activation_function": "gelu",
        "scale_embedding": False,
        "tie_word_embeddings": True,
    }
    differs = [f"{name} {config[name]}" for name, value in usual.items() if config.get(name, value) != value]
    if differs:
        raise ModelLoadingError(
            Sentence(
                "openai-whisper has no Whisper with {differs}, as {name} has; use another backend",
                differs=", ".join(differs),
                name=checkpoint.name,
            )
        )
    names = {name: openai for name, (openai, _) in files.expected_tensors(config).items()}
    state = {names[name]: tensor for name, tensor in stored_tensors(checkpoint) if name in names}
    dims = {openai: config[name] for openai, name in files.OPENAI_SIZES.items()}
    torch.save({"dims": dims, "model_state_dict": state}, target / MODEL_FILE)


class _Converter(TransformersConverter):
    """Loads the weights in their stored type, which config.json may misstate."""

    def __init__(self, checkpoint: WhisperCheckpoint) -> None:
        super().__init__(str(checkpoint.folder))
        self._dtype = getattr(torch, checkpoint.number_format)

    def load_model(self, model_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
        options = kwargs | {"dtype": self._dtype, "local_files_only": True, "use_safetensors": True}
        return model_class.from_pretrained(model_name_or_path, **options)

    def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
        return tokenizer_class.from_pretrained(model_name_or_path, local_files_only=True, **kwargs)


def write_ctranslate2(checkpoint: WhisperCheckpoint, target: Path, number_format: str) -> None:
    """Fill a folder with the files of CTranslate2's form. Takes the memory of the stored weights once."""
    _Converter(checkpoint).convert(str(target), quantization=number_format, force=True)
    for name in (files.TOKENIZER, files.PREPROCESSOR_CONFIG):  # faster-whisper would fetch the first from the hub
        shutil.copyfile(checkpoint.folder / name, target / name)
