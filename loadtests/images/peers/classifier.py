"""The model behind every peer, and the reference for all answers: torchvision's transforms, PyTorch fp32, eager."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self

import torch
from PIL import Image
from torchvision import transforms

from loadtests.images.peers.settings import Settings
from serve_app.models.images.networks import Architecture, build_network
from serve_app.models.images.tasks import TASKS


class Classifier:
    """A network with its weights, ready to be called."""

    def __init__(self, weights: str | Path, architecture: str, task: str, threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.classes = TASKS[task].classes
        self._transform = transforms.Compose(
            [
                transforms.Resize(224),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            ]
        )
        self._network = build_network(Architecture(architecture), len(self.classes))
        self._network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._network.eval()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the one that a peer serves."""
        return cls(settings.weights, settings.architecture, settings.task, settings.threads)

    def read(self, file: BinaryIO | bytes) -> torch.Tensor:
        """Return a picture as the network takes it, (3, 224, 224)."""
        return self.prepare(Image.open(BytesIO(file) if isinstance(file, bytes) else file))

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """Return an opened picture as the network takes it, (3, 224, 224)."""
        return self._transform(image.convert("RGB"))

    def probabilities(self, batch: torch.Tensor) -> list[list[float]]:
        """Return those of each picture: (batch, 3, 224, 224) to (batch, classes)."""
        with torch.no_grad():
            return torch.softmax(self._network(batch), dim=1).tolist()

    def answer(self, probabilities: Sequence[float]) -> dict[str, object]:
        """Return a picture's answer, as JSON has it."""
        confidence = max(probabilities)
        return {
            "predicted_class": self.classes[probabilities.index(confidence)],
            "confidence": confidence,
            "probabilities": dict(zip(self.classes, probabilities, strict=True)),
        }
