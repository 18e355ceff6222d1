"""Writing a Whisper checkpoint as a Hugging Face folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.checkpoint_completion import make_preprocessor_config
from serve_app.models.speech.whisper.checkpoint_files import (
    CONFIG,
    GENERATION_CONFIG,
    PREPROCESSOR_CONFIG,
    TOKENIZER,
    WEIGHTS,
    write_json,
)
from serve_app.models.speech.whisper.stored_tensors import stored_tensors
from serve_app.models.speech.whisper.tensors import PROJECTION

# On the hub OpenAI stores smaller vocabularies, those before large-v3, in float32, though the numbers have 16 bits.
_FIRST_HALF_VOCABULARY = 51_866
_HALF = ("float16", "bfloat16")
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def hugging_face_format(checkpoint: WhisperCheckpoint) -> str:
    """Return the number format to write: OpenAI's own for that vocabulary, so that its files come out to the last bit.

    Nothing is lost: float32 holds every float16 and bfloat16, and the quotients of integers and scales.
    """
    is_half = checkpoint.number_format in _HALF and checkpoint.vocab_size >= _FIRST_HALF_VOCABULARY
    return checkpoint.number_format if is_half else "float32"


def write_hugging_face(checkpoint: WhisperCheckpoint, target: Path) -> None:
    """Fill a folder with config.json, generation_config.json, preprocessor_config.json, tokenizer.json and safetensors.

    Takes the memory of the written weights once.
    """
    number_format = hugging_face_format(checkpoint)
    dtype = getattr(torch, number_format)
    tensors = {
        name if name == PROJECTION else f"model.{name}": tensor.to(dtype).contiguous()
        for name, tensor in stored_tensors(checkpoint)
    }
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    (target / WEIGHTS).chmod(0o644)  # safetensors writes for its owner alone
    shutil.copyfile(checkpoint.folder / TOKENIZER, target / TOKENIZER)
    ids = {name: checkpoint.generation_config[name] for name in _TOKEN_IDS}
    write_json(target / CONFIG, {**checkpoint.config, **ids, "is_encoder_decoder": True, "dtype": number_format})
    write_json(target / GENERATION_CONFIG, checkpoint.generation_config)
    write_json(target / PREPROCESSOR_CONFIG, make_preprocessor_config(checkpoint.config))
