"""Figures of a composed score: what makes notes music (docs/models/composer.md). Used by the corpus and the tests."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from serve_app.models.music.composer.score import QUARTERS_PER_BAR, Note, Part, Score
from serve_app.models.music.instruments import Role
from serve_app.models.music.scales import MODES

_STRONG = {"4/4": (0.0, 2.0), "3/4": (0.0,), "6/8": (0.0, 1.5)}
_GRID = 4  # steps a quarter note


def part_of(score: Score, role: Role) -> Part | None:
    """Return the part of a role."""
    return next((part for part in score.parts if part.role is role), None)


def scale_share(score: Score) -> float:
    """Return the share of all notes, drums aside, that lie in the plan's mode."""
    scale = {(score.tonic + step) % 12 for step in MODES[score.mode]}
    pitches = [note.pitch % 12 for part in score.parts if part.role is not Role.DRUMS for note in part.notes]
    return float(np.mean([pitch in scale for pitch in pitches]))


def strong_chord_share(score: Score) -> float:
    """Return the share of the melody's notes on strong beats that belong to the chord under them."""
    bar = QUARTERS_PER_BAR[score.metre]
    inside = []
    for note in score.parts[0].notes:
        if round(note.beat % bar, 3) in _STRONG[score.metre]:
            chord = next(chord for chord in reversed(score.chords) if chord.beat <= note.beat + 1e-6)
            tones = {(score.tonic + MODES[score.mode][degree]) % 12 for degree in chord.degrees}
            inside.append(note.pitch % 12 in tones)
    return float(np.mean(inside))


def motif_uses(score: Score) -> int:
    """Return how often the most frequent rhythm of the motif's length comes, where the melody plays."""
    patterns: Counter[tuple[float, ...]] = Counter()
    bar = QUARTERS_PER_BAR[score.metre]
    for section in score.sections:
        begin = section.first_bar * bar
        for number in range(int(section.bars * bar // score.motif_beats)):
            start = begin + number * score.motif_beats
            inside = tuple(
                round(note.beat - start, 3)
                for note in score.parts[0].notes
                if start <= note.beat + 1e-6 < start + score.motif_beats
            )
            if len(inside) > 1:
                patterns[inside] += 1
    return max(patterns.values(), default=0)


def section_similarity(score: Score, first: str, second: str) -> float | None:
    """Return how alike two sections are, 0 to 1: the cosine of who plays which pitch class when, bar by bar.

    None: the form lacks one of them.
    """
    places = {}
    for section in score.sections:
        places.setdefault(section.name, section)
    if first not in places or second not in places:
        return None
    bars = min(places[first].bars, places[second].bars)
    return float(
        np.mean([
            _cosine(_bar_image(score, places[first].first_bar + bar), _bar_image(score, places[second].first_bar + bar))
            for bar in range(bars)
        ])
    )  # fmt: skip


def largest_jump(score: Score) -> int:
    """Return the widest interval between successive notes of the melody or of the bass, in semitones."""
    lines = [part.notes for part in score.parts if part.role in (Role.LEAD, Role.BASS)]
    return max(abs(later.pitch - earlier.pitch) for line in lines for earlier, later in pairwise(line))


def widest_range(score: Score) -> int:
    """Return the melody's range in semitones."""
    pitches = [note.pitch for note in score.parts[0].notes]
    return max(pitches) - min(pitches)


def ends_on_tonic(score: Score) -> bool:
    """Return whether melody and bass (the lowest note that sounds, where there is no bass) end on the tonic."""
    final = score.parts[0].notes[-1].pitch % 12
    pitched = [note for part in score.parts if part.role is not Role.DRUMS for note in part.notes]
    at_end = [note for note in pitched if note.beat >= (score.bars - 1) * QUARTERS_PER_BAR[score.metre] - 1e-6]
    bass = part_of(score, Role.BASS)
    lowest: Note = bass.notes[-1] if bass else min(at_end, key=lambda note: note.pitch)
    return final == score.tonic and lowest.pitch % 12 == score.tonic


def _bar_image(score: Score, bar: int) -> np.ndarray:
    """Return (parts, 12, steps): the pitch classes that begin on each step of a bar."""
    length = QUARTERS_PER_BAR[score.metre]
    pitched = [part for part in score.parts if part.role not in (Role.DRUMS, Role.PAD)]
    image = np.zeros((len(pitched), 12, round(length * _GRID)))
    for number, part in enumerate(pitched):
        for note in part.notes:
            step = round((note.beat - bar * length) * _GRID)
            if 0 <= step < image.shape[2]:
                image[number, note.pitch % 12, step] = 1
    norms = np.sqrt((image**2).sum(axis=(1, 2), keepdims=True))
    return image / np.maximum(norms, 1e-9)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / norm if norm else 0.0
