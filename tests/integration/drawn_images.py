"""Drawings of vessels, of the kind that the embedded classifiers learned from, as files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from serve_app.models.images.tasks import TASKS
from training.images.drawings.palettes import Style
from training.images.drawings.scenes import draw

_SEED = 77_001  # of no drawing that was trained on


def drawn_jpeg(task: str, label: str, number: int, size: tuple[int, int] = (640, 480)) -> bytes:
    """Return a drawing as a JPEG; another one for each number."""
    rng = np.random.default_rng((_SEED, number))
    return as_file(draw(TASKS[task], label, rng, Style.TRAINED, size).image, "JPEG", quality=90)


def as_file(image: Image.Image, form: str, **options: object) -> bytes:
    """Return a picture's file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
