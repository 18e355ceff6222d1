"""`load_drums`: the drum network that an operator names, ready on a device."""

from __future__ import annotations

from pathlib import Path

from serve_app.models.devices import torch_device
from serve_app.models.drums.checkpoint import LoadedDrums, load_checkpoint
from serve_app.models.drums.options import EMBEDDED
from serve_app.models.weights import weights_file


def load_drums(
    spec: str = EMBEDDED, *, cache_dir: Path | None = None, device: str = "cpu", hf_token: str | None = None
) -> LoadedDrums:
    """Return the network that a spec names, ready on a device.

    Args:
        spec: see `checkpoint_path`.
        cache_dir: see `checkpoint_path`.
        device: as in `models.devices`.

    Raises:
        ModelLoadingError: it can't be had, is no checkpoint of ours, or the device is not there.
    """
    return load_checkpoint(checkpoint_path(spec, cache_dir=cache_dir, hf_token=hf_token), torch_device(device))


def checkpoint_path(spec: str = EMBEDDED, *, cache_dir: Path | None = None, hf_token: str | None = None) -> Path:
    """Return the checkpoint that a spec names, as `models.weights.weights_file`; without `cache_dir` fetched files are
    kept in the user's cache folder.
    """
    cache_dir = cache_dir or Path.home() / ".cache" / "serve_app"
    return weights_file(
        spec, cache_dir, what="drum model", usual_name="best_model.pt", endings=(".pt",), hf_token=hf_token
    )
