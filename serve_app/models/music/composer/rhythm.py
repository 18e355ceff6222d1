"""Rhythms: Euclidean patterns, cells of melodies, drum patterns and fills."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KICK, RIM, SNARE, CLAP, CLOSED_HAT, OPEN_HAT, SHAKER, LOW_TOM, HIGH_TOM, CRASH, RIDE = (
    36, 37, 38, 39, 42, 46, 70, 45, 50, 49, 51,
)  # fmt: skip

# Lengths of a bar's notes in quarters; a bar that ends with a long note can end a phrase.
_CELLS: dict[str, tuple[tuple[float, ...], ...]] = {
    "4/4": (
        (2, 2), (3, 1), (1, 1, 2), (1.5, 0.5, 2), (1, 2, 1), (1.5, 1.5, 1), (1, 1, 1, 1), (1.5, 0.5, 1, 1),
        (1, 0.5, 0.5, 2), (0.5, 0.5, 1, 2), (0.5, 0.5, 1, 1, 1), (1, 0.5, 0.5, 1, 1), (1.5, 0.5, 0.5, 0.5, 1),
        (0.5, 1, 0.5, 1, 1), (0.5, 0.5, 0.5, 0.5, 1, 1), (1, 0.5, 0.5, 0.5, 0.5, 1), (0.5, 0.5, 1, 0.5, 0.5, 1),
        (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1), (1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    ),
    "3/4": (
        (3,), (2, 1), (1, 2), (1, 1, 1), (1.5, 0.5, 1), (1, 0.5, 0.5, 1), (0.5, 0.5, 2), (0.5, 0.5, 1, 1),
        (1.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5, 1), (1, 0.5, 0.5, 0.5, 0.5),
    ),
    "6/8": (
        (3,), (1.5, 1.5), (1, 0.5, 1.5), (1.5, 1, 0.5), (1, 0.5, 1, 0.5), (0.5, 0.5, 0.5, 1.5), (1.5, 0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5, 1, 0.5), (0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    ),
}  # fmt: skip

_Pattern = dict[int, str]  # by drum: a character a sixteenth: "." rests, "x" strikes, "X" with force, "o" softly
_DRUMS: dict[str, dict[str, _Pattern]] = {
    "4/4": {
        "soft": {KICK: "X.......o.......", RIM: "........x......."},
        "half": {KICK: "X......x..o.....", SNARE: "........X......."},
        "pop": {KICK: "X.....x.X.o.....", SNARE: "....X.......X..o"},
        "four": {KICK: "X...X...X...X...", CLAP: "....x.......x..."},
    },
    "3/4": {
        "soft": {KICK: "X...........", RIM: "....o...x..."},
        "pop": {KICK: "X.........o.", SNARE: "....x...x..."},
    },
    "6/8": {
        "soft": {KICK: "X...........", RIM: "......x....."},
        "pop": {KICK: "X....o....x.", SNARE: "......X....."},
    },
}
_STRENGTHS = {"X": 1.0, "x": 0.82, "o": 0.55}
_STYLES = (("soft", -0.1, 0.3), ("half", 0.25, 0.25), ("pop", 0.5, 0.3), ("four", 0.85, 0.25))  # likely arousal, spread


def euclid(onsets: int, steps: int, rotation: int = 0) -> tuple[bool, ...]:
    """Return `onsets` spread as evenly as possible over `steps` (Toussaint 2005), turned by `rotation` steps."""
    return tuple(((step + rotation) * onsets) % steps < onsets for step in range(steps))


def choose_cell(metre: str, density: float, least: int, long_end: bool, rng: np.random.Generator) -> tuple[float, ...]:
    """Return the lengths of a bar's notes, at least `least`; `long_end`: the last is no shorter than the others."""
    cells = [cell for cell in _CELLS[metre] if len(cell) >= least and (not long_end or cell[-1] == max(cell))]
    wanted = 1.5 + 5.0 * density
    weights = np.exp(-np.abs(np.array([len(cell) for cell in cells]) - wanted))
    return cells[int(rng.choice(len(cells), p=weights / weights.sum()))]


def choose_style(metre: str, arousal: float, rng: np.random.Generator) -> str:
    """Return the name of a drum pattern that fits the metre and the arousal."""
    styles = [style for style in _STYLES if style[0] in _DRUMS[metre]]
    weights = np.array([np.exp(-(((arousal - place) / spread) ** 2)) for _, place, spread in styles]) + 1e-6
    return styles[int(rng.choice(len(styles), p=weights / weights.sum()))][0]


def drum_bar(
    metre: str, style: str, cymbals: Sequence[bool], cymbal: int, full: bool
) -> list[tuple[float, int, float]]:
    """Return a bar's strokes (beat, drum, strength from 0 to 1); not `full`: cymbals only.

    Args:
        metre: of the bar.
        style: of `choose_style`.
        cymbals: one item a step of the bar: where the cymbal is struck.
        cymbal: the drum that plays them.
        full: whether kick and snare play.
    """
    quarters = 4.0 if metre == "4/4" else 3.0
    step = quarters / len(cymbals)
    strokes = [
        (number * step, cymbal, 0.75 if (number * step) % 1 == 0 else 0.5)
        for number, struck in enumerate(cymbals)
        if struck
    ]
    for drum, pattern in _DRUMS[metre][style].items() if full else ():
        strokes += [(place / 4, drum, _STRENGTHS[mark]) for place, mark in enumerate(pattern) if mark != "."]
    return strokes


def fill(metre: str, energy: float, rng: np.random.Generator) -> list[tuple[float, int, float]]:
    """Return the strokes of a fill in the last beat of a bar, or the last two if it has energy."""
    quarters = 4.0 if metre == "4/4" else 3.0
    length = 2.0 if energy > 0.7 and metre == "4/4" else 1.0 if metre != "6/8" else 1.5
    steps = int(length * 4)
    struck = euclid(max(3, round(steps * (0.5 + 0.4 * energy))), steps, int(rng.integers(steps)))
    drums = [SNARE, HIGH_TOM, LOW_TOM]
    return [
        (quarters - length + step / 4, drums[min(2, step * 3 // steps)], 0.6 + 0.4 * step / steps)
        for step in range(steps)
        if struck[step]
    ]
