"""Devices by name, for torch and CTranslate2; each library is imported only for its own device.

`auto` is a GPU where the process sees one, else the CPU. A replica sees every GPU of its machine, even if Ray gave it
none: its deployment therefore decides on `auto` itself (`deployments.replica.process.replica_device`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_app.errors import ModelLoadingError
from serve_app.sentences import Sentence

if TYPE_CHECKING:
    import torch

AUTO = "auto"


def torch_device(name: str) -> torch.device:
    """Return torch's device; ModelLoadingError where there is none of that name."""
    import torch

    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelLoadingError(
            Sentence("{name} is no device; use auto, cpu, cuda, cuda:N or mps", name=repr(name))
        ) from error
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        raise ModelLoadingError(
            Sentence(
                "The device is {name}, but torch finds {num_gpus} GPUs here; set it to auto or cpu",
                name=name,
                num_gpus=num_gpus,
            )
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelLoadingError(Sentence("The device is mps, but torch finds no Apple GPU here; set it to auto or cpu"))
    return device


def ctranslate2_device(name: str) -> tuple[str, int]:
    """Return CTranslate2's device and its index; ModelLoadingError where there is none of that name."""
    import ctranslate2

    num_gpus = ctranslate2.get_cuda_device_count()
    if name == AUTO:
        return ("cuda" if num_gpus else "cpu"), 0
    kind, _, index = name.partition(":")
    if kind == "mps":
        raise ModelLoadingError(
            Sentence("CTranslate2 has no mps device; use the backend transformers or openai-whisper there")
        )
    if kind == "cuda" and not num_gpus:
        raise ModelLoadingError(
            Sentence("The device is {name}, but CTranslate2 finds no GPU here; set it to auto or cpu", name=name)
        )
    return kind, int(index or 0)
