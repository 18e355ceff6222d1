"""(c) BentoML, with batches: `bentoml serve loadtests.images.peers.bentoml_app:Images`."""

# no `from __future__ import annotations`: BentoML makes a schema of the annotations
import bentoml
import torch
from PIL.Image import Image

from loadtests.images.peers.classifier import Classifier
from loadtests.images.peers.settings import Settings

SETTINGS = Settings.from_environment()


@bentoml.service(
    workers=SETTINGS.workers,
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
)
class Images:
    """One worker's model."""

    def __init__(self) -> None:
        self._classifier = Classifier.from_settings(SETTINGS)

    @bentoml.api(route=SETTINGS.path, batchable=True, max_batch_size=SETTINGS.batch, max_latency_ms=120_000)
    def classify(self, file: list[Image]) -> list[dict]:
        batch = torch.stack([self._classifier.prepare(image) for image in file])
        return [self._classifier.answer(each) for each in self._classifier.probabilities(batch)]
