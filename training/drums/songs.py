"""Songs of drums with every stroke known: what the network learns from.

A song is composed (`arrangement`), performed, mixed on a random kit, and mastered; the generator alone decides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.drums.accompaniment import accompany
from training.drums.arrangement import compose
from training.drums.articulations import LABEL_OF
from training.drums.effects import master
from training.drums.kits import SAMPLE_RATE_HZ, Kit, Split, make_kit
from training.drums.mixing import Mix, band_energies, mix
from training.drums.performance import PlayedStroke, perform
from training.drums.score import Score

# Raised with each change of substance; shards of spectrograms are named by it.
RECIPE_VERSION = 1
_SHARE_ACCOMPANIED = 0.2
# A stroke is heard where it makes at least this share of some band's energy, and is unsure down to the lower one.
_AUDIBLE_SHARE, _FAINT_SHARE = 0.05, 0.008
_SILENT_BAND = 10 ** (-75 / 10)  # of the loudest band's greatest energy: nobody hears what is below
_WINDOW = 2048


@dataclass(frozen=True)
class Hit:
    """One stroke of a song.

    Attributes:
        velocity: As it was played, in (0, 1].
        level_db: Level of this stroke alone over its first 40 ms, in the finished song, dB relative to full scale.
        grace: It leads a main stroke of the same drum by 16 to 120 ms (flam, drag): annotators seldom mark it.
    """

    time_s: float
    articulation: str
    label: str
    velocity: float
    level_db: float
    grace: bool = False


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
    if rng.random() < _SHARE_ACCOMPANIED and num_samples:
        accompaniment_db = float(rng.uniform(-30, -12))
        level = np.float32(np.std(raw) * 10 ** (accompaniment_db / 20))
        raw = raw + accompany(rng, performance.beats_s, num_samples) * level
    mastered, effects = master(rng, raw)
    gain_db = float(-rng.uniform(0, 40) if rng.random() < 0.5 else -rng.uniform(0, 6))
    samples = mastered * np.float32(10 ** (gain_db / 20))
    if rng.random() < 0.05:
        samples = samples + np.float32(rng.uniform(-0.02, 0.02))
    hits, faint = _heard(mixed, samples)
    recipe = {"genre": score.genre, "metrical": score.metrical, "machine": score.machine, "swing": score.swing,
              "effects": effects, "gain_db": gain_db, "accompaniment_db": accompaniment_db, **mixed.recipe}  # fmt: skip
    return Song(samples, hits, faint, performance.beats_s, performance.bpm, kit.name, recipe)


def _heard(mixed: Mix, samples: np.ndarray) -> tuple[tuple[Hit, ...], tuple[Hit, ...]]:
    """Return the strokes that are heard in the finished song, and those of which that is unsure.

    Each stroke's energy in each band is compared to the song's there and then. What the effects did to a band is seen
    on the strokes that fill it: the median ratio of the song's energy to the strokes' own among the band's strongest.
    """
    strokes = [stroke for stroke in mixed.strokes if stroke.played.time_s >= 0]
    if not strokes:
        return (), ()
    starts = np.array([round(stroke.played.time_s * SAMPLE_RATE_HZ) for stroke in strokes])
    before, after = _segments(mixed.samples, starts), _segments(samples, starts)
    own = np.stack([stroke.bands for stroke in strokes])  # (strokes, bands)
    mixed_bands, song_bands = band_energies(before), band_energies(after)
    gains = np.ones(own.shape[1])
    for band in range(own.shape[1]):
        strongest = np.argsort(mixed_bands[:, band])[-max(len(strokes) // 5, 1) :]
        gains[band] = np.median(song_bands[strongest, band] / (mixed_bands[strongest, band] + 1e-20))
    shares = own * gains / (np.maximum(song_bands, own * gains) + 1e-20)
    shares[song_bands < _SILENT_BAND * song_bands.max()] = 0.0
    share = shares.max(axis=1)
    power_gain = (np.sum(after**2, axis=1) + 1e-20) / (np.sum(before**2, axis=1) + 1e-20)
    hits, faint = [], []
    for index, stroke in enumerate(strokes):
        if share[index] < _FAINT_SHARE:
            continue
        level_db = 10 * np.log10(stroke.power * power_gain[index] + 1e-12)
        hit = _hit(stroke.played, float(level_db))
        (hits if share[index] >= _AUDIBLE_SHARE else faint).append(hit)
    return tuple(hits), tuple(faint)


def _segments(samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return what follows each start, (starts, window), without the mean."""
    padded = np.pad(samples - np.mean(samples), (0, _WINDOW))
    return np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[np.minimum(starts, len(samples))]


def _hit(played: PlayedStroke, level_db: float) -> Hit:
    label = LABEL_OF[played.articulation]
    return Hit(played.time_s, played.articulation, label, played.velocity, level_db, played.grace)
