"""The segmentation network, pyannote's PyanNet: segmentation-3.0, or the older one inside the whisperx wheel."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.listconfig import ListConfig
from omegaconf.nodes import AnyNode
from pyannote.audio.core.model import Introspection
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.segmentation.PyanNet import PyanNet
from torch.torch_version import TorchVersion

from serve_app.errors import ModelLoadingError

# All that the checkpoints name beside tensors: plain values. Nothing else can be constructed while it is read.
_SAFE_GLOBALS: list[Any] = [
    Any,
    AnyNode,
    ContainerMetadata,
    Introspection,
    ListConfig,
    Metadata,
    Problem,
    Resolution,
    Specifications,
    TorchVersion,
    defaultdict,
    dict,
    int,
    list,
]


def is_powerset(segmentation: Any) -> bool:
    """Whether a frame has one class, of all sets of speakers that talk at once, as in segmentation-3.0."""
    return bool(segmentation.specifications.powerset)


def find_checkpoint() -> Path:
    """Return where the checkpoint lies; whisperx itself is not imported (it would cost seconds).

    Raises:
        ModelLoadingError: whisperx is not installed, or came without its checkpoint.
    """
    spec = importlib.util.find_spec("whisperx")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder) / "assets" / "pytorch_model.bin"
        if path.is_file():
            return path
    raise ModelLoadingError("No segmentation checkpoint: install whisperx 3.8, whose wheel carries it.")


def load_segmentation(path: Path | None = None) -> PyanNet:
    """Return the network, in evaluation mode on the CPU.

    segmentation-3.0 tells up to three speakers, two at once, in a chunk of 10 s (one class for each set of speakers:
    "powerset"); the wheel's network tells up to three in 5 s, each with an activity of their own. `specifications` of
    the network says which it is. The file is a pickle, read with `weights_only` and a closed list of value types, so
    no code in it can run.

    Args:
        path: the checkpoint; None: the one inside the whisperx wheel.

    Raises:
        ModelLoadingError: the file is missing or broken, or holds another network.
    """
    remedy = "Fetch the file again." if path else "Install the whisperx version of requirements.lock."
    path = path or find_checkpoint()
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        model = PyanNet(**checkpoint["hyper_parameters"])
        model.specifications = checkpoint["pyannote.audio"]["specifications"]
        model.build()
        # The training loss has weights of its own in the file; inference has no use for them.
        wanted = model.state_dict().keys()
        model.load_state_dict({name: tensor for name, tensor in checkpoint["state_dict"].items() if name in wanted})
    except Exception as error:  # whatever an unknown file makes torch raise, it is a model that can't be loaded
        raise ModelLoadingError(
            f"The segmentation network at {path} can't be loaded ({type(error).__name__}: {error}). {remedy}"
        ) from error
    return model.eval()
