"""Which strokes of a mix can be heard in the finished song, and how loud they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.drums.articulations import LABEL_OF
from training.drums.kits import SAMPLE_RATE_HZ
from training.drums.mixing import Mix, band_energies
from training.drums.performance import PlayedStroke

# A stroke is heard where it makes at least this share of some band's energy, and is unsure down to the lower one.
_AUDIBLE_SHARE, _FAINT_SHARE = 0.12, 0.02
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


def heard(mixed: Mix, samples: np.ndarray) -> tuple[tuple[Hit, ...], tuple[Hit, ...]]:
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
    hits: list[Hit] = []
    faint: list[Hit] = []
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
