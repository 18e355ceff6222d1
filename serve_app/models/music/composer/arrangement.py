"""`compose`: from a plan to a score: form, harmony, melody, accompaniment, and how they are played."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from serve_app.models.music.composer.accompaniment import (
    Style,
    bass_line,
    choose_style,
    drum_part,
    figures,
    held_chords,
)
from serve_app.models.music.composer.harmony import harmonise
from serve_app.models.music.composer.melody import Melodist, make_motif, make_voice
from serve_app.models.music.composer.performance import make_clock, perform
from serve_app.models.music.composer.rhythm import CRASH, KICK
from serve_app.models.music.composer.score import PULSE, QUARTERS_PER_BAR, Chord, Note, Part, Score, Section
from serve_app.models.music.instruments import INSTRUMENTS, Role, roles_of
from serve_app.models.music.plan import random_source
from serve_app.models.music.scales import MODES, PITCH_NAMES
from serve_app.results import MusicPlan

_ENERGY = {"intro": -0.22, "A": -0.06, "A'": 0.02, "B": 0.1, "A''": 0.18, "outro": -0.25}
_LONG_MOTIF_FROM_BARS = 12  # in a shorter piece a motif of two bars would not come back
_SWING = 0.57
_LEFT_HAND = 38  # lowest pitch of a left hand


def compose(plan: MusicPlan) -> Score:
    """Return the piece of a plan; the same plan gives the same score.

    Notes that lie in the plan's mode, a motif of one or two bars, chords with cadences, and an end on the tonic.
    """
    rng = random_source(plan.picture_sha256, plan.seed, plan.version, "notes")
    tonic, metre = PITCH_NAMES.index(plan.key), plan.metre
    bar, quarter_bpm = QUARTERS_PER_BAR[metre], plan.tempo_bpm * PULSE[metre]
    sections = _sections(plan)
    bars = sum(section.bars for section in sections)
    roles = roles_of(plan.instruments)
    lead = roles.pop(Role.LEAD, INSTRUMENTS["piano"])

    color = float(np.clip(0.35 + 0.25 * abs(plan.valence) - 0.25 * plan.arousal, 0, 0.8))
    chords = harmonise(sections, plan.mode, tonic, metre, color, rng)
    style = choose_style(metre, quarter_bpm, plan.arousal, plan.density, Role.DRUMS in roles, rng)
    motif = make_motif(metre, 2 if bars >= _LONG_MOTIF_FROM_BARS else 1, plan.density, plan.contour, rng)
    register = lead.center + round(3 * plan.valence)
    melodist = Melodist(motif, make_voice(tonic, plan.mode, register), chords, metre)
    for section in sections:
        if section.name != "intro":
            melodist.write(section, plan.contour, round(66 + 34 * section.energy), rng)
    last = (bars - 1) * bar
    melodist.end(last, bar, round(64 + 20 * sections[-1].energy))

    written = {Role.LEAD: melodist.notes}
    for role in roles:
        written[role] = _accompany(role, plan, sections, chords, style, lead.center, roles[role].center, rng)
    played_by = {Role.LEAD: lead, **roles}
    swing = _SWING if plan.metre == "4/4" and "double bass" in plan.instruments and plan.arousal < 0.45 else 0.5
    clock = make_clock(quarter_bpm, bars, bar, plan.duration_s, swing)
    feeling = random_source(plan.picture_sha256, plan.seed, plan.version, "playing")
    parts = tuple(
        Part(role, played_by[role].name, tuple(notes), perform(notes, role, clock, feeling))
        for role, notes in ((role, sorted(written[role], key=lambda n: (n.beat, n.pitch))) for role in written)
        if notes
    )
    return Score(
        tonic, plan.mode, quarter_bpm, metre, bars, plan.duration_s, sections, chords, parts, motif_beats=motif.beats
    )


def _sections(plan: MusicPlan) -> tuple[Section, ...]:
    """Return the plan's form with energies; repeats of a section are a little stronger."""
    sections: list[Section] = []
    first = 0
    for part in plan.form:
        energy = 0.55 + 0.28 * plan.arousal + _ENERGY.get(part.name, 0.0)
        energy += 0.03 * sum(section.name == part.name for section in sections)
        sections.append(Section(part.name, first, part.bars, float(np.clip(energy, 0.1, 1.0))))
        first += part.bars
    return tuple(sections)


def _accompany(
    role: Role,
    plan: MusicPlan,
    sections: Sequence[Section],
    chords: Sequence[Chord],
    style: Style,
    lead_center: int,
    center: int,
    rng: np.random.Generator,
) -> list[Note]:
    """Return the notes of an accompanying part."""
    bar = QUARTERS_PER_BAR[plan.metre]
    last = chords[-1]
    end_beat = (sum(section.bars for section in sections) - 1) * bar
    pitch_classes = {degree: PITCH_NAMES.index(plan.key) + step for degree, step in enumerate(MODES[plan.mode])}
    has_bass = any(Role.BASS in INSTRUMENTS[name].roles for name in plan.instruments if name in INSTRUMENTS)
    shift = 12 if center >= 72 and lead_center < 72 else 0
    notes: list[Note] = []
    for number, section in enumerate(sections):
        begin, end = section.first_bar * bar, (section.first_bar + section.bars) * bar
        inside = [chord for chord in chords if begin <= chord.beat < end]
        velocity = round(50 + 32 * section.energy)
        match role:
            case Role.PAD:
                notes += held_chords(inside, [velocity] * len(inside))
            case Role.CHORDS:
                notes += figures(section, inside, style, plan.metre, shift, velocity)
                notes += [] if has_bass else _left_hand(inside, plan, pitch_classes, velocity)
            case Role.BASS if section.name != "intro" or section.energy > 0.5:
                before = notes[-1].pitch if notes else None
                notes += bass_line(section, inside, plan.metre, plan.arousal, pitch_classes, velocity + 8, before)
            case Role.DRUMS:
                notes += drum_part(section, style, plan.metre, rng, first=number == 0)
    notes = [note for note in notes if note.beat < end_beat]
    velocity = round(50 + 25 * sections[-1].energy)
    match role:
        case Role.PAD | Role.CHORDS:
            up = shift if role is Role.CHORDS else 0
            notes += [Note(end_beat, bar, pitch + up, velocity) for pitch in last.voicing]
            if not has_bass and role is Role.CHORDS:
                notes += _left_hand([Chord(end_beat, bar, 0, (0, 2, 4))], plan, pitch_classes, velocity)
        case Role.BASS:
            calm = Section("outro", 0, 1, 0.0)
            before = notes[-1].pitch if notes else None
            notes += bass_line(
                calm, [Chord(end_beat, bar, 0, (0, 2, 4))], plan.metre, -1, pitch_classes, velocity, before
            )
        case Role.DRUMS if notes:
            notes += [Note(end_beat, 0.25, KICK, velocity + 20), Note(end_beat, 0.25, CRASH, velocity)]
    return notes


def _left_hand(chords: Sequence[Chord], plan: MusicPlan, pitch_classes: dict[int, int], velocity: int) -> list[Note]:
    """Return the roots of chords for an instrument that plays without a bass: below all voicings."""
    calm = Section("A", 0, 1, 0.0)
    roots = bass_line(calm, chords, plan.metre, -1.0, pitch_classes, velocity - 6)
    return [dataclasses.replace(note, pitch=note.pitch + (12 if note.pitch < _LEFT_HAND else 0)) for note in roots]
