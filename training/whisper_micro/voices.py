"""Who speaks: voices to train on, and voices that only ever speak in the test.

Held out are every sixth variant of espeak-ng together with pitches and rates of their own, and one voice of flite whose
recordings nothing else is made of: `rms`. (flite's and festival's `kal` are one man, their `slt` one woman.) Four more
variants serve for development, so that no choice is made by looking at the test's voices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

Family = Literal["espeak", "flite", "festival"]
VoiceSplit = Literal["train", "dev", "unseen"]

_VARIANTS = Path("/usr/lib/x86_64-linux-gnu/espeak-ng-data/voices/!v")
# whispers, croaks and effects; "fast" ignores the rate
_UNUSABLE = frozenset({"whisper", "whisperf", "croak", "Demonic", "fast", "announcer", "Kaukovalta", "kaukovalta"})
_ACCENTS = {"en": ("en-us", "en-us", "en", "en-gb-x-rp"), "ko": ("ko",)}
_PITCHES = {
    "train": (20, 30, 40, 50, 60, 70, 80),
    "dev": (22, 42, 62),
    "unseen": (25, 35, 45, 55, 65, 75),
}
_RATES_WPM = {
    "train": (130, 140, 150, 160, 170, 180, 190, 200),
    "dev": (137, 157, 177),
    "unseen": (135, 145, 155, 165, 175, 185, 195),
}

FLITE: dict[VoiceSplit, tuple[str, ...]] = {"train": ("slt", "awb", "kal", "kal16"), "dev": (), "unseen": ("rms",)}
FESTIVAL = ("kal_diphone", "cmu_us_slt_arctic_hts")
# of English utterances; the rest are espeak's. Korean is espeak's alone.
_SHARE_FLITE, _SHARE_FESTIVAL = 0.16, 0.08


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice with its way of speaking.

    Attributes:
        family: the program that speaks.
        name: espeak-ng's `ACCENT+VARIANT`, or the voice's name.
        stretch: duration of sounds, for flite and festival.
        speed: how much faster it is played afterwards: shorter, pitch and formants higher.
        pitch: 0 to 99, for espeak-ng.
        rate_wpm: words a minute, for espeak-ng.
    """

    family: Family
    name: str
    stretch: float = 1.0
    speed: float = 1.0
    pitch: int = 50
    rate_wpm: int = 170


@cache
def espeak_variants(split: VoiceSplit) -> tuple[str, ...]:
    """Return the variants of espeak-ng that speak in that split; MissingSynthesizerError where it is not installed."""
    if not _VARIANTS.is_dir():
        from training.whisper_micro.speech import MissingSynthesizerError  # which imports this module

        raise MissingSynthesizerError("espeak-ng's voices")
    names = sorted(path.name for path in _VARIANTS.iterdir() if path.name not in _UNUSABLE)
    held_out = {"unseen": names[3::6], "dev": names[5::24]}
    if split in held_out:
        return tuple(held_out[split])
    return tuple(name for name in names if not any(name in group for group in held_out.values()))


def draw_voice(rng: np.random.Generator, language: str, split: VoiceSplit, family: Family | None = None) -> Voice:
    """Return a random voice of a language, of that family or of any.

    Raises:
        ValueError: if the family has no voice of that language in that split.
    """
    chosen = family or _draw_family(rng, language, split)
    if chosen == "espeak":
        accents = _ACCENTS[language]
        return Voice(
            "espeak",
            f"{accents[rng.integers(len(accents))]}+{_one_of(rng, espeak_variants(split))}",
            speed=_speed(rng, split),
            pitch=int(rng.choice(_PITCHES[split])),
            rate_wpm=int(rng.choice(_RATES_WPM[split])),
        )
    names = FLITE[split] if chosen == "flite" else FESTIVAL if split == "train" else ()
    if language != "en" or not names:
        raise ValueError(f"{chosen} has no voice of {language!r} in the split {split!r}")
    return Voice(chosen, _one_of(rng, names), stretch=float(rng.uniform(0.85, 1.2)), speed=_speed(rng, split))


def _draw_family(rng: np.random.Generator, language: str, split: VoiceSplit) -> Family:
    if language != "en" or split != "train":
        return "espeak"
    draw = rng.random()
    return "flite" if draw < _SHARE_FLITE else "festival" if draw < _SHARE_FLITE + _SHARE_FESTIVAL else "espeak"


def _speed(rng: np.random.Generator, split: VoiceSplit) -> float:
    """Return a factor in hundredths; half of the training's voices and all others are played as they are."""
    return float(rng.integers(88, 115)) / 100 if split == "train" and rng.random() < 0.5 else 1.0


def _one_of(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[rng.integers(len(names))]
