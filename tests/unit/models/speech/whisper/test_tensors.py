"""Names and shapes of a Whisper's tensors, against the two libraries that define them."""

from __future__ import annotations

import pytest
import torch
import whisper
from transformers import WhisperConfig, WhisperForConditionalGeneration

from serve_app.models.speech.whisper.checkpoint_files import expected_tensors

# large-v3-turbo's proportions: more mels, another vocabulary, a deeper encoder than decoder
CONFIG = WhisperConfig(
    vocab_size=51_866,
    num_mel_bins=128,
    d_model=40,
    encoder_layers=3,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=160,
    decoder_ffn_dim=160,
    max_target_positions=48,
)


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[str, tuple[int, ...]]]:
    return expected_tensors(CONFIG.to_dict())


def test_names_and_shapes_are_those_of_transformers(expected: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(CONFIG)
    theirs = {
        name.removeprefix("model."): tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if name != "proj_out.weight"  # tied to the embedding
    }
    assert {name: shape for name, (_, shape) in expected.items()} == theirs


def test_names_and_shapes_are_those_of_openai_whisper(expected: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    dims = whisper.model.ModelDimensions(128, 1500, 40, 4, 3, 51_866, 48, 40, 2, 2)
    theirs = {name: tuple(tensor.shape) for name, tensor in whisper.model.Whisper(dims).state_dict().items()}
    assert dict(expected.values()) == theirs
