"""Where the torch backends run, and in which number format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper.backend import BackendName
from serve_app.models.speech.whisper.decoding_rules import SEED
from serve_app.models.speech.whisper.options import WhisperOptions

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def torch_device(options: WhisperOptions) -> torch.device:
    """Return the device; "auto" is a GPU where the process sees one, else the CPU.

    Raises:
        ModelLoadingError: the device is not there.
    """
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(options.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelLoadingError(
            f"The device is {options.device}, but torch finds {torch.cuda.device_count()} GPUs here; "
            "set it to auto or cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelLoadingError("The device is mps, but torch finds no Apple GPU here; set it to auto or cpu")
    return device


def torch_dtype(options: WhisperOptions, device: torch.device) -> torch.dtype:
    """Return the number format: what was chosen, else float16 on CUDA and float32 elsewhere.

    Raises:
        ModelLoadingError: a format that only CTranslate2 has.
    """
    chosen = options.chosen_compute_type or ("float16" if device.type == "cuda" else "float32")
    if chosen not in _DTYPES:
        raise ModelLoadingError(
            f"Only the backend {BackendName.FASTER_WHISPER} computes in {chosen}; "
            f"set the compute type of this one to one of {', '.join(_DTYPES)}"
        )
    return _DTYPES[chosen]


def dtype_name(dtype: torch.dtype) -> str:
    """Return "float16" for `torch.float16`."""
    return str(dtype).removeprefix("torch.")


def free_memory(device: torch.device) -> None:
    """Give cached blocks back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Draw from a fixed seed while the block runs, and leave the process's own generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(SEED)
        yield
