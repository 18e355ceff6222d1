"""`make_plan`: from a caption and a picture's measurements to a `MusicPlan`, through valence and arousal.

Pixels never become notes: rules with published sources lead from feeling to music (docs/models/composer.md).
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from serve_app.models.captions.mood import shifted_by_words
from serve_app.models.music.instruments import named_instruments
from serve_app.models.music.plan_rules import (
    choose_density,
    choose_instruments,
    choose_key,
    choose_metre,
    choose_mode,
    fit_tempo,
    make_form,
)
from serve_app.models.music.plan_words import make_prompt
from serve_app.results import MAX_MUSIC_S, MIN_MUSIC_S, Caption, MusicPlan, PictureFeatures

VERSION = 1  # of the rules; a plan of another version gives another piece
_CONTOUR_POINTS = 16


def random_source(picture_sha256: str, seed: int, version: int, purpose: str) -> np.random.Generator:
    """Return the random generator of a plan or of its piece; equal arguments give equal numbers everywhere."""
    digest = hashlib.sha256(f"{picture_sha256}/{seed}/{version}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "big"))))


def make_plan(
    caption: Caption,
    features: PictureFeatures,
    picture_sha256: str,
    *,
    duration_s: float,
    seed: int,
    prompt: str = "",
) -> MusicPlan:
    """Return the plan of a piece; the same arguments give the same plan.

    Args:
        caption: its valence and arousal lead; instruments that it names are likely.
        features: of the picture: density, contour and the choice of the key come from them.
        picture_sha256: of the cleaned picture, with `seed` the source of every random choice.
        duration_s: length of the piece, cut to `MIN_MUSIC_S` and `MAX_MUSIC_S`.
        seed: any integer; another one gives another piece of the same feeling.
        prompt: the caller's words, English or Korean: they shift the feeling and may name instruments, or rule them out
            ("no drums"). Otherwise they are only a part of `prompt_en`.
    """
    rng = random_source(picture_sha256, seed, VERSION, "plan")
    duration_s = min(max(float(duration_s), MIN_MUSIC_S), MAX_MUSIC_S)
    valence, arousal = (
        round(float(np.clip(value, -1, 1)), 3) for value in shifted_by_words(caption.valence, caption.arousal, prompt)
    )
    mode, key = choose_mode(valence, rng), choose_key(features, rng)
    metre, tempo_bpm, bars = fit_tempo(choose_metre(valence, arousal, rng), arousal, duration_s, rng)
    wanted, unwanted = named_instruments([prompt])
    suggested, _ = named_instruments([*caption.instruments, caption.caption_en])
    instruments = choose_instruments(valence, arousal, wanted, suggested, unwanted, rng)
    return MusicPlan(
        version=VERSION,
        seed=seed,
        picture_sha256=picture_sha256,
        valence=valence,
        arousal=arousal,
        key=key,
        mode=mode,
        tempo_bpm=tempo_bpm,
        metre=metre,
        duration_s=duration_s,
        form=make_form(bars),
        instruments=instruments,
        density=round(choose_density(features, arousal), 3),
        contour=_contour(features),
        prompt_en=make_prompt(
            valence=valence,
            arousal=arousal,
            key=key,
            mode=mode,
            tempo_bpm=tempo_bpm,
            metre=metre,
            instruments=instruments,
            mood_words=caption.mood_words,
            caller=prompt,
        ),
    )


def another_seed(plan: MusicPlan, n: int) -> MusicPlan:
    """Return the same plan with its `n`-th derived seed, 31 bits: the same feeling, key and form, other notes."""
    digest = hashlib.sha256(f"{plan.seed}/{n}".encode()).digest()
    return dataclasses.replace(plan, seed=int.from_bytes(digest[:4], "big") >> 1)


def _contour(features: PictureFeatures) -> tuple[float, ...]:
    """Return 16 values in [0, 1]."""
    values = np.clip(np.asarray(features.contour or (0.5,), dtype=np.float64), 0, 1)
    places = np.linspace(0, len(values) - 1, _CONTOUR_POINTS)
    return tuple(round(float(value), 3) for value in np.interp(places, np.arange(len(values)), values))
