"""Sounds whose notes, tempo and key are known, and a plan for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.models.music.plan import make_plan
from serve_app.results import Caption, FormSection, MusicPlan, PictureFeatures

PLAN = MusicPlan(
    version=1,
    seed=7,
    picture_sha256="0" * 64,
    valence=0.4,
    arousal=0.2,
    key="C",
    mode="ionian",
    tempo_bpm=100,
    metre="4/4",
    duration_s=10.0,
    form=(FormSection("A", 3), FormSection("outro", 1)),
    instruments=("piano", "strings"),
    density=0.5,
    contour=(0.5,) * 16,
    prompt_en="Calm acoustic piano and strings, 100 bpm, instrumental, no vocals",
)

_STEPS = {"ionian": (0, 2, 4, 5, 7, 9, 11), "aeolian": (0, 2, 3, 5, 7, 8, 10)}
_DEGREES = (0, 2, 4, 2, 3, 4, 5, 0, 4, 2, 1, 0)
_OVERTONES = ((1, 1.0), (2, 0.5), (3, 0.3), (5, 0.15), (9, 0.08))


def planned(**fields: Any) -> MusicPlan:
    return replace(PLAN, **fields)


def melody(
    seconds: float = 10.0, rate: int = 44_100, *, bpm: float = 100.0, tonic: int = 60, mode: str = "ionian"
) -> NDArray[np.float32]:
    """Return (n,): a plucked note of the scale on each beat, over its lower octave, with a click at each beginning."""
    sound = np.zeros(round(seconds * rate))
    beat = 60.0 / bpm
    rng = np.random.default_rng(0)
    for index in range(int(seconds / beat)):
        start = round(index * beat * rate)
        length = min(len(sound) - start, round(1.2 * beat * rate))
        times = np.arange(length) / rate
        envelope = np.exp(-3.0 * times) * np.minimum(1.0, 10.0 * (1.2 * beat - times))  # no click at its end
        pitch = tonic + _STEPS[mode][_DEGREES[index % len(_DEGREES)]]
        frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
        for overtone, height in _OVERTONES:
            for octave in (0.5, 1.0):
                sound[start : start + length] += (
                    height * np.sin(2 * np.pi * frequency * octave * overtone * times) * envelope
                )
        click = rng.normal(0.0, 0.3, min(length, round(0.01 * rate)))
        sound[start : start + len(click)] += click
    return (0.2 * sound / np.abs(sound).max()).astype(np.float32)


def made_plan(duration_s: float, seed: int = 7) -> MusicPlan:
    """Return a plan as a picture's job has it."""
    caption = Caption("바다", "A bright beach", ("happy",), 0.6, 0.2, ("piano",), "features", "1")
    features = PictureFeatures(
        brightness=0.7,
        saturation=0.6,
        warmth=0.3,
        contrast=0.4,
        colorfulness=0.5,
        edge_density=0.3,
        entropy=0.8,
        colors=(("blue", 0.6), ("yellow", 0.4)),
        contour=tuple(index / 15 for index in range(16)),
    )
    return make_plan(caption, features, "0" * 64, duration_s=duration_s, seed=seed)
