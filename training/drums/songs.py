"""Songs of drums with every stroke known: what the network learns from.

A song is composed (`arrangement`), performed, mixed on a random kit, and mastered; the generator alone decides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.drums.accompaniment import accompany
from training.drums.arrangement import compose
from training.drums.audibility import Hit, heard
from training.drums.effects import master
from training.drums.kits import SAMPLE_RATE_HZ, Kit, Split, make_kit
from training.drums.mixing import mix
from training.drums.performance import perform
from training.drums.score import Score

__all__ = ["Hit", "Song", "make_song", "song_on"]

_SHARE_ACCOMPANIED = 0.2


@dataclass(frozen=True)
class Song:
    """Drums as a file holds them, and what was played.

    Attributes:
        samples: (n,) float32 at 44.1 kHz.
        hits: Strokes that can be heard, in order.
        faint: Strokes of which it is unsure whether they can be heard (masked by others or by noise), in order:
            neither a hit nor a mistake. Strokes that nobody can hear are in neither.
        beats_s: (n,) felt beats: quarters, dotted quarters in 6/8 and 12/8; with the tempo's drift, without the limbs'
            deviations. In 7/8 they run on in quarters across the bars.
        bpm: Mean tempo of the beats.
        kit: Name of the kit.
        recipe: What was drawn: "genre", "metrical" (False: no tempo can be heard, `beats_s` mean nothing), "machine",
            "swing", "effects", "accompaniment_db", levels of the mix.
    """

    samples: np.ndarray
    hits: tuple[Hit, ...]
    faint: tuple[Hit, ...]
    beats_s: np.ndarray
    bpm: float
    kit: str
    recipe: dict


def make_song(rng: np.random.Generator, split: Split, *, seconds: float = 30.0) -> Song:
    """Return a song of that length on a kit of that split; the same generator gives the same song."""
    return song_on(rng, make_kit(rng, split), compose(rng, seconds), seconds=seconds)


def song_on(rng: np.random.Generator, kit: Kit, score: Score, *, seconds: float) -> Song:
    """Return a score played on a given kit, recorded and mastered at random."""
    num_samples = round(seconds * SAMPLE_RATE_HZ)
    performance = perform(rng, score, seconds)
    mixed = mix(rng, kit, performance.strokes, num_samples, score.machine)
    raw, accompaniment_db = mixed.samples, None
    if rng.random() < _SHARE_ACCOMPANIED or score.genre == "nothing":
        accompaniment_db = float(rng.uniform(-30, -12))
        level = (float(np.std(raw)) or 1.0) * 10 ** (accompaniment_db / 20)
        raw = raw + accompany(rng, performance.beats_s, num_samples) * np.float32(level)
    mastered, effects = master(rng, raw)
    gain_db = float(-rng.uniform(0, 40) if rng.random() < 0.5 else -rng.uniform(0, 6))
    samples = mastered * np.float32(10 ** (gain_db / 20))
    if rng.random() < 0.05:
        samples = samples + np.float32(rng.uniform(-0.02, 0.02))
    hits, faint = heard(mixed, samples)
    recipe = {"genre": score.genre, "metrical": score.metrical, "machine": score.machine, "swing": score.swing,
              "effects": effects, "gain_db": gain_db, "accompaniment_db": accompaniment_db, **mixed.recipe}  # fmt: skip
    return Song(samples, hits, faint, performance.beats_s, performance.bpm, kit.name, recipe)
