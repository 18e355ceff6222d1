"""Checkpoints of the drum network, `best_model.pt`: one file with all that is needed to use it.

A plain dict of `torch.save`, read with `weights_only`: loading runs no code.

| key | holds |
| --- | --- |
| `format`, `version` | `serve_app/drums`, 1 |
| `model_version` | name of the weights |
| `hyper_parameters` | sizes and labels: the fields of `HyperParameters` |
| `features` | the spectrogram of its training; must be that of `bands.py` |
| `thresholds` | label to the least probability of a stroke; of kick, snare and hihat at least |
| `facts` | how it was made, for people: numbers, strings, and lists and dicts of them |
| `state_dict` | the parameters, stored as float16 |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.devices import torch_device
from serve_app.models.drums import bands
from serve_app.models.drums.network import DrumNetwork, HyperParameters
from serve_app.models.drums.options import EMBEDDED
from serve_app.models.pickled import Refused, read_checkpoint
from serve_app.models.weights import weights_file
from serve_app.results import Drum

_FORMAT, _VERSION = "serve_app/drums", 1
_KEYS = ("format", "version", "model_version", "hyper_parameters", "features", "thresholds", "state_dict")
_TUPLES = {"labels": str, "conv_channels": int, "dilations": int}


@dataclass(frozen=True, slots=True)
class LoadedDrums:
    """A checkpoint's content, with the network on its device in evaluation mode.

    Attributes:
        thresholds: for each drum, the least probability of a stroke.
        model_version: the name of the weights and the beginning of the file's SHA-256.
    """

    network: DrumNetwork
    hyper_parameters: HyperParameters
    thresholds: dict[str, float]
    model_version: str
    facts: dict[str, Any]


def save_checkpoint(
    path: Path, network: DrumNetwork, *, thresholds: Mapping[str, float], model_version: str, facts: Mapping[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all; missing folders are made."""
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "model_version": model_version,
        "hyper_parameters": asdict(network.hyper_parameters),
        "features": features(),
        "thresholds": {label: float(value) for label, value in thresholds.items()},
        "facts": dict(facts),
        "state_dict": state,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    torch.save(content, partial)
    partial.replace(path)


def load_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> LoadedDrums:
    """Return the network stored at `path`.

    Raises:
        ModelLoadingError: the file is missing, broken, incomplete or no checkpoint of ours, was trained on another
            spectrogram, or the device is not there; the message names the cause.
    """
    try:
        stored = Path(path).read_bytes()
        content = _read(stored)
        hyper_parameters = _hyper_parameters(content["hyper_parameters"])
        _check_features(content["features"])
        thresholds = _thresholds(content["thresholds"], hyper_parameters)
        network = _network(hyper_parameters, content["state_dict"])
        facts = content.get("facts", {})
        if not isinstance(facts, dict):
            raise _Unfit(f"its facts are {type(facts).__name__}, not a dict")
    except (_Unfit, OSError) as error:
        raise ModelLoadingError(
            f"The drum model {str(path)!r} can't be loaded: {error}. Name a best_model.pt that "
            "`python -m training.drums` wrote, or leave the model out to use the one that comes with serve_app"
        ) from error
    try:
        network = network.to(device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise ModelLoadingError(f"The drum model can't run on device {str(device)!r}: {error}") from error
    model_version = f"{content['model_version']} ({hashlib.sha256(stored).hexdigest()[:8]})"
    return LoadedDrums(network.eval(), hyper_parameters, thresholds, model_version, facts)


def load_drums(
    spec: str = EMBEDDED, *, cache_dir: Path | None = None, device: str = "cpu", hf_token: str | None = None
) -> LoadedDrums:
    """Return the network of a spec for `checkpoint_path` on a device of `models.devices`; ModelLoadingError."""
    return load_checkpoint(checkpoint_path(spec, cache_dir=cache_dir, hf_token=hf_token), torch_device(device))


def checkpoint_path(spec: str = EMBEDDED, *, cache_dir: Path | None = None, hf_token: str | None = None) -> Path:
    """Return a spec's checkpoint (`weights_file`); without `cache_dir` downloads go to the user's cache folder."""
    cache_dir = cache_dir or Path.home() / ".cache" / "serve_app"
    return weights_file(
        spec, cache_dir, what="drum model", usual_name="best_model.pt", endings=(".pt",), hf_token=hf_token
    )


def features() -> dict[str, Any]:
    """Return the numbers that define our spectrogram."""
    centers_hz = bands.band_centers_hz()
    return {
        "sample_rate_hz": bands.SAMPLE_RATE_HZ,
        "hop": bands.HOP,
        "window": bands.WINDOW,
        "num_bands": bands.num_bands(),
        "lowest_hz": round(float(centers_hz[0]), 2),
        "highest_hz": round(float(centers_hz[-1]), 2),
    }


class _Unfit(Exception):
    """The message says what is wrong with a checkpoint."""


def _read(stored: bytes) -> dict[str, Any]:
    try:
        content = read_checkpoint(stored)
    except Refused as error:
        raise _Unfit(str(error)) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _Unfit(f"it holds a {type(content).__name__}, not a dict with the keys {', '.join(_KEYS)}")
    if missing := [key for key in _KEYS if key not in content]:
        bare = " (a bare state_dict?)" if content and all(torch.is_tensor(value) for value in content.values()) else ""
        raise _Unfit(f"it lacks {', '.join(missing)}{bare}")
    if (content["format"], content["version"]) != (_FORMAT, _VERSION):
        raise _Unfit(f"it is {content['format']!r} version {content['version']!r}, not {_FORMAT!r} version {_VERSION}")
    if not isinstance(content["model_version"], str):
        raise _Unfit("its model_version is no text")
    return content


def _hyper_parameters(given: Any) -> HyperParameters:
    names = [each.name for each in fields(HyperParameters)]
    if not isinstance(given, dict) or set(given) != set(names):
        stated = ", ".join(sorted(map(str, given))) if isinstance(given, dict) else type(given).__name__
        raise _Unfit(f"its hyper_parameters are {stated}, not {', '.join(names)}")
    sizes = dict(given)
    for name, kind in _TUPLES.items():
        value = sizes[name]
        if not isinstance(value, list | tuple) or not value or not all(isinstance(each, kind) for each in value):
            raise _Unfit(f"its hyper-parameter {name} is {value!r}, not a list of {kind.__name__}")
        sizes[name] = tuple(value)
    hyper_parameters = HyperParameters(**sizes)
    if missing := [drum.value for drum in Drum if drum.value not in hyper_parameters.labels]:
        raise _Unfit(f"it does not know {', '.join(missing)}; its labels are {', '.join(hyper_parameters.labels)}")
    if len(set(hyper_parameters.labels)) < len(hyper_parameters.labels):
        raise _Unfit(f"its labels repeat: {', '.join(hyper_parameters.labels)}")
    return hyper_parameters


def _check_features(given: Any) -> None:
    expected = features()
    stated = given if isinstance(given, dict) else {}
    if differing := [name for name, value in expected.items() if stated.get(name) != value]:
        pairs = ", ".join(f"{name} {stated.get(name, 'unstated')} instead of {expected[name]}" for name in differing)
        raise _Unfit(f"it was trained on another spectrogram: {pairs}")


def _thresholds(given: Any, hyper_parameters: HyperParameters) -> dict[str, float]:
    if not isinstance(given, dict):
        raise _Unfit(f"its thresholds are {type(given).__name__}, not a dict")
    if unknown := [str(label) for label in given if label not in hyper_parameters.labels]:
        raise _Unfit(f"it has thresholds for {', '.join(unknown)}, but its labels are {hyper_parameters.labels}")
    if missing := [drum.value for drum in Drum if drum.value not in given]:
        raise _Unfit(f"it has no threshold for {', '.join(missing)}")
    for label, value in given.items():
        if not isinstance(value, float) or not 0.0 < value < 1.0:
            raise _Unfit(f"its threshold for {label} is {value!r}, not a number between 0 and 1")
    return dict(given)


def _network(hyper_parameters: HyperParameters, state: Any) -> DrumNetwork:
    """Return the network with these parameters, which are checked before memory is used for them."""
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise _Unfit("its state_dict is no dict of tensors")
    try:
        with torch.device("meta"):
            network = DrumNetwork(hyper_parameters)
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _Unfit(f"no network has its hyper_parameters ({_first_line(error)})") from error
    expected = network.state_dict()
    if missing := sorted(set(expected) - set(state)):
        raise _Unfit(f"its state_dict lacks {_some(missing)}")
    if unknown := sorted(set(state) - set(expected)):
        raise _Unfit(f"its state_dict has {_some(unknown)}, which the network has not")
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise _Unfit(f"{name} in its state_dict has the shape {tuple(state[name].shape)}, not {tuple(value.shape)}")
        if not torch.isfinite(state[name]).all():
            raise _Unfit(f"{name} in its state_dict is not finite")
    own = {name: state[name].to(expected[name].dtype) for name in expected}
    network.load_state_dict(own, assign=True)
    network.spectral.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
