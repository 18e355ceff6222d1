"""From valence and arousal to mode, tempo, metre, form and instruments: the rules of a plan.

Sources: docs/models/composer.md. Every function takes the plan's random generator: two plans of one feeling differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from serve_app.models.music.instruments import INSTRUMENTS, Instrument, Role
from serve_app.models.music.scales import MODES, PITCH_NAMES
from serve_app.results import FormSection, PictureFeatures

BEATS_PER_BAR = {"4/4": 4, "3/4": 3, "6/8": 2}  # a beat of 6/8 is a dotted quarter note

_MODE_SPREAD = 0.45
_MIDDLE_BPM, _BPM_PER_AROUSAL, _BPM_SPREAD = 96.0, 38.0, 4.0
_BPM_REACH = 5  # how far a tempo may move so that whole phrases fill the asked length
_LONG_BARS, _SHORT_BARS = 36, 12
_TEMPLATES = {
    1: ("A",),
    2: ("A", "A'"),
    3: ("A", "B", "A''"),
    4: ("A", "A'", "B", "A''"),
    5: ("A", "A'", "B", "A'", "A''"),
    6: ("A", "A'", "B", "A'", "B", "A''"),
    7: ("A", "A'", "B", "A", "A'", "B", "A''"),
    8: ("A", "A'", "B", "A'", "A", "A'", "B", "A''"),
}
_NAMED_WEIGHT = 6.0  # of an instrument that the caption names, against one that it doesn't
_INSTRUMENT_SPREAD = 0.45  # how far from its own feeling an instrument is still likely


def choose_mode(valence: float, rng: np.random.Generator) -> str:
    """Return a mode: number 3 - 3 × valence, counted from Lydian, give or take one now and then; at most Phrygian."""
    index = round(3 - 3 * valence + float(rng.normal(0, _MODE_SPREAD)))
    return tuple(MODES)[min(max(index, 0), len(MODES) - 1)]


def choose_key(features: PictureFeatures, rng: np.random.Generator) -> str:
    """Return a tonic: warm and light pictures lean to sharp keys, cold and dark ones to flat keys; any can come."""
    place = 3 * features.warmth + 6 * (features.brightness - 0.5)  # fifths from C
    fifths = np.arange(12)
    weights = np.exp(0.7 * np.cos(2 * np.pi * (fifths - place) / 12))
    return PITCH_NAMES[7 * int(rng.choice(fifths, p=weights / weights.sum())) % 12]


def choose_metre(valence: float, arousal: float, rng: np.random.Generator) -> str:
    """Return a metre: mostly 4/4; calm and happy pieces more often have three beats or a rocking 6/8."""
    calm = max(0.0, 0.6 - arousal) / 1.6
    weights = np.array([1.0, 0.45 * calm * (1 + 0.5 * valence), 0.35 * calm])
    return tuple(BEATS_PER_BAR)[int(rng.choice(3, p=weights / weights.sum()))]


def fit_tempo(metre: str, arousal: float, duration_s: float, rng: np.random.Generator) -> tuple[str, int, int]:
    """Return metre, tempo in beats a minute and number of bars, so that the bars fill the length less than a bar short.

    The tempo follows arousal. It moves a little, so that the bars make a good form. A piece has two bars at least:
    where they don't fit, they get three beats each, or a higher tempo.
    """
    wanted = _MIDDLE_BPM + _BPM_PER_AROUSAL * arousal + float(np.clip(rng.normal(0, _BPM_SPREAD), -8, 8))
    if metre == "4/4" and duration_s * (wanted + _BPM_REACH) < 2 * 4 * 60:
        metre = "3/4"
    beats = BEATS_PER_BAR[metre]
    if metre == "6/8":
        wanted *= 0.75  # a dotted beat is longer: its eighth notes keep about the same speed
    least = math.ceil(2 * beats * 60 / duration_s)
    first = max(round(wanted) - _BPM_REACH, least)
    candidates = range(first, max(round(wanted) + _BPM_REACH, first) + 1)

    def cost(bpm: int) -> float:
        bars = duration_s * bpm / 60 / beats
        rest = 0 if bars < _SHORT_BARS else (math.floor(bars) % 4) / 4
        return abs(bpm - wanted) / _BPM_REACH + rest + 0.5 * (bars - math.floor(bars))

    bpm = min(candidates, key=cost)
    return metre, bpm, math.floor(duration_s * bpm / 60 / beats + 1e-9)


def make_form(bars: int) -> tuple[FormSection, ...]:
    """Return sections of `bars` bars in all: A, A', B, A'' of 8, 4 or 2 each, with intro and outro if they fit."""
    if bars < 4:
        return (FormSection("A", bars),)
    unit = 2 if bars < _SHORT_BARS else 4 if bars < _LONG_BARS else 8
    count = min(bars // unit, max(_TEMPLATES))
    if count > 4 and bars == count * unit:
        count -= 1  # an intro and an outro are worth more than a fifth section
    left = bars - count * unit
    intro = min(left // 2, 4)
    sections = [FormSection(name, unit) for name in _TEMPLATES[count]]
    if intro:
        sections.insert(0, FormSection("intro", intro))
    if left > intro:
        sections.append(FormSection("outro", left - intro))
    return tuple(sections)


def choose_density(features: PictureFeatures, arousal: float) -> float:
    """Return how many notes a bar has, 0 to 1: from the picture's edges and from arousal."""
    return float(np.clip(0.12 + 0.45 * math.sqrt(features.edge_density) + 0.22 * (arousal + 1), 0.0, 1.0))


def choose_instruments(
    valence: float,
    arousal: float,
    wanted: Sequence[str],
    suggested: Iterable[str],
    unwanted: Iterable[str],
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Return instruments, the leading one first.

    Args:
        valence: of the piece.
        arousal: of the piece; calm pieces have no drums, very calm ones no bass.
        wanted: by the caller: each gets a role as long as one is free.
        suggested: by the caption: more likely than others.
        unwanted: by the caller: never chosen.
        rng: of the plan.
    """
    roles = [Role.LEAD, Role.CHORDS]
    roles += [Role.PAD] * (arousal < 0.1 or rng.random() < 0.6)
    roles += [Role.BASS] * (arousal > -0.85)
    roles += [Role.DRUMS] * (arousal > -0.15)
    chosen: dict[Role, str] = {}
    for name in wanted:
        free = [role for role in Role if role in INSTRUMENTS[name].roles and role not in chosen]
        if free:
            chosen[free[0]] = name
    suggested = frozenset(suggested)

    def weight(instrument: Instrument) -> float:
        distance = (instrument.valence - valence) ** 2 + (instrument.arousal - arousal) ** 2
        return math.exp(-distance / (2 * _INSTRUMENT_SPREAD**2)) * (
            _NAMED_WEIGHT if instrument.name in suggested else 1.0
        )

    for role in roles:
        left = [
            each
            for each in INSTRUMENTS.values()
            if role in each.roles and each.name not in unwanted and each.name not in chosen.values()
        ]
        if role not in chosen and left:
            weights = np.array([weight(each) for each in left])
            chosen[role] = left[int(rng.choice(len(left), p=weights / weights.sum()))].name
    return tuple(chosen[role] for role in Role if role in chosen)
