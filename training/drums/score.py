"""What is to be played, in beats: notes, and the short pattern notation that grooves are written in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Marks of a pattern: velocity of a stroke, and how it is played.
_VELOCITIES = {"X": 0.95, "x": 0.72, "o": 0.52, "g": 0.24, "f": 0.9, "d": 0.85, "z": 0.5}
_ORNAMENTS = {"f": "flam", "d": "drag", "z": "buzz"}


@dataclass(frozen=True)
class Note:
    """One stroke of a score.

    Attributes:
        beat: Position in felt beats from the beginning of the bar, section or song that holds it.
        ornament: "" or "flam" (one grace stroke), "drag" (two), "buzz" (a roll until `length_beats` later).
    """

    beat: float
    articulation: str
    velocity: float
    ornament: str = ""
    length_beats: float = 0.25


@dataclass(frozen=True)
class Bar:
    """One bar of notes, `beats` felt beats long."""

    beats: float
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Score:
    """A whole piece.

    Attributes:
        metrical: False where the strokes follow no beat, so that no tempo can be heard.
        swing: Where the second stroke of each `swing_beats` falls, as a share of it: 0.5 is straight, 0.67 triplets.
        swing_beats: What is swung: 1 beat (eighths) or half a beat (sixteenths).
        written_swing: Where the notes have that stroke: 0.5, or 0.67 where they are written in triplets.
    """

    genre: str
    bpm: float
    bars: tuple[Bar, ...]
    swing: float = 0.5
    swing_beats: float = 1.0
    written_swing: float = 0.5
    metrical: bool = True
    machine: bool = False

    def notes(self) -> list[Note]:
        """Return the notes of all bars, their beats counted from the beginning, in order."""
        notes: list[Note] = []
        first = 0.0
        for bar in self.bars:
            notes.extend(replace(note, beat=first + note.beat) for note in bar.notes)
            first += bar.beats
        return sorted(notes, key=lambda note: note.beat)

    @property
    def beats(self) -> float:
        """Return the length in beats."""
        return sum(bar.beats for bar in self.bars)


def sketch(rng: np.random.Generator, pattern: str, articulation: str, steps_per_beat: float) -> list[Note]:
    """Return the notes of a pattern, one mark a step.

    Marks: X accent, x, o soft, g ghost, . rest, f flam, d drag, z buzz; a digit is its tenths of a chance of x, `h`
    half a chance of a ghost.
    """
    notes = []
    for step, drawn in enumerate(pattern):
        mark = drawn
        if mark.isdigit():
            mark = "x" if rng.random() < int(mark) / 10 else "."
        elif mark == "h":
            mark = "g" if rng.random() < 0.5 else "."
        if mark == ".":
            continue
        ornament = _ORNAMENTS.get(mark, "")
        notes.append(Note(step / steps_per_beat, articulation, _VELOCITIES[mark], ornament, 1.0 / steps_per_beat))
    return notes
