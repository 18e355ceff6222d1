"""(b) LitServe, with batches."""

# no `from __future__ import annotations`: LitServe makes a schema of the annotations
from collections.abc import Sequence

import litserve
import torch

from loadtests.images.peers.classifier import Classifier
from loadtests.images.peers.settings import Settings


class ClassifierAPI(litserve.LitAPI):
    """One worker's model."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(max_batch_size=settings.batch, batch_timeout=settings.wait_ms / 1e3, api_path=settings.path)
        self._settings = settings

    def setup(self, device: str) -> None:
        self._classifier = Classifier.from_settings(self._settings)

    def decode_request(self, request) -> torch.Tensor:  # a form; said in the signature, it would be a query's field
        return self._classifier.read(request["file"].file)

    def batch(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(inputs)

    def predict(self, batch: torch.Tensor) -> list[list[float]]:
        return self._classifier.probabilities(batch)

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, object]:
        return self._classifier.answer(output)


if __name__ == "__main__":
    settings = Settings.from_environment()
    server = litserve.LitServer(
        ClassifierAPI(settings),
        accelerator="cpu",
        workers_per_device=settings.workers,
        timeout=120,
        fast_queue=settings.fast_queue,
    )
    server.run(host="127.0.0.1", port=settings.port, log_level="warning", generate_client_file=False)
