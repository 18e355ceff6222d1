"""What accompanies the melody: held chords, figures over them, bass and drums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.models.music.composer import rhythm
from serve_app.models.music.composer.score import QUARTERS_PER_BAR, Chord, Note, Section

_BASS_LOWEST, _BASS_HIGHEST = 29, 47
_RING_BEATS = 4.0  # how long a plucked or struck note may ring
_FIGURES = ((0, 1, 2, 1), (0, 2, 1, 2), (0, 1, 2, 3), (2, 1, 0, 1), (0, 1, 2, 3, 2, 1))


@dataclass(frozen=True, slots=True)
class Style:
    """How a piece is accompanied; chosen once, so that it stays the same throughout.

    Attributes:
        figure: order in which a chord's tones are struck; None: all at once.
        contrast: likewise, in B.
        step: quarter notes between two strokes of a figure.
        drums: name of a drum pattern; None: there are no drums.
        cymbal: the drum that plays the steady strokes.
        density: 0 to 1.
    """

    figure: tuple[int, ...] | None
    contrast: tuple[int, ...] | None
    step: float
    drums: str | None
    cymbal: int
    density: float


def choose_style(
    metre: str, quarter_bpm: float, arousal: float, density: float, with_drums: bool, rng: np.random.Generator
) -> Style:
    """Return a style for the feeling; block chords become likelier with arousal."""
    blocks = rng.random() < 0.25 + 0.25 * (arousal + 1) / 2
    figures = [_FIGURES[int(rng.integers(len(_FIGURES)))] for _ in range(2)]
    fine = density > 0.6 and quarter_bpm < 92 and metre == "4/4"
    gentle = rhythm.SHAKER if rng.random() < 0.5 else rhythm.CLOSED_HAT
    return Style(
        figure=None if blocks else figures[0],
        contrast=figures[1] if blocks else (None if rng.random() < 0.4 else figures[1]),
        step=0.25 if fine and not blocks else 0.5,
        drums=rhythm.choose_style(metre, arousal, rng) if with_drums else None,
        cymbal=gentle if arousal < 0.4 else rhythm.CLOSED_HAT,
        density=density,
    )


def held_chords(chords: Sequence[Chord], velocity: int) -> list[Note]:
    """Return the chords' voicings, each held until the next chord."""
    return [Note(chord.beat, chord.beats, pitch, velocity) for chord in chords for pitch in chord.voicing]


def figures(
    section: Section, chords: Sequence[Chord], style: Style, metre: str, shift: int, velocity: int
) -> list[Note]:
    """Return the chords of a section as figures or as repeated chords, in a Euclidean rhythm; `shift` in semitones."""
    order = style.contrast if section.name == "B" else style.figure
    bar = QUARTERS_PER_BAR[metre]
    steps = round(bar / style.step)
    if order is None:
        struck = rhythm.euclid(max(2, round(steps * (0.2 + 0.35 * style.density * section.energy))), steps)
    else:
        share = min(1.0, 0.4 + 0.4 * style.density + 0.3 * section.energy)
        struck = rhythm.euclid(max(2, round(steps * share)), steps)
    notes = []
    for chord in chords:
        number = 0
        for place in range(round(chord.beats / style.step)):
            beat = chord.beat + place * style.step
            if place > 0 and not struck[round((beat % bar) / style.step) % steps]:
                continue
            left = chord.beat + chord.beats - beat
            strong = 5 if beat % bar == 0 else 0
            if order is None:
                length = min(left, 1.0 if section.energy > 0.6 else 2.0)
                notes += [Note(beat, length, pitch + shift, velocity + strong) for pitch in chord.voicing]
            else:
                pitch = chord.voicing[order[number % len(order)] % len(chord.voicing)]
                notes.append(Note(beat, min(left, _RING_BEATS), pitch + shift, velocity + strong))
            number += 1
    return notes


def bass_line(
    section: Section,
    chords: Sequence[Chord],
    metre: str,
    arousal: float,
    pitch_classes: Mapping[int, int],
    velocity: int,
    before: int | None = None,
) -> list[Note]:
    """Return roots and fifths under the chords, each root near the last one.

    Args:
        section: its energy and `arousal` choose the figure.
        chords: of the section.
        metre: of the piece.
        arousal: of the piece.
        pitch_classes: by scale degree.
        velocity: of the notes.
        before: pitch of the bass before the first chord.
    """
    notes: list[Note] = []
    previous = before or 38
    for chord in chords:
        root = _near(pitch_classes[chord.root], previous)
        fifth = _near(pitch_classes[(chord.root + 4) % 7], root)
        previous = root
        for beat, length, pitch in _bass_figure(chord.beats, metre, arousal * 0.6 + section.energy * 0.5, root, fifth):
            notes.append(Note(chord.beat + beat, length, pitch, velocity + (4 if beat == 0 else -4)))
    return notes


def drum_part(section: Section, style: Style, metre: str, rng: np.random.Generator, *, first: bool) -> list[Note]:
    """Return a section's drums, with a fill in the last bar; `first`: of the piece, where cymbals alone begin."""
    if style.drums is None or section.name == "outro" or (section.name == "intro" and section.energy < 0.35):
        return []
    bar = QUARTERS_PER_BAR[metre]
    steps = round(bar * 2)
    count = round(steps * min(1.0, 0.3 + 0.5 * style.density + 0.3 * section.energy))
    cymbals = rhythm.euclid(max(2, count), steps)
    cymbal = rhythm.RIDE if section.name == "B" and section.energy > 0.6 else style.cymbal
    full = section.name != "intro"
    notes = []
    for number in range(section.bars):
        begin = (section.first_bar + number) * bar
        strokes = rhythm.drum_bar(metre, style.drums, cymbals, cymbal, full)
        if number == section.bars - 1 and section.bars > 1 and style.drums != "soft":
            ending = rhythm.fill(metre, section.energy, rng)
            start = min(beat for beat, _, _ in ending)
            strokes = [stroke for stroke in strokes if stroke[0] < start] + ending
        if number == 0 and not first and section.energy > 0.55:
            strokes.append((0.0, rhythm.CRASH, 0.7))
        loud = 62 + 50 * section.energy
        notes += [Note(begin + beat, 0.25, drum, round(loud * strength)) for beat, drum, strength in strokes]
    return notes


def _bass_figure(beats: float, metre: str, drive: float, root: int, fifth: int) -> list[tuple[float, float, int]]:
    """Return (beat, length, pitch) of one chord's bass."""
    if drive < 0.15 or beats < 2:
        return [(0.0, beats, root)]
    if metre == "6/8":
        return [(0.0, 1.5, root), (1.5, beats - 1.5, fifth if drive > 0.4 else root)]
    if metre == "3/4":
        return [(0.0, 2.0, root), (2.0, beats - 2.0, fifth)] if beats > 2 else [(0.0, beats, root)]
    figure: list[tuple[float, float, int]] = []
    for half in range(int(beats // 2)):
        start = half * 2.0
        if drive < 0.4:
            figure.append((start, 2.0, root if half % 2 == 0 else fifth))
        elif drive < 0.75:
            figure += [(start, 1.5, root), (start + 1.5, 0.5, fifth if half % 2 else root)]
        else:
            figure += [(start + step / 2, 0.45, fifth if half % 2 and step == 3 else root) for step in range(4)]
    return figure


def _near(pitch_class: int, pitch: int) -> int:
    """Return the pitch of a class in the bass's range that is nearest to another one."""
    return min(
        (each for each in range(_BASS_LOWEST, _BASS_HIGHEST + 1) if each % 12 == pitch_class % 12),
        key=lambda each: (abs(each - pitch), each),
    )
