"""The tensors of a checkpoint by one set of names, whatever form it lies in."""

from __future__ import annotations

from collections.abc import Iterator

from safetensors import safe_open
from torch import Tensor

from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.models.speech.whisper.ctranslate2_reader import ctranslate2_tensors
from serve_app.models.speech.whisper.tensors import PROJECTION, expected_tensors


def stored_tensors(checkpoint: WhisperCheckpoint) -> Iterator[tuple[str, Tensor]]:
    """Yield Hugging Face names (after "model.") and tensors, one at a time: floats as stored, integers as float32."""
    if checkpoint.form is Form.CTRANSLATE2:
        yield from ctranslate2_tensors(checkpoint.weights[0], checkpoint.config)
    elif checkpoint.form is Form.OPENAI:
        from serve_app.models.speech.whisper.openai_reader import openai_tensors

        yield from openai_tensors(checkpoint.weights[0], checkpoint.config)
    else:
        wanted = {*expected_tensors(checkpoint.config), PROJECTION}
        for path in checkpoint.weights:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (no mapping)
                    name = key.removeprefix("model.")
                    if name in wanted:
                        yield name, file.get_tensor(key)
