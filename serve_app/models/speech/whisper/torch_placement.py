"""Number format, memory and seed of the torch backends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper.backend import BackendName
from serve_app.models.speech.whisper.decoding_rules import SEED
from serve_app.models.speech.whisper.options import WhisperOptions

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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
