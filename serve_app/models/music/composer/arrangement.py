"""`compose`: from a plan to a score: form, harmony, melody, accompaniment, and how they are played."""

from __future__ import annotations

import numpy as np

from serve_app.models.music.composer.accompaniment import choose_style
from serve_app.models.music.composer.band import Band
from serve_app.models.music.composer.harmony import harmonise
from serve_app.models.music.composer.melody import Melodist, make_motif, make_voice
from serve_app.models.music.composer.performance import make_clock, perform
from serve_app.models.music.composer.score import PULSE, QUARTERS_PER_BAR, Part, Score, Section
from serve_app.models.music.instruments import INSTRUMENTS, Role, roles_of
from serve_app.models.music.plan import random_source
from serve_app.models.music.scales import MODES, PITCH_NAMES
from serve_app.results import MusicPlan

_ENERGY = {"intro": -0.22, "A": -0.06, "A'": 0.02, "B": 0.1, "A''": 0.18, "outro": -0.25}
_LONG_MOTIF_FROM_BARS = 12  # in a shorter piece a motif of two bars would not come back
_SWING = 0.57


def compose(plan: MusicPlan) -> Score:
    """Return the piece of a plan; the same plan gives the same score.

    Notes that lie in the plan's mode, a motif of one or two bars, chords with cadences, and an end on the tonic.
    """
    rng = random_source(plan.picture_sha256, plan.seed, plan.version, "notes")
    tonic, metre = PITCH_NAMES.index(plan.key), plan.metre
    bar, quarter_bpm = QUARTERS_PER_BAR[metre], plan.tempo_bpm * PULSE[metre]
    sections = _sections(plan)
    bars = sum(section.bars for section in sections)
    players = {Role.LEAD: INSTRUMENTS["piano"], **roles_of(plan.instruments)}

    color = float(np.clip(0.35 + 0.25 * abs(plan.valence) - 0.25 * plan.arousal, 0, 0.8))
    chords = harmonise(sections, plan.mode, tonic, metre, color, rng)
    style = choose_style(metre, quarter_bpm, plan.arousal, plan.density, Role.DRUMS in players, rng)
    motif = make_motif(metre, 2 if bars >= _LONG_MOTIF_FROM_BARS else 1, plan.density, plan.contour, rng)
    register = players[Role.LEAD].center + round(3 * plan.valence)
    melodist = Melodist(motif, make_voice(tonic, plan.mode, register), chords, metre)
    for section in sections:
        if section.name != "intro":
            melodist.write(section, plan.contour, round(66 + 34 * section.energy), rng)
    last = (bars - 1) * bar
    melodist.end(last, bar, round(64 + 20 * sections[-1].energy))

    pitch_classes = {degree: tonic + step for degree, step in enumerate(MODES[plan.mode])}
    band = Band(players, sections, chords, style, metre, plan.arousal, pitch_classes)
    written = {role: melodist.notes if role is Role.LEAD else band.play(role, rng) for role in players}
    swing = _SWING if plan.metre == "4/4" and "double bass" in plan.instruments and plan.arousal < 0.45 else 0.5
    clock = make_clock(quarter_bpm, bars, bar, plan.duration_s, swing)
    feeling = random_source(plan.picture_sha256, plan.seed, plan.version, "playing")
    parts = tuple(
        Part(role, players[role].name, tuple(notes), perform(notes, role, clock, feeling))
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
