"""What no groove prescribes: fills, solos, and strokes that follow no rhythm at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.drums.articulations import ARTICULATIONS, CYMBALS, HIHATS, PERCUSSION, TOMS
from training.drums.score import Bar, Note, Score

_DRUMS = ("snare", "tom_high", "tom_mid", "tom_low", "kick")


def fill(rng: np.random.Generator, beats: float, triplets: bool) -> list[Note]:
    """Return a fill of that length; `triplets` where the groove divides its beats by three."""
    if rng.random() < 0.03:
        return _cymbal_swell(rng, beats)
    styles: tuple[Callable[[np.random.Generator, float, int], list[Note]], ...] = (
        _round_the_toms, _snare_roll, _linear, _flams, _sparse, _tom_doubles, _any_drum,
    )  # fmt: skip
    division = int(rng.choice([3, 6] if triplets else [2, 4, 8, 6], p=[0.7, 0.3] if triplets else [0.2, 0.6, 0.1, 0.1]))
    return styles[rng.integers(len(styles))](rng, beats, division)


def _steps(beats: float, division: int) -> np.ndarray:
    return np.arange(max(round(beats * division), 1)) / division


def _round_the_toms(rng: np.random.Generator, beats: float, division: int) -> list[Note]:
    steps = _steps(beats, division)
    way = ["snare", "tom_high", "tom_mid", "tom_low"] if rng.random() < 0.8 else ["tom_low", "tom_mid", "tom_high"]
    drums = [way[min(int(index * len(way) / len(steps)), len(way) - 1)] for index in range(len(steps))]
    return [
        Note(float(beat), drum, float(rng.uniform(0.6, 1.0)))
        for beat, drum in zip(steps, drums, strict=True)
        if rng.random() < 0.9
    ]


def _snare_roll(rng: np.random.Generator, beats: float, division: int) -> list[Note]:
    steps = _steps(beats, max(division, 4))
    begin, end = rng.uniform(0.2, 0.7), rng.uniform(0.7, 1.0)
    drum = "snare" if rng.random() < 0.8 else "tom_low"
    return [
        Note(float(beat), drum, float(np.clip(begin + (end - begin) * beat / beats + rng.normal(0, 0.07), 0.08, 1.0)))
        for beat in steps
    ]


def _linear(rng: np.random.Generator, beats: float, division: int) -> list[Note]:
    cells = (
        ("snare", "snare", "kick"),
        ("snare", "kick", "kick"),
        ("snare", "tom_high", "tom_low", "kick"),
        ("tom_low", "snare", "kick"),
        ("hihat_open", "snare", "snare", "kick"),
        ("snare", "hihat_closed", "kick"),
    )
    cell = cells[rng.integers(len(cells))]
    return [
        Note(float(beat), cell[index % len(cell)], float(rng.uniform(0.55, 1.0)))
        for index, beat in enumerate(_steps(beats, division))
    ]


def _flams(rng: np.random.Generator, beats: float, division: int) -> list[Note]:
    return [
        Note(float(beat), str(rng.choice(["snare", "snare", "tom_low", "tom_high"])), 0.95, "flam")
        for beat in _steps(beats, 2 if division != 3 else 3)
        if rng.random() < 0.75
    ]


def _sparse(rng: np.random.Generator, beats: float, division: int) -> list[Note]:
    return [
        Note(float(beat), str(rng.choice(_DRUMS, p=[0.4, 0.15, 0.1, 0.2, 0.15])), float(rng.uniform(0.6, 1.0)))
        for beat in _steps(beats, division)
        if rng.random() < 0.4
    ]


def _tom_doubles(rng: np.random.Generator, beats: float, division: int) -> list[Note]:
    """Snare and floor tom together, over running kicks."""
    notes = []
    for index, beat in enumerate(_steps(beats, max(division, 2))):
        if index % 2 == 0:
            notes += [Note(float(beat), drum, float(rng.uniform(0.7, 1.0))) for drum in ("snare", "tom_low")]
        else:
            notes.append(Note(float(beat), "kick", float(rng.uniform(0.6, 0.9))))
    return notes


def _cymbal_swell(rng: np.random.Generator, beats: float) -> list[Note]:
    """Mallets on a cymbal."""
    cymbal = str(rng.choice(["crash", "ride", "china"], p=[0.7, 0.2, 0.1]))
    return [
        Note(float(beat), cymbal, float((0.1 + 0.5 * beat / beats) * rng.uniform(0.8, 1.2)))
        for beat in _steps(beats, 6)
    ]


def _any_drum(rng: np.random.Generator, beats: float, division: int) -> list[Note]:
    return [
        Note(float(beat), str(rng.choice(_DRUMS)), float(rng.uniform(0.3, 1.0)))
        for beat in _steps(beats, division)
        if rng.random() < 0.85
    ]


# How fond a soloist is of each sound, and one of free jazz.
_SOLO_LIKES = {
    "snare": (3.0, 2.0),
    "tom_high": (1.0, 0.5),
    "tom_mid": (1.0, 0.4),
    "tom_low": (1.5, 0.5),
    "kick": (2.0, 1.5),
    "hihat_closed": (0.8, 0.5),
    "hihat_pedal": (0.2, 1.0),
    "hihat_open": (0.3, 0.2),
    "crash": (0.4, 0.6),
    "snare_rim": (0.3, 0.1),
    "ride": (0.5, 4.0),
    "ride_bell": (0.1, 0.4),
}


def solo(rng: np.random.Generator, beats: float) -> Score:
    """Return a free solo: each beat its own subdivision, drums that wander, dynamics that swell."""
    free_jazz = rng.random() < 0.4
    sounds = list(_SOLO_LIKES)
    likes = rng.dirichlet(np.array([like[int(free_jazz)] for like in _SOLO_LIKES.values()]))
    stay = rng.uniform(0.2, 0.75)
    bars, level, sound = [], 0.7, "snare"
    pedal = rng.random() < 0.4
    for _ in range(int(np.ceil(beats / 4))):
        notes: list[Note] = []
        if pedal:
            notes += [Note(float(beat), "hihat_pedal", 0.5) for beat in (1, 3)]
        for beat in range(4):
            division = int(rng.choice([1, 2, 3, 4, 6, 8], p=[0.12, 0.2, 0.18, 0.3, 0.12, 0.08]))
            rest = rng.uniform(0.0, 0.45)
            for step in range(division):
                if rng.random() < rest:
                    continue
                if rng.random() > stay:
                    sound = str(rng.choice(sounds, p=likes))
                level = float(np.clip(level + rng.normal(0, 0.15), 0.2, 1.0))
                ornament = "flam" if sound in _DRUMS[:4] and rng.random() < 0.05 else ""
                notes.append(Note(beat + step / division, sound, level, ornament))
        bars.append(Bar(4, tuple(notes)))
    return Score("solo", float(rng.uniform(70, 180)), tuple(bars), metrical=False)


def unrelated(rng: np.random.Generator, seconds: float) -> Score:
    """Return random strokes of some articulations, each a process of its own that heeds no other.

    They teach the network to hear each drum whatever sounds beside it, and not to expect a rhythm.
    """
    core = ["kick", "snare", "hihat_closed"]
    others = [*HIHATS[1:], "snare_rim", "snare_brush", *CYMBALS, *TOMS, *PERCUSSION]
    chosen = [name for name in core if rng.random() < 0.8]
    chosen += [str(name) for name in rng.choice(others, size=int(rng.integers(0, 6)), replace=False)]
    chosen = chosen or [str(rng.choice(ARTICULATIONS))]
    density = float(np.exp(rng.uniform(np.log(1.5), np.log(12.0))))
    shares = rng.dirichlet(np.full(len(chosen), 1.5))
    notes: list[Note] = []
    for name, share in zip(chosen, shares, strict=True):
        gaps = rng.exponential(1.0 / max(density * share, 0.2), size=int(seconds * density * share * 2 + 8))
        times = np.cumsum(np.maximum(gaps, 0.06))
        notes += [Note(float(time), name, float(rng.uniform(0.15, 1.0))) for time in times[times < seconds]]
        if rng.random() < 0.5:  # some of them together with others: every combination must be heard
            pool = [note.beat for note in notes]
            size = min(len(pool), max(int(seconds * density * share / 3), 1))
            notes += (
                [
                    Note(float(beat), name, float(rng.uniform(0.3, 1.0)))
                    for beat in rng.choice(pool, size=size, replace=False)
                ]
                if pool
                else []
            )
    return Score("unrelated", 60.0, (Bar(seconds, tuple(notes)),), metrical=False, machine=bool(rng.random() < 0.4))


def single_drum(rng: np.random.Generator, seconds: float) -> Score:
    """Return strokes of one articulation alone, evenly spaced, soft to loud, as single-drum files hold them."""
    names = ("kick", "snare", "hihat_closed", "hihat_open", "hihat_half", "hihat_pedal", "snare_rim", "snare_brush")
    name = str(rng.choice(names)) if rng.random() < 0.7 else str(rng.choice(ARTICULATIONS))
    bpm = float(rng.uniform(60, 160))
    gap = float(rng.choice([0.25, 0.5, 1.0, 2.0], p=[0.2, 0.3, 0.35, 0.15]))
    beats = seconds * bpm / 60
    shape = rng.choice(["rising", "random", "even"])
    notes = []
    for beat in np.arange(0, beats, gap):
        velocity = {"rising": 0.15 + 0.85 * beat / beats, "random": rng.uniform(0.1, 1.0), "even": 0.75}[str(shape)]
        if rng.random() < 0.95:
            notes.append(Note(float(beat), name, float(np.clip(velocity + rng.normal(0, 0.05), 0.08, 1.0))))
    return Score("single_drum", bpm, (Bar(beats, tuple(notes)),), metrical=False, machine=bool(rng.random() < 0.5))
