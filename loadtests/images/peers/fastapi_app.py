"""(a) The old way: FastAPI and uvicorn, one process, the model called in the endpoint."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI, UploadFile

from loadtests.images.peers.classifier import Classifier
from loadtests.images.peers.settings import Settings


def build(settings: Settings) -> FastAPI:
    """Return the application."""
    app = FastAPI()
    classifier = Classifier.from_settings(settings)

    @app.post(settings.path)
    async def classify(file: UploadFile) -> dict[str, object]:
        image = classifier.read(await file.read())
        [probabilities] = classifier.probabilities(image.unsqueeze(0))
        return classifier.answer(probabilities)

    return app


if __name__ == "__main__":
    settings = Settings.from_environment()
    uvicorn.run(build(settings), host="127.0.0.1", port=settings.port, log_level="warning")
