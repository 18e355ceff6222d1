"""`read_weights`: the tensors of a file of weights, by name, and the classes that it names.

The content decides whether the file is of torch.save (either form) or safetensors. It holds a state_dict, or a
checkpoint with one among other things. Pickles are read with `weights_only`: loading runs no code.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy._core import multiarray

from serve_app.errors import ModelLoadingError

# Keys of the state_dict in checkpoints, likeliest first; plain weights come before averaged ones (EMA).
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema", "model_ema")
_CLASS_KEYS = ("classes", "class_names", "class_to_idx", "idx_to_class")
_FEWEST_TENSORS = 4
_LONGEST_HEADER = 100_000_000  # safetensors' own limit
# numpy's plain numbers, e.g. a best accuracy, which torch refuses unless they are listed.
_PLAIN_NUMBERS: list[Any] = [
    multiarray.scalar,
    (multiarray.scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)),
]


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """The content of a file."""

    tensors: dict[str, torch.Tensor]  # by name, in the order of the file
    classes: tuple[str, ...] | None  # by output; None: the file names none
    found_in: str = ""  # the checkpoint's key of the state_dict; empty: it is at the top


class Unfit(Exception):
    """What is wrong with a file of weights, in words."""


def read_weights(stored: bytes) -> StoredWeights:
    """Return the tensors in a file's bytes; Unfit says why there are none, or none that are safe to load."""
    if _is_safetensors(stored):
        return _safetensors(stored)
    content = _unpickled(stored)
    if isinstance(content, torch.nn.Module):
        raise Unfit("it holds a whole model: save model.state_dict() instead")
    if not isinstance(content, Mapping):
        raise Unfit(f"it holds a {type(content).__name__}, not a state_dict")
    found_in, tensors = _state_dict(content)
    return StoredWeights(tensors, _classes(content), found_in)


def unfit_error(name: str, problem: Unfit | OSError, purpose: str) -> ModelLoadingError:
    """Return the operator's error about a file of weights."""
    reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
    return ModelLoadingError(f"The weights {name!r} can't serve as {purpose}: {reason}")


def _is_safetensors(stored: bytes) -> bool:
    """Look for the JSON header behind its length; the length's own bytes may look like the start of an archive."""
    return stored[8:9] == b"{" and int.from_bytes(stored[:8], "little") <= _LONGEST_HEADER


def _safetensors(stored: bytes) -> StoredWeights:
    try:
        tensors = safetensors.torch.load(stored)
        header = json.loads(stored[8 : 8 + int.from_bytes(stored[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise Unfit(f"it is a damaged safetensors file ({_first_line(error)})") from error
    classes = header.get("__metadata__", {}).get("classes")  # plain text: safetensors has read it already
    return StoredWeights(tensors, tuple(part.strip() for part in classes.split(",")) if classes else None)


def _unpickled(stored: bytes) -> Any:
    if _is_torchscript(stored):
        raise Unfit("it is a TorchScript archive (torch.jit.save): save model.state_dict() with torch.save instead")
    try:
        with torch.serialization.safe_globals(_PLAIN_NUMBERS):
            return torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if stored.startswith((b"PK", b"\x80")):
            raise Unfit(
                "it holds Python objects, which might run code and are not loaded (a whole model, saved by "
                f"torch.save(model)?): save model.state_dict() instead ({_forbidden(error)})"
            ) from error
        raise Unfit("it is no file of weights: neither of torch.save nor safetensors") from error
    except Exception as error:  # torch has no error of its own for a damaged file
        raise Unfit(f"it is damaged, or no file of weights ({_first_line(error)})") from error


def _is_torchscript(stored: bytes) -> bool:
    if not stored.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _state_dict(content: Mapping[Any, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    if _is_state_dict(content):
        return "", _tensors(content)
    nested = {str(key): value for key, value in content.items() if isinstance(value, Mapping)}
    for key in (*(key for key in _STATE_KEYS if key in nested), *nested):
        if _is_state_dict(nested[key]):
            return key, _tensors(nested[key])
    held = ", ".join(sorted(map(str, content))[:8]) or "nothing"
    raise Unfit(f"it holds no state_dict; at its top there is {held}")


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    tensors = [value for value in content.values() if torch.is_tensor(value)]
    return len(tensors) >= _FEWEST_TENSORS and all(isinstance(key, str) for key in content)


def _tensors(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    # torch.compile adds a prefix to the names; parameters may still require gradients
    return {key.replace("_orig_mod.", ""): value.detach() for key, value in content.items() if torch.is_tensor(value)}


def _classes(content: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Return the classes by output that a checkpoint names, in any of the usual forms."""
    for key in _CLASS_KEYS:
        found = content.get(key)
        if isinstance(found, list | tuple) and found and all(isinstance(name, str) for name in found):
            return tuple(found)
        if isinstance(found, Mapping) and found:
            swapped = {index: name for name, index in found.items() if isinstance(index, int)}
            by_index = swapped if any(isinstance(name, str) for name in swapped.values()) else found
            by_index = {int(key) if str(key).isdecimal() else key: name for key, name in by_index.items()}  # from JSON
            if all(isinstance(by_index.get(index), str) for index in range(len(found))):
                return tuple(by_index[index] for index in range(len(found)))
    return None


def _forbidden(error: Exception) -> str:
    text = str(error)
    start = text.find("Unsupported")
    return text[start:].partition(" was not")[0].splitlines()[0][:200] if start >= 0 else type(error).__name__


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
