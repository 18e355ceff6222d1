"""`read_weights`: the tensors of a file of weights, by name, and the classes that it names.

The content decides whether the file is of torch.save (either form) or safetensors. It holds a state_dict, or a
checkpoint with one among other things. `pickled.read_checkpoint` reads pickles: no code in them runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.pickled import Refused, read_checkpoint
from serve_app.sentences import Sentence

# Keys of the state_dict in checkpoints, likeliest first; plain weights come before averaged ones (EMA).
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema", "model_ema")
_CLASS_KEYS = ("classes", "class_names", "class_to_idx", "idx_to_class")
_FEWEST_TENSORS = 4
_LONGEST_HEADER = 100_000_000  # safetensors' own limit
# numpy's plain numbers, e.g. a best accuracy, as numpy 2 and numpy 1 write them
_PLAIN_NUMBERS = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", "numpy.dtype")


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
    try:
        content = read_checkpoint(stored, _PLAIN_NUMBERS)
    except Refused as error:
        raise Unfit(error.args[0] if error.args else "") from error
    if not isinstance(content, Mapping):
        raise Unfit(Sentence("it holds a {kind}, not a state_dict", kind=type(content).__name__))
    found_in, tensors = _state_dict(content)
    return StoredWeights(tensors, _classes(content), found_in)


def unfit_error(name: str, problem: Unfit | OSError, purpose: str) -> ModelLoadingError:
    """Return the operator's error about a file of weights."""
    reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem.args[0]
    return ModelLoadingError(
        Sentence(
            "The weights {name} can't serve as {purpose}: {reason}", name=repr(name), purpose=purpose, reason=reason
        )
    )


def _is_safetensors(stored: bytes) -> bool:
    """Look for the JSON header behind its length; the length's own bytes may look like the start of an archive."""
    return stored[8:9] == b"{" and int.from_bytes(stored[:8], "little") <= _LONGEST_HEADER


def _safetensors(stored: bytes) -> StoredWeights:
    try:
        tensors = safetensors.torch.load(stored)
        header = json.loads(stored[8 : 8 + int.from_bytes(stored[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise Unfit(Sentence("it is a damaged safetensors file ({cause})", cause=_first_line(error))) from error
    classes = header.get("__metadata__", {}).get("classes")  # plain text: safetensors has read it already
    return StoredWeights(tensors, tuple(part.strip() for part in classes.split(",")) if classes else None)


def _state_dict(content: Mapping[Any, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    if _is_state_dict(content):
        return "", _tensors(content)
    nested = {str(key): value for key, value in content.items() if isinstance(value, Mapping)}
    for key in (*(key for key in _STATE_KEYS if key in nested), *nested):
        if _is_state_dict(nested[key]):
            return key, _tensors(nested[key])
    held = ", ".join(sorted(map(str, content))[:8]) or Sentence("nothing")
    raise Unfit(Sentence("it holds no state_dict; at its top there is {names}", names=held))


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


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
