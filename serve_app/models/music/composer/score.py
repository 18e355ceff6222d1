"""Values of a composed piece. Beats are quarter notes from the start, in every metre."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.models.music.instruments import Role

QUARTERS_PER_BAR = {"4/4": 4.0, "3/4": 3.0, "6/8": 3.0}
PULSE = {"4/4": 1.0, "3/4": 1.0, "6/8": 1.5}  # quarter notes a beat


@dataclass(frozen=True, slots=True)
class Note:
    """A note as written, before anybody plays it: of drums the pitch is General MIDI's."""

    beat: float
    beats: float
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class PlayedNote:
    """A note as played: with swing, small deviations and the slowing at the end."""

    start_s: float
    end_s: float
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord of the harmony.

    Attributes:
        beat: where it begins.
        beats: how long it sounds.
        root: scale degree, 0 to 6.
        degrees: scale degrees of its tones, 0 to 6, the root first.
        voicing: MIDI pitches, rising.
    """

    beat: float
    beats: float
    root: int
    degrees: tuple[int, ...]
    voicing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the form. `energy`, 0 to 1, opens and closes layers and makes notes louder."""

    name: str
    first_bar: int
    bars: int
    energy: float


@dataclass(frozen=True, slots=True)
class Part:
    """What one instrument plays: the same notes as written and as played."""

    role: Role
    instrument: str
    notes: tuple[Note, ...]
    played: tuple[PlayedNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A piece.

    Attributes:
        tonic: pitch class of the key, 0 is C.
        mode: a key of `scales.MODES`.
        quarter_bpm: quarter notes a minute; the beat of 6/8 has one and a half.
        metre: 4/4, 3/4 or 6/8.
        bars: their number.
        duration_s: of the piece, with what rings at the end.
        sections: in order.
        chords: in order, without gaps.
        parts: the leading one first.
        motif_beats: length of the motif, in quarter notes.
    """

    tonic: int
    mode: str
    quarter_bpm: float
    metre: str
    bars: int
    duration_s: float
    sections: tuple[Section, ...]
    chords: tuple[Chord, ...]
    parts: tuple[Part, ...]
    motif_beats: float
