"""Writing a Whisper checkpoint as the `.pt` file that openai-whisper loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.stored_tensors import stored_tensors
from serve_app.models.speech.whisper.tensors import expected_tensors

MODEL_FILE = "model.pt"
ALIGNMENT_HEADS_FILE = "alignment_heads.json"


def write_openai(checkpoint: WhisperCheckpoint, target: Path) -> None:
    """Fill a folder with `model.pt` (tensors and sizes: loadable with weights_only) and `alignment_heads.json`.

    Weights keep their number format; openai-whisper computes with its own.

    Raises:
        ModelLoadingError: the architecture has something that openai-whisper's has not.
    """
    config = checkpoint.config
    _check_expressible(checkpoint)
    names = {name: openai for name, (openai, _) in expected_tensors(config).items()}
    state = {names[name]: tensor for name, tensor in stored_tensors(checkpoint) if name in names}
    dims = {
        "n_mels": config["num_mel_bins"],
        "n_audio_ctx": config["max_source_positions"],
        "n_audio_state": config["d_model"],
        "n_audio_head": config["encoder_attention_heads"],
        "n_audio_layer": config["encoder_layers"],
        "n_vocab": config["vocab_size"],
        "n_text_ctx": config["max_target_positions"],
        "n_text_state": config["d_model"],
        "n_text_head": config["decoder_attention_heads"],
        "n_text_layer": config["decoder_layers"],
    }
    torch.save({"dims": dims, "model_state_dict": state}, target / MODEL_FILE)
    heads = {"alignment_heads": [list(head) for head in checkpoint.alignment_heads]}
    (target / ALIGNMENT_HEADS_FILE).write_text(json.dumps(heads), "utf-8")


def _check_expressible(checkpoint: WhisperCheckpoint) -> None:
    """Refuse what openai-whisper fixes in its code (model.py) and Hugging Face's form leaves open."""
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
            f"openai-whisper has no Whisper with {', '.join(differs)}, as {checkpoint.name} has; use another backend"
        )
