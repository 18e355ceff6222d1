"""`Band`: the accompanying parts of a whole piece, section by section, up to its last chord."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from serve_app.models.music.composer import rhythm
from serve_app.models.music.composer.accompaniment import Style, bass_line, drum_part, figures, held_chords
from serve_app.models.music.composer.score import QUARTERS_PER_BAR, Chord, Note, Section
from serve_app.models.music.instruments import Instrument, Role

_LEFT_HAND = 38  # lowest pitch of a left hand
_HELD = Section("end", 0, 1, 0.0)  # without energy and arousal, a bass holds one note


@dataclass(frozen=True, slots=True)
class Band:
    """Who accompanies, and what they have to know.

    Attributes:
        players: instruments by role.
        sections: of the piece, which ends with the last one.
        chords: of the piece; the last is held for the whole last bar.
        style: of the accompaniment.
        metre: of the piece.
        arousal: of the piece.
        pitch_classes: by scale degree.
    """

    players: Mapping[Role, Instrument]
    sections: tuple[Section, ...]
    chords: tuple[Chord, ...]
    style: Style
    metre: str
    arousal: float
    pitch_classes: Mapping[int, int]

    def play(self, role: Role, rng: np.random.Generator) -> list[Note]:
        """Return the notes of a role other than the lead, with those of the last bar."""
        match role:
            case Role.PAD:
                return self._pad()
            case Role.CHORDS:
                return self._figures()
            case Role.BASS:
                return self._bass()
            case Role.DRUMS:
                return self._drums(rng)
        raise ValueError(f"{role} does not accompany")

    def _pad(self) -> list[Note]:
        notes = [note for section, chords in self._parts() for note in held_chords(chords, _velocity(section))]
        return notes + held_chords([self.chords[-1]], self._last_velocity)

    def _figures(self) -> list[Note]:
        is_high = self.players[Role.CHORDS].center >= 72 and self.players[Role.LEAD].center < 72
        shift = 12 if is_high else 0
        notes: list[Note] = []
        for section, chords in self._parts():
            notes += figures(section, chords, self.style, self.metre, shift, _velocity(section))
            notes += self._left_hand(chords, _velocity(section))
        last = self.chords[-1]
        high = dataclasses.replace(last, voicing=tuple(pitch + shift for pitch in last.voicing))
        return notes + held_chords([high], self._last_velocity) + self._left_hand([last], self._last_velocity)

    def _left_hand(self, chords: list[Chord], velocity: int) -> list[Note]:
        """Return roots below all voicings, where nobody plays the bass."""
        if Role.BASS in self.players:
            return []
        roots = bass_line(_HELD, chords, self.metre, -1.0, self.pitch_classes, velocity - 6)
        return [dataclasses.replace(note, pitch=note.pitch + (12 if note.pitch < _LEFT_HAND else 0)) for note in roots]

    def _bass(self) -> list[Note]:
        notes: list[Note] = []
        for section, chords in self._parts():
            if section.name != "intro" or section.energy > 0.5:
                before = notes[-1].pitch if notes else None
                velocity = _velocity(section) + 8
                notes += bass_line(section, chords, self.metre, self.arousal, self.pitch_classes, velocity, before)
        before = notes[-1].pitch if notes else None
        last = [self.chords[-1]]
        return notes + bass_line(_HELD, last, self.metre, -1.0, self.pitch_classes, self._last_velocity, before)

    def _drums(self, rng: np.random.Generator) -> list[Note]:
        end = self.chords[-1].beat
        notes = [
            note
            for number, section in enumerate(self.sections)
            for note in drum_part(section, self.style, self.metre, rng, first=number == 0)
            if note.beat < end
        ]
        last = (
            Note(end, 0.25, rhythm.KICK, self._last_velocity + 20),
            Note(end, 0.25, rhythm.CRASH, self._last_velocity),
        )
        return [*notes, *last] if notes else []

    def _parts(self) -> Iterator[tuple[Section, list[Chord]]]:
        """Yield each section with its chords, but for the last one of the piece."""
        bar = QUARTERS_PER_BAR[self.metre]
        for section in self.sections:
            begin, end = section.first_bar * bar, (section.first_bar + section.bars) * bar
            yield section, [chord for chord in self.chords[:-1] if begin <= chord.beat < end]

    @property
    def _last_velocity(self) -> int:
        return round(50 + 25 * self.sections[-1].energy)


def _velocity(section: Section) -> int:
    return round(50 + 32 * section.energy)
