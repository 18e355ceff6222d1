"""From a spec to a network: files, folders, and what is neither."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.drums.checkpoint import checkpoint_path, load_drums, save_checkpoint
from serve_app.models.drums.network import DrumNetwork, HyperParameters
from serve_app.results import Drum


def saved(path: Path, model_version: str = "untrained") -> Path:
    network = DrumNetwork(HyperParameters(conv_channels=(2, 2), width=8, block_width=8, dilations=(1,)))
    thresholds = dict.fromkeys(map(str, Drum), 0.5)
    save_checkpoint(path, network, thresholds=thresholds, model_version=model_version, facts={})
    return path


def test_file_and_folder(tmp_path: Path) -> None:
    path = saved(tmp_path / "model" / "other.pt", "other")
    for spec in (path, path.parent):
        assert load_drums(str(spec), cache_dir=tmp_path).model_version.startswith("other (")
    # beside others, the one that bears the usual name
    saved(path.parent / "best_model.pt", "best")
    assert load_drums(str(path.parent), cache_dir=tmp_path).model_version.startswith("best (")
    assert load_drums(str(path), cache_dir=tmp_path).model_version.startswith("other (")


def test_storage_url(tmp_path: Path) -> None:
    path = saved(tmp_path / "stored" / "best_model.pt")
    fetched = checkpoint_path(path.as_uri(), cache_dir=tmp_path / "cache")
    assert fetched.read_bytes() == path.read_bytes()


def test_folder_without_or_with_several(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"no \.pt, \.pth, \.ckpt file"):
        checkpoint_path(str(tmp_path), cache_dir=tmp_path)
    saved(tmp_path / "a.pt")
    saved(tmp_path / "b.pt")
    with pytest.raises(ModelLoadingError, match=r"a\.pt, b\.pt: name the file, or call it best_model\.pt"):
        checkpoint_path(str(tmp_path), cache_dir=tmp_path)


def test_missing_file_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadingError, match=r"There is no file 'model/best_model\.pt'"):
        load_drums("model/best_model.pt", cache_dir=tmp_path)


def test_auto_is_a_gpu_where_there_is_one(tmp_path: Path) -> None:
    loaded = load_drums(str(saved(tmp_path / "best_model.pt")), cache_dir=tmp_path, device="auto")
    device = next(loaded.network.parameters()).device
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_device_that_is_not_there(tmp_path: Path) -> None:
    path = saved(tmp_path / "best_model.pt")
    for device in ("cuda:63", "nonsense"):
        with pytest.raises(ModelLoadingError, match=device):
            load_drums(str(path), cache_dir=tmp_path, device=device)
