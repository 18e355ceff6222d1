"""A Whisper checkpoint of true form and random weights, small enough for unit tests."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[4]))  # `training` is no part of the installed package


@pytest.fixture(scope="session")
def mini_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the folder once: 2 + 2 layers of 32, the real multilingual tokenizer, float16. Not to be changed."""
    from training.whisper_micro.checkpoint import write_random_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "mini-whisper"
    write_random_checkpoint(folder, d_model=32, encoder_layers=2, decoder_layers=2, heads=2)
    return folder


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies a checkpoint, under another name if need be, for a test to change."""

    def copy(folder: Path, name: str | None = None) -> Path:
        return Path(shutil.copytree(folder, tmp_path / (name or folder.name)))

    return copy
