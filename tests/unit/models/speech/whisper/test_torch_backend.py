"""Number formats of the torch backends, on machines with and without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.torch_backend import torch_dtype


def options(**chosen: str) -> WhisperOptions:
    return WhisperOptions(cache_dir=Path("unused"), **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("left_open", [{}, {"compute_type": "auto"}, {"compute_type": "default"}])
def test_the_format_follows_the_device_unless_chosen(left_open: dict[str, str]) -> None:
    assert torch_dtype(options(**left_open), torch.device("cuda")) == torch.float16
    assert torch_dtype(options(**left_open), torch.device("cpu")) == torch.float32
    assert torch_dtype(options(**left_open), torch.device("mps")) == torch.float32


@pytest.mark.parametrize("chosen", ["float32", "float16", "bfloat16"])
def test_a_chosen_format_is_taken_by_name(chosen: str) -> None:
    assert torch_dtype(options(compute_type=chosen), torch.device("cuda")) == getattr(torch, chosen)


@pytest.mark.parametrize("chosen", ["int8", "int8_float16", "int16"])
def test_formats_of_ctranslate2_alone_say_whose_they_are(chosen: str) -> None:
    with pytest.raises(ModelLoadingError, match=f"Only the backend faster-whisper computes in {chosen}"):
        torch_dtype(options(compute_type=chosen), torch.device("cpu"))
