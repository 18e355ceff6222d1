"""How a Whisper is to be loaded."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from serve_app.models.speech.whisper.options import WhisperOptions


@pytest.mark.parametrize("left_open", [None, "default", "auto"])
def test_the_number_format_may_be_left_to_the_backend(left_open: str | None) -> None:
    assert WhisperOptions(cache_dir=Path("/cache"), compute_type=left_open).chosen_compute_type is None


def test_a_number_format_is_insisted_on() -> None:
    assert WhisperOptions(cache_dir=Path("/cache"), compute_type="int8_float16").chosen_compute_type == "int8_float16"


def test_a_token_is_neither_shown_nor_lost_between_processes() -> None:
    options = WhisperOptions(cache_dir=Path("/cache"), hf_token="hf_secret")
    assert "hf_secret" not in repr(options)
    assert pickle.loads(pickle.dumps(options)).hf_token == "hf_secret"
