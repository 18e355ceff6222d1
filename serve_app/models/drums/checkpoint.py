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
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.devices import torch_device
from serve_app.models.drums import bands
from serve_app.models.drums.activations import Piece, Stitcher, cut_pieces
from serve_app.models.drums.audio_file import Recording
from serve_app.models.drums.bands import FRAMES_PER_S
from serve_app.models.drums.foreign_layers import Unfit
from serve_app.models.drums.network import DrumNetwork, HyperParameters
from serve_app.models.drums.options import EMBEDDED
from serve_app.models.pickled import PLAIN_NUMBERS, Refused, read_checkpoint
from serve_app.models.weights import weights_file
from serve_app.results import Drum
from serve_app.sentences import Sentence, reason_of

if TYPE_CHECKING:
    from serve_app.models.drums.foreign_network import ForeignNetwork
    from serve_app.models.drums.log_mel import Settings

_log = logging.getLogger(__name__)

_FORMAT, _VERSION = "serve_app/drums", 1
_KEYS = ("format", "version", "model_version", "hyper_parameters", "features", "thresholds", "state_dict")
# Of our own network: its state_dict alone says neither thresholds nor sizes.
_OWN = {"strokes.weight", "levels.weight", "enter_norm.weight"}
# Keys of the state_dict in others' checkpoints, likeliest first.
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
_FEWEST_TENSORS = 2
_TUPLES = {"labels": str, "conv_channels": int, "dilations": int}


@dataclass(frozen=True, slots=True)
class LoadedDrums:
    """A checkpoint's content, with the network on its device in evaluation mode.

    Attributes:
        thresholds: for each drum, the least probability of a stroke.
        model_version: the name of the weights and the beginning of the file's SHA-256.
        facts: of a network of another maker, `layers`: how each was understood.
        front_end: the spectrogram of a network of another maker; None: ours.
        notes: what was assumed, for every transcript.
    """

    network: DrumNetwork | ForeignNetwork
    hyper_parameters: HyperParameters
    thresholds: dict[str, float]
    model_version: str
    facts: dict[str, Any]
    front_end: Settings | None = None
    notes: tuple[str, ...] = ()

    def pieces(self, recording: Recording) -> Iterator[Piece]:
        """Cut a recording into pieces for the network."""
        if self.front_end is None:
            return cut_pieces(recording.blocks, gain=recording.gain)
        from serve_app.models.drums.log_mel import log_mel_pieces

        return log_mel_pieces(recording, self.front_end)

    def stitcher(self) -> Stitcher:
        """Return what joins the outputs of a recording's pieces."""
        return Stitcher(self.hyper_parameters.labels, self._frames_per_s)

    def num_frames(self, recording: Recording) -> int:
        """Return the number of frames of a recording."""
        if self.front_end is None:
            return recording.num_frames
        return 1 + math.floor(recording.duration_s * self._frames_per_s)

    @property
    def _frames_per_s(self) -> float:
        return FRAMES_PER_S if self.front_end is None else self.front_end.frames_per_s


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
        content = _content(stored)
        if foreign := _foreign_tensors(content):
            return _on_device(_fitted(Path(path), stored, foreign), device)
        content = _checked(content)
        hyper_parameters = _hyper_parameters(content["hyper_parameters"])
        _check_features(content["features"])
        thresholds = _thresholds(content["thresholds"], hyper_parameters)
        network = _network(hyper_parameters, content["state_dict"])
        facts = content.get("facts", {})
        if not isinstance(facts, dict):
            raise Unfit(Sentence("its facts are {facts}, not a dict", facts=type(facts).__name__))
    except (Unfit, OSError) as error:
        raise ModelLoadingError(
            Sentence(
                "The drum model {path} can't be loaded: {reason}. Name a best_model.pt that `python -m training.drums` "
                "wrote, or leave the model out to use the one that comes with serve_app",
                path=repr(str(path)),
                reason=reason_of(error),
            )
        ) from error
    loaded = LoadedDrums(network, hyper_parameters, thresholds, _version(content["model_version"], stored), facts)
    return _on_device(loaded, device)


def _on_device(loaded: LoadedDrums, device: torch.device | str) -> LoadedDrums:
    try:
        return replace(loaded, network=loaded.network.to(device).eval())
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise ModelLoadingError(
            Sentence(
                "The drum model can't run on device {device}: {reason}",
                device=repr(str(device)),
                reason=reason_of(error),
            )
        ) from error


def _version(name: str, stored: bytes) -> str:
    return f"{name} ({hashlib.sha256(stored).hexdigest()[:8]})"


def _foreign_tensors(content: Any) -> dict[str, torch.Tensor] | None:
    """Return the tensors of another maker's state_dict, whatever holds it; None for anything else."""
    while isinstance(content, dict) and not {"format", "features"} & content.keys():
        tensors = {str(name): value for name, value in content.items() if torch.is_tensor(value)}
        if len(tensors) >= _FEWEST_TENSORS:
            return None if tensors.keys() >= _OWN else tensors
        nested = {str(name): value for name, value in content.items() if isinstance(value, dict)}
        named = next((name for name in (*_STATE_KEYS, *nested) if nested.get(name)), None)
        content = nested.get(named) if named else None
    return None


def _fitted(path: Path, stored: bytes, tensors: dict[str, torch.Tensor]) -> LoadedDrums:
    """Return a network of another maker; Unfit."""
    from serve_app.models.drums.foreign import fit_foreign  # librosa takes seconds to load

    drums = fit_foreign(tensors, path)
    notes: tuple[str, ...] = ()
    if drums.assumed:
        notes = (Sentence("The drum model's settings lack some fields; assumed: {fields}", fields=drums.assumed),)
    _log.info("%s: %s", path.name, "; ".join((*drums.told, *notes)))
    sizes = HyperParameters(labels=drums.settings.labels, num_bands=drums.network.wiring.num_bands)
    facts = {"layers": list(drums.told)}
    version = _version(path.stem, stored)
    return LoadedDrums(drums.network, sizes, drums.thresholds, version, facts, drums.settings, notes)


def load_drums(
    spec: str = EMBEDDED, *, cache_dir: Path | None = None, device: str = "cpu", hf_token: str | None = None
) -> LoadedDrums:
    """Return the network of a spec for `checkpoint_path` on a device of `models.devices`; ModelLoadingError."""
    return load_checkpoint(checkpoint_path(spec, cache_dir=cache_dir, hf_token=hf_token), torch_device(device))


def checkpoint_path(spec: str = EMBEDDED, *, cache_dir: Path | None = None, hf_token: str | None = None) -> Path:
    """Return a spec's checkpoint (`weights_file`); without `cache_dir` downloads go to the user's cache folder."""
    cache_dir = cache_dir or Path.home() / ".cache" / "serve_app"
    return weights_file(
        spec,
        cache_dir,
        what=Sentence("drum model"),
        usual_name="best_model.pt",
        endings=(".pt", ".pth", ".ckpt"),
        hf_token=hf_token,
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


def _content(stored: bytes) -> Any:
    try:
        return read_checkpoint(stored, PLAIN_NUMBERS)
    except Refused as error:
        raise Unfit(reason_of(error)) from error


def _checked(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise Unfit(
            Sentence(
                "it holds a {content}, not a dict with the keys {keys}",
                content=type(content).__name__,
                keys=", ".join(_KEYS),
            )
        )
    if missing := [key for key in _KEYS if key not in content]:
        bare = " (a bare state_dict?)" if content and all(torch.is_tensor(value) for value in content.values()) else ""
        raise Unfit(Sentence("it lacks {missing}{bare}", missing=", ".join(missing), bare=bare))
    if (content["format"], content["version"]) != (_FORMAT, _VERSION):
        raise Unfit(
            Sentence(
                "it is {content} version {content2}, not {format} version {version}",
                content=repr(content["format"]),
                content2=repr(content["version"]),
                format=repr(_FORMAT),
                version=_VERSION,
            )
        )
    if not isinstance(content["model_version"], str):
        raise Unfit(Sentence("its model_version is no text"))
    return content


def _hyper_parameters(given: Any) -> HyperParameters:
    names = [each.name for each in fields(HyperParameters)]
    if not isinstance(given, dict) or set(given) != set(names):
        stated = ", ".join(sorted(map(str, given))) if isinstance(given, dict) else type(given).__name__
        raise Unfit(Sentence("its hyper_parameters are {stated}, not {names}", stated=stated, names=", ".join(names)))
    sizes = dict(given)
    for name, kind in _TUPLES.items():
        value = sizes[name]
        if not isinstance(value, list | tuple) or not value or not all(isinstance(each, kind) for each in value):
            raise Unfit(
                Sentence(
                    "its hyper-parameter {name} is {value}, not a list of {kind}",
                    name=name,
                    value=repr(value),
                    kind=kind.__name__,
                )
            )
        sizes[name] = tuple(value)
    hyper_parameters = HyperParameters(**sizes)
    if missing := [drum.value for drum in Drum if drum.value not in hyper_parameters.labels]:
        raise Unfit(
            Sentence(
                "it does not know {missing}; its labels are {labels}",
                missing=", ".join(missing),
                labels=", ".join(hyper_parameters.labels),
            )
        )
    if len(set(hyper_parameters.labels)) < len(hyper_parameters.labels):
        raise Unfit(Sentence("its labels repeat: {labels}", labels=", ".join(hyper_parameters.labels)))
    return hyper_parameters


def _check_features(given: Any) -> None:
    expected = features()
    stated = given if isinstance(given, dict) else {}
    if differing := [name for name, value in expected.items() if stated.get(name) != value]:
        pairs = ", ".join(f"{name} {stated.get(name, 'unstated')} instead of {expected[name]}" for name in differing)
        raise Unfit(Sentence("it was trained on another spectrogram: {pairs}", pairs=pairs))


def _thresholds(given: Any, hyper_parameters: HyperParameters) -> dict[str, float]:
    if not isinstance(given, dict):
        raise Unfit(Sentence("its thresholds are {given}, not a dict", given=type(given).__name__))
    if unknown := [str(label) for label in given if label not in hyper_parameters.labels]:
        raise Unfit(
            Sentence(
                "it has thresholds for {unknown}, but its labels are {labels}",
                unknown=", ".join(unknown),
                labels=hyper_parameters.labels,
            )
        )
    if missing := [drum.value for drum in Drum if drum.value not in given]:
        raise Unfit(Sentence("it has no threshold for {missing}", missing=", ".join(missing)))
    for label, value in given.items():
        if not isinstance(value, float) or not 0.0 < value < 1.0:
            raise Unfit(
                Sentence(
                    "its threshold for {label} is {value}, not a number between 0 and 1", label=label, value=repr(value)
                )
            )
    return dict(given)


def _network(hyper_parameters: HyperParameters, state: Any) -> DrumNetwork:
    """Return the network with these parameters, which are checked before memory is used for them."""
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise Unfit(Sentence("its state_dict is no dict of tensors"))
    try:
        with torch.device("meta"):
            network = DrumNetwork(hyper_parameters)
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Unfit(Sentence("no network has its hyper_parameters ({reason})", reason=_first_line(error))) from error
    expected = network.state_dict()
    if missing := sorted(set(expected) - set(state)):
        raise Unfit(Sentence("its state_dict lacks {some}", some=_some(missing)))
    if unknown := sorted(set(state) - set(expected)):
        raise Unfit(Sentence("its state_dict has {some}, which the network has not", some=_some(unknown)))
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise Unfit(
                Sentence(
                    "{name} in its state_dict has the shape {shape}, not {shape2}",
                    name=name,
                    shape=tuple(state[name].shape),
                    shape2=tuple(value.shape),
                )
            )
        if not torch.isfinite(state[name]).all():
            raise Unfit(Sentence("{name} in its state_dict is not finite", name=name))
    own = {name: state[name].to(expected[name].dtype) for name in expected}
    network.load_state_dict(own, assign=True)
    network.spectral.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
