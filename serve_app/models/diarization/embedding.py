"""Our speaker embedding as a pyannote model, and its safetensors file.

The file holds tensors, and the network's sizes as JSON in its header: loading it runs no code (no pickle).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from pyannote.audio.core.model import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from serve_app.errors import ModelLoadingError
from serve_app.models.diarization.features import SAMPLE_RATE_HZ, SpeechFeatures
from serve_app.models.diarization.network import NetworkShape, SpeakerNetwork

WEIGHTS_PATH = Path(__file__).parent / "weights" / "speaker_embedding.safetensors"

# Below a tenth of a second there is hardly a syllable; pyannote finds this bound by trying shorter and shorter input.
_MIN_SAMPLES = 1600


class SpeakerEmbedding(Model):
    """Map chunks of speech, with a mask for the speaker meant, to vectors whose cosine compares voices."""

    def __init__(self, shape: NetworkShape | None = None) -> None:
        super().__init__(sample_rate=SAMPLE_RATE_HZ, num_channels=1, task=None)
        self.shape = shape or NetworkShape()
        self.speech_features = SpeechFeatures()
        self.network = SpeakerNetwork(self.shape)
        self.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, min_duration=0.5
        )

    @property
    def dimension(self) -> int:
        """Return the size of an embedding."""
        return self.shape.dimension

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return embeddings, (batch, dimension), not normalised.

        Args:
            waveforms: (batch, 1, samples), 16 kHz.
            weights: (batch, frames) in [0, 1] at any frame rate: how far each frame is the speaker's. None: all is.
                An all-zero row gives a finite, meaningless vector.

        Raises:
            ValueError: fewer than 1600 samples.
        """
        if waveforms.shape[-1] < _MIN_SAMPLES:
            raise ValueError(f"an embedding needs at least {_MIN_SAMPLES} samples, got {waveforms.shape[-1]}")
        samples = waveforms[:, 0]
        # pyannote repeats a chunk once for each of its speakers: features are computed once for each distinct chunk.
        distinct, index = distinct_rows(samples)
        features = self.speech_features(samples[distinct])[index]
        return self.network(features, _on_frames(weights, features))


def load_embedding(path: Path = WEIGHTS_PATH) -> SpeakerEmbedding:
    """Return the model stored at `path`, in evaluation mode on the CPU.

    Raises:
        ModelLoadingError: the file is missing, broken, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})["network"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        shape = NetworkShape(**{**described, "dilations": tuple(described["dilations"])})
        model = SpeakerEmbedding(shape)
        model.network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelLoadingError(
            f"The speaker embedding at {path} can't be loaded ({type(error).__name__}: {error}). "
            "Reinstall serve_app, or make the file with `python -m training.speaker_embedding`."
        ) from error
    return model.eval()


def save_embedding(network: SpeakerNetwork, path: Path) -> None:
    """Write a network's state, with its sizes in the file's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, path, metadata={"network": json.dumps(asdict(network.shape))})


def distinct_rows(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows that differ from the one before, and for each row the place of its like among them."""
    is_new = torch.ones(len(samples), dtype=torch.bool, device=samples.device)
    is_new[1:] = (samples[1:] != samples[:-1]).any(dim=1)
    return is_new.nonzero()[:, 0], torch.cumsum(is_new, dim=0) - 1


def _on_frames(weights: Tensor | None, features: Tensor) -> Tensor:
    num_rows, num_frames, _ = features.shape
    if weights is None:
        return features.new_ones(num_rows, num_frames)
    return functional.interpolate(weights[:, None].to(features.dtype), size=num_frames, mode="nearest")[:, 0]


def fingerprint(path: Path) -> str:
    """Return the first eight hexadecimal digits of the file's SHA-256: which weights these are."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
