"""Writing a Whisper checkpoint in CTranslate2's form, by CTranslate2's own converter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from ctranslate2.converters import TransformersConverter

from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.checkpoint_files import PREPROCESSOR_CONFIG, TOKENIZER


class _Converter(TransformersConverter):
    """Load the weights as they are stored: what config.json says of their type need not be so."""

    def __init__(self, checkpoint: WhisperCheckpoint) -> None:
        super().__init__(str(checkpoint.folder))
        self._dtype = getattr(torch, checkpoint.number_format)

    def load_model(self, model_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
        options = kwargs | {"dtype": self._dtype, "local_files_only": True, "use_safetensors": True}
        return model_class.from_pretrained(model_name_or_path, **options)

    def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
        return tokenizer_class.from_pretrained(model_name_or_path, local_files_only=True, **kwargs)


def write_ctranslate2(checkpoint: WhisperCheckpoint, target: Path, number_format: str) -> None:
    """Fill a folder with what `faster_whisper.WhisperModel` loads.

    Takes the memory of the stored weights once; tensors are converted one after the other.

    Args:
        checkpoint: what to convert.
        target: an existing folder.
        number_format: of CTranslate2's quantizations.
    """
    _Converter(checkpoint).convert(str(target), quantization=number_format, force=True)
    for name in (TOKENIZER, PREPROCESSOR_CONFIG):  # faster-whisper would go to the hub for the first
        shutil.copyfile(checkpoint.folder / name, target / name)
