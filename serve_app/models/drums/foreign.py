"""`fit_foreign`: a `best_model.pt` of another maker, a plain state_dict, with its settings in a file beside it.

`best_model.json` (or `.yaml`, `.yml`: the name of the weights with another ending) holds the fields of
`log_mel.Settings`. A state_dict says nothing of the spectrogram that its network was trained on, so the file must be
there; a field that it lacks has the default, which a note of every transcript names.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from serve_app.models.drums.foreign_layers import Unfit, input_bands, num_outputs
from serve_app.models.drums.foreign_network import (
    ACTIVATIONS,
    BANDS_FIRST,
    FLATTEN,
    MAX,
    MEAN,
    TIME_FIRST,
    ForeignNetwork,
    Wiring,
    fit_network,
)
from serve_app.models.drums.log_mel import DB, LN, LN1, LOG10, LOUDEST, NONE, Settings, per_band
from serve_app.results import Drum
from serve_app.sentences import Sentence

_ENDINGS = (".json", ".yaml", ".yml")
# Without these a network has nothing of the kind, or its shapes say it: no default is assumed that could be wrong.
_NOT_TOLD = frozenset({"thresholds", "pool", "win_length", "fmax", "mean", "std", "n_mels"})
_CHOICES = {
    "log": (DB, LN, LOG10, LN1, NONE),
    "layout": (TIME_FIRST, BANDS_FIRST),
    "reduce": (FLATTEN, MEAN, MAX),
    "activation": tuple(ACTIVATIONS),
    "norm": ("slaney", None),
    "power": (1.0, 2.0),
}
# what no sound has: beyond them the first request would fail, or fill the memory
_BOUNDS = {
    "sample_rate": (1_000, 768_000),
    "n_fft": (16, 1 << 17),
    "hop_length": (8, 1 << 17),
    "win_length": (16, 1 << 17),
    "n_mels": (1, 4096),
}
_ABOVE_0 = ("fmax", "top_db", "eps")


@dataclass(frozen=True, slots=True)
class ForeignDrums:
    """A network of another maker with its front end.

    Attributes:
        thresholds: of every label.
        told: how the file was understood, a line each.
        assumed: fields that the settings lack, with their defaults; empty: none.
    """

    network: ForeignNetwork
    settings: Settings
    thresholds: dict[str, float]
    told: tuple[str, ...]
    assumed: str


def fit_foreign(tensors: Mapping[str, torch.Tensor], path: Path) -> ForeignDrums:
    """Return the network of a state_dict; Unfit says what does not fit, or what the settings lack."""
    bands, outputs = input_bands(tensors), num_outputs(tensors)
    settings, given = _read_settings(path, bands, outputs)
    num_bands = settings.n_mels or bands
    if num_bands is None:
        raise Unfit(Sentence("its settings {name} lack n_mels, which convolutions do not say", name=given.name))
    if bands is not None and num_bands != bands:
        raise Unfit(
            Sentence(
                "its settings {name} say n_mels {stated}, but its first layer takes {bands}",
                name=given.name,
                stated=num_bands,
                bands=bands,
            )
        )
    settings = replace(settings, n_mels=num_bands)
    for name in ("mean", "std"):
        if np.size(getattr(settings, name)) not in (1, num_bands):
            raise Unfit(Sentence("{field} of its settings must be a number, or {num}", field=name, num=num_bands))
    wiring = Wiring(num_bands, settings.layout, settings.pool, settings.reduce, settings.activation)
    network, told = fit_network(tensors, wiring)
    _check_labels(settings, outputs, given.name)
    scale = {DB: 1.0, NONE: 1.0, LOG10: 10.0}.get(settings.log, 10.0 / math.log(10.0))
    scale *= 1.0 if settings.log == DB else 2.0 / settings.power
    network.db_scale.copy_(torch.from_numpy(np.broadcast_to(per_band(settings.std) * scale, num_bands).copy()))
    network.db_offset.copy_(torch.from_numpy(np.broadcast_to(per_band(settings.mean) * scale, num_bands).copy()))
    thresholds = {label: float(settings.thresholds.get(label, 0.5)) for label in settings.labels}
    return ForeignDrums(network, settings, thresholds, tuple(told), given.assumed)


@dataclass(frozen=True, slots=True)
class _Given:
    name: str
    assumed: str


def _read_settings(path: Path, bands: int | None, outputs: int) -> tuple[Settings, _Given]:
    beside = [path.with_suffix(ending) for ending in _ENDINGS]
    file = next((each for each in beside if each.is_file()), None)
    if file is None:
        raise Unfit(
            Sentence(
                "it is a state_dict of another maker (input: {bands} bands, {num} outputs), and its settings are "
                "missing: write {name} beside it, with sample_rate, n_fft, hop_length, n_mels, fmin, fmax, log and "
                "labels of its training (docs/models/drums.md)",
                bands="?" if bands is None else bands,
                num=outputs,
                name=beside[0].name,
            )
        )
    try:
        content = file.read_text("utf-8-sig")
        stated = json.loads(content) if file.suffix == ".json" else yaml.safe_load(content)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise Unfit(Sentence("its settings {name} can't be read: {reason}", name=file.name, reason=reason)) from error
    if not isinstance(stated, dict):
        raise Unfit(Sentence("its settings {name} are no table of names and values", name=file.name))
    known = {each.name: each.default for each in fields(Settings)}
    if unknown := [str(name) for name in stated if name not in known]:
        names = ", ".join(known)
        raise Unfit(
            Sentence(
                "its settings {name} have {unknown}, which is not known; there are {names}",
                name=file.name,
                unknown=", ".join(unknown),
                names=names,
            )
        )
    for name, value in stated.items():
        if not _is_right(name, value):
            raise Unfit(Sentence("{field} of its settings can't be {value}", field=name, value=repr(value)))
    frame, rate_hz = stated.get("n_fft", known["n_fft"]), stated.get("sample_rate", known["sample_rate"])
    window, low_hz, high_hz = stated.get("win_length"), stated.get("fmin", known["fmin"]), stated.get("fmax")
    if window is not None and window > frame:
        raise Unfit(_contradiction("win_length", window, "n_fft", frame))
    if low_hz >= (rate_hz / 2 if high_hz is None else high_hz):
        raise Unfit(_contradiction("fmin", low_hz, "fmax", rate_hz / 2 if high_hz is None else high_hz))
    values: dict[str, Any] = {
        name: tuple(value) if name in ("labels", "pool") and value else value for name, value in stated.items()
    }
    lacking = [
        f"{name} {', '.join(default) if isinstance(default, tuple) else default}"
        for name, default in known.items()
        if name not in stated and name not in _NOT_TOLD
    ]
    return Settings(**values), _Given(file.name, "; ".join(lacking))


def _contradiction(name: str, value: float, other: str, limit: float) -> Sentence:
    return Sentence(
        "{field} of its settings can't be {value} where {other} is {limit}",
        field=name,
        value=value,
        other=other,
        limit=limit,
    )


def _is_right(name: str, value: Any) -> bool:
    """Return whether a field of the settings may have this value."""
    if name in _CHOICES:
        return value in _CHOICES[name]
    if name == "labels":
        return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
    if name == "pool":
        return value is None or (isinstance(value, list) and all(type(each) is int and each > 0 for each in value))
    if name == "thresholds":
        return isinstance(value, dict) and all(_is_number(each) and 0 < each < 1 for each in value.values())
    if name in ("mean", "std"):
        numbers_ = value if isinstance(value, list) else [value]
        return all(map(_is_number, numbers_)) and (name == "mean" or all(each > 0 for each in numbers_))
    if name == "htk":
        return isinstance(value, bool)
    if value is None:
        return name in ("win_length", "n_mels", "fmax", "top_db")
    if name == "ref" and value == LOUDEST:
        return True
    if name in _BOUNDS:
        least, most = _BOUNDS[name]
        return type(value) is int and least <= value <= most
    return _is_number(value) and (value > 0 if name in (*_ABOVE_0, "ref") else value >= 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_labels(settings: Settings, outputs: int, name: str) -> None:
    labels = settings.labels
    if len(labels) != outputs:
        raise Unfit(
            Sentence(
                "it has {num} outputs, and its settings {name} say {count} labels ({labels}): name each output, in "
                "order, as `labels`",
                num=outputs,
                name=name,
                count=len(labels),
                labels=", ".join(labels),
            )
        )
    if missing := [str(drum) for drum in Drum if labels.count(drum) != 1]:
        raise Unfit(Sentence("`labels` of its settings must have {missing} once", missing=", ".join(missing)))
    if unknown := [label for label in settings.thresholds if label not in labels]:
        raise Unfit(Sentence("its settings have a threshold for {label}, which is no label", label=unknown[0]))
