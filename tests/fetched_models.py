"""Models of the catalog, for tests that need real weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.models.built_folder import is_whole
from serve_app.models.catalog import find_model, model_folder
from serve_app.settings import Settings


def fetched_folder(name: str) -> Path:
    """Return the model's folder; skip the test where the model was not fetched."""
    model = find_model(name)
    assert model is not None
    folder = model_folder(model, Settings.from_environment().models_dir)
    if not is_whole(folder):
        pytest.skip(f"{name} is not on this machine: run `serve-app models fetch {name}`")
    return folder
