"""From what an operator names a drum model by to a network that is ready."""

from __future__ import annotations

from pathlib import Path

from serve_app.errors import ModelLoadingError
from serve_app.models.devices import torch_device
from serve_app.models.drums.checkpoint import LoadedDrums, load_checkpoint
from serve_app.models.drums.options import EMBEDDED
from serve_app.models.weights import fetch_weights

_FILE = "best_model.pt"


def load_drums(
    spec: str = EMBEDDED, *, cache_dir: Path | None = None, device: str = "cpu", hf_token: str | None = None
) -> LoadedDrums:
    """Return the network that a spec names, ready on a device.

    Args:
        spec: see `checkpoint_path`.
        cache_dir: see `checkpoint_path`.
        device: as in `models.devices`.
        hf_token: opens gated models on the hub.

    Raises:
        ModelLoadingError: it can't be had, is no checkpoint of ours, or the device is not there.
    """
    return load_checkpoint(checkpoint_path(spec, cache_dir=cache_dir, hf_token=hf_token), torch_device(device))


def checkpoint_path(spec: str = EMBEDDED, *, cache_dir: Path | None = None, hf_token: str | None = None) -> Path:
    """Return the checkpoint that a spec names, fetched if need be; of a folder its `best_model.pt`, or its only `.pt`.

    Args:
        spec: as in `models.weights`.
        cache_dir: where what is fetched is kept; None: the user's cache folder.
        hf_token: opens gated models on the hub.

    Raises:
        ModelLoadingError: it can't be had.
    """
    if spec.endswith(".pt") and "://" not in spec and not Path(spec).expanduser().exists():
        # `model/best_model.pt` looks like an id on the hub, but nobody means that
        raise ModelLoadingError(f"There is no file {spec!r} (in {Path.cwd()}): correct the path to the drum model")
    path = fetch_weights(spec, cache_dir or Path.home() / ".cache" / "serve_app", hf_token)
    if not path.is_dir():
        return path
    named = path / _FILE
    if named.is_file():
        return named
    found = sorted(path.glob("*.pt"))
    if len(found) != 1:
        there = ", ".join(each.name for each in found) or "no .pt file"
        raise ModelLoadingError(f"The drum model {spec!r} is a folder with {there}: name the file, or call it {_FILE}")
    return found[0]
