"""Captions, measurements and plans of pictures that need no file."""

from __future__ import annotations

import hashlib

import numpy as np

from serve_app.models.music.plan import make_plan
from serve_app.results import Caption, MusicPlan, PictureFeatures

CONTOUR = tuple(round(0.5 + 0.4 * float(np.sin(place)), 3) for place in range(16))


def caption(valence: float, arousal: float, *, text: str = "a picture", instruments: tuple[str, ...] = ()) -> Caption:
    """Return a caption with a feeling."""
    return Caption(
        caption_ko="그림",
        caption_en=text,
        mood_words=(),
        valence=valence,
        arousal=arousal,
        instruments=instruments,
        captioner="features",
        model_version="1",
    )


def features(
    *, brightness: float = 0.5, warmth: float = 0.0, edges: float = 0.1, contour: tuple[float, ...] = CONTOUR
) -> PictureFeatures:
    """Return a picture's measurements."""
    return PictureFeatures(
        brightness=brightness,
        saturation=0.4,
        warmth=warmth,
        contrast=0.4,
        colorfulness=0.4,
        edge_density=edges,
        entropy=0.7,
        colors=(("red", 1.0),),
        contour=contour,
    )


def sha256_of(picture: int) -> str:
    """Return the digest of a picture that a number stands for."""
    return hashlib.sha256(str(picture).encode()).hexdigest()


def plan(
    picture: int = 0,
    *,
    valence: float = 0.2,
    arousal: float = 0.2,
    duration_s: float = 30.0,
    seed: int = 1,
    prompt: str = "",
) -> MusicPlan:
    """Return the plan of a picture that a number stands for."""
    return make_plan(
        caption(valence, arousal), features(), sha256_of(picture), duration_s=duration_s, seed=seed, prompt=prompt
    )


def several_plans(count: int, *, duration_s: float = 30.0) -> list[MusicPlan]:
    """Return plans of different pictures, spread over all feelings."""
    random = np.random.default_rng(7)
    return [
        plan(number, valence=float(valence), arousal=float(arousal), duration_s=duration_s)
        for number, (valence, arousal) in enumerate(random.uniform(-1, 1, (count, 2)))
    ]
