"""`ReusableClassifierInference`, `BeverageDetectorInference`: the image classifiers in your program, without a server.

    classifier = ReusableClassifierInference("reusable_classifier.pth")
    classifier.predict("cup.jpg")   # {"is_reusable": True, "confidence": 0.92, …}, as `POST /classify-reusable`

Weights are read, checked and converted as by the deployments, and the fastest engine runs them. Pictures are your own:
they are decoded in this process, within the limits of pixels and bytes of the settings.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from serve_app.api.images.answers import view_beverage, view_container
from serve_app.errors import ImageTooLarge, InvalidRequest
from serve_app.models.images.loading import load_classifier
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.preprocessing import image_pixels, read_image
from serve_app.models.images.tasks import BEVERAGE, CONTAINER, ImageTask
from serve_app.results import LabelScores
from serve_app.sentences import Sentence
from serve_app.services import ImageClassification
from serve_app.settings import Settings

Picture = bytes | bytearray | memoryview | str | Path | BinaryIO | Image.Image


class _Inference:
    def __init__(self, task: ImageTask, model_path: str | Path | None, device: str | None, options: Any) -> None:
        settings = Settings.from_environment()
        self._max_pixels, self._max_bytes = settings.max_image_pixels, settings.max_image_bytes
        self._options = ClassifierOptions(
            settings.models_dir,
            device=device or settings.device or "cpu",
            hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
            **options,
        )
        spec = task.embedded if model_path is None else str(model_path)
        self._loaded = load_classifier(spec, task, self._options, keep_last=False)
        self._alone = threading.Lock()  # the engine is for one thread at a time

    @property
    def model_version(self) -> str:
        """Name of the weights' file and the beginning of its SHA-256."""
        return self._loaded.facts.model_version

    def _classified(self, image: Picture) -> ImageClassification:
        pixels = self._pixels(image)
        with self._alone:
            [row] = self._loaded.engine.probabilities(pixels[np.newaxis])
        classes = self._loaded.facts.classes
        scores = {name: float(value) for name, value in zip(classes, row, strict=True)}
        return ImageClassification(LabelScores(classes[int(row.argmax())], scores), self.model_version)

    def _pixels(self, image: Picture) -> np.ndarray:
        if isinstance(image, Image.Image):
            return image_pixels(image, fit=self._options.fit, max_pixels=self._max_pixels)
        if isinstance(image, bytes | bytearray | memoryview):
            data = bytes(image)
        elif isinstance(image, str | Path):
            with open(image, "rb") as file:
                data = file.read(self._max_bytes + 1)
        elif hasattr(image, "read"):
            data = image.read(self._max_bytes + 1)
        else:
            raise InvalidRequest(
                Sentence(
                    "An image is bytes, a path, a PIL image or a file opened for reading, not {kind}",
                    kind=type(image).__name__,
                )
            )
        if len(data) > self._max_bytes:
            raise ImageTooLarge(
                Sentence("The file has more than {megabytes:g} MB: send a smaller one", megabytes=self._max_bytes / 1e6)
            )
        return read_image(data, fit=self._options.fit, max_pixels=self._max_pixels)


class ReusableClassifierInference(_Inference):
    """Says whether the container in a picture can be used again. The constructor loads the weights.

    Args:
        model_path: spec of the weights (`models.weights`): a path, an address, a Hugging Face id; None: those that come
            with serve_app, which know drawings, not photographs.
        device: `cpu`, `cuda`, `auto`; None: as `DEVICE` says, else the CPU.
        **options: of `models.images.options.ClassifierArgs`, such as `num_threads`, `calibration`.

    Raises:
        ModelLoadingError: the weights can't be had or do not fit.
    """

    def __init__(self, model_path: str | Path | None = None, device: str | None = None, **options: Any) -> None:
        super().__init__(CONTAINER, model_path, device, options)

    def predict(self, image: Picture) -> dict[str, Any]:
        """Return the answer of `POST /classify-reusable` to a picture: bytes, a path, a PIL image or an opened file.

        Raises:
            ImageUnreadable: it can't be decoded as a picture.
            ImageTooLarge: it has too many pixels or bytes.
            OSError: the file can't be read.
        """
        return view_container(self._classified(image)).model_dump()


class BeverageDetectorInference(_Inference):
    """Says whether the container in a picture holds a drink; arguments as of `ReusableClassifierInference`."""

    def __init__(self, model_path: str | Path | None = None, device: str | None = None, **options: Any) -> None:
        super().__init__(BEVERAGE, model_path, device, options)

    def predict(self, image: Picture, confidence_threshold: float = 0.7) -> dict[str, Any]:
        """Return the answer of `POST /verify-beverage`, as `ReusableClassifierInference.predict`.

        A drink is valid (`is_valid`) with at least the confidence `confidence_threshold`.
        """
        return view_beverage(self._classified(image), confidence_threshold).model_dump()
