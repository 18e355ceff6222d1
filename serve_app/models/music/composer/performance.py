"""`perform`: when and how loud written notes are played: swing, small deviations, the slowing at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.models.music.composer.score import Note, PlayedNote
from serve_app.models.music.instruments import Role

_DEVIATION_S, _MOST_S, _DRUM_SHARE = 0.004, 0.008, 0.5
_VELOCITY_DEVIATION = 3.0
_OVERLAP_S = {Role.PAD: 0.08, Role.LEAD: 0.02, Role.CHORDS: 0.0, Role.BASS: -0.01, Role.DRUMS: 0.0}
_LAST_SHARE = 0.72  # of the time after the last chord's start: so long it is held; then it fades


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds of beats.

    Attributes:
        quarter_s: length of a quarter note.
        slow_from: beat from which the piece slows down.
        last: beat of the last chord.
        slowing_s: by how much the last chord comes later than in tempo.
        duration_s: of the piece.
        swing: share of a beat that its first half lasts; 0.5: none.
    """

    quarter_s: float
    slow_from: float
    last: float
    slowing_s: float
    duration_s: float
    swing: float

    def seconds(self, beat: float) -> float:
        """Return when a beat comes."""
        whole, part = divmod(beat, 1.0)
        swung = part * 2 * self.swing if part < 0.5 else self.swing + (part - 0.5) * 2 * (1 - self.swing)
        through = np.clip((beat - self.slow_from) / max(self.last - self.slow_from, 1e-9), 0.0, 1.0)
        return float((whole + swung) * self.quarter_s + self.slowing_s * through**2)

    @property
    def held_until_s(self) -> float:
        """When the notes of the last chord are let go."""
        start = self.seconds(self.last)
        return start + _LAST_SHARE * (self.duration_s - start)


def make_clock(quarter_bpm: float, bars: int, bar: float, duration_s: float, swing: float) -> Clock:
    """Return a piece's clock: the time that its bars leave slows the bar before the last and lets that one ring."""
    quarter_s = min(60 / quarter_bpm, duration_s / (bars * bar))
    spare = max(0.0, duration_s - bars * bar * quarter_s)
    slowing = min(0.5 * spare, 0.15 * bar * quarter_s) if bars > 3 else 0.0
    last = (bars - 1) * bar
    return Clock(quarter_s, max(0.0, last - bar), last, slowing, duration_s, swing)


def perform(notes: Sequence[Note], role: Role, clock: Clock, rng: np.random.Generator) -> tuple[PlayedNote, ...]:
    """Return the notes as played, in order of time; those of a chord roll a little from the lowest up."""
    share = _DRUM_SHARE if role is Role.DRUMS else 1.0
    late = np.clip(rng.normal(0, _DEVIATION_S, len(notes)), -_MOST_S, _MOST_S) * share
    louder = np.clip(rng.normal(0, _VELOCITY_DEVIATION, len(notes)), -6, 6)
    played = []
    for note, deviation, change in zip(notes, late.tolist(), louder.tolist(), strict=True):
        start = max(0.0, clock.seconds(note.beat) + deviation)
        if note.beat >= clock.last - 1e-6 and role is not Role.DRUMS:
            end = clock.held_until_s
        else:
            end = clock.seconds(note.beat + note.beats) + _OVERLAP_S[role]
        end = min(max(end, start + 0.06), clock.duration_s)
        played.append(PlayedNote(start, end, note.pitch, int(np.clip(round(note.velocity + change), 1, 127))))
    return tuple(sorted(played, key=lambda note: (note.start_s, note.pitch)))
