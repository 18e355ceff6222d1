"""`harmonise`: chords of a piece: walks through a weighted graph, with a cadence at the end of each phrase."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from serve_app.models.music.composer.score import QUARTERS_PER_BAR, Chord, Section
from serve_app.models.music.scales import MODES

_Graph = dict[int, dict[int, float]]

# By mode: from a chord's root to the roots that may follow, with weights. Diminished triads are left out.
_GRAPHS: dict[str, _Graph] = {
    "lydian": {
        0: {1: 4, 4: 2, 5: 2, 2: 1},
        1: {0: 4, 4: 2, 5: 1, 2: 1},
        2: {5: 2, 1: 2, 0: 1},
        4: {0: 3, 1: 2, 5: 2},
        5: {1: 3, 4: 2, 0: 1, 2: 1},
    },
    "ionian": {
        0: {3: 3, 4: 3, 5: 3, 1: 2, 2: 1},
        1: {4: 4, 3: 1, 5: 1},
        2: {5: 3, 3: 3},
        3: {4: 3, 0: 3, 1: 1, 5: 1},
        4: {0: 4, 5: 3, 3: 1},
        5: {3: 4, 1: 3, 4: 2, 2: 1},
    },
    "mixolydian": {
        0: {6: 4, 3: 3, 4: 1, 1: 1, 5: 1},
        1: {3: 2, 6: 2, 4: 1},
        3: {0: 4, 6: 2, 4: 1, 1: 1},
        4: {3: 2, 6: 2, 0: 1},
        5: {3: 2, 6: 2, 1: 1},
        6: {3: 4, 0: 4},
    },
    "dorian": {
        0: {3: 4, 6: 3, 1: 1, 4: 1, 2: 1},
        1: {2: 1, 4: 1, 0: 1},
        2: {3: 3, 6: 2},
        3: {0: 4, 6: 2, 4: 1},
        4: {0: 2, 3: 2},
        6: {0: 3, 3: 2, 2: 1},
    },
    "aeolian": {
        0: {5: 4, 3: 3, 6: 3, 2: 2, 4: 1},
        2: {6: 3, 5: 3, 3: 1},
        3: {6: 2, 0: 2, 4: 2, 5: 1},
        4: {0: 3, 5: 3},
        5: {6: 4, 2: 3, 3: 2},
        6: {0: 4, 2: 3, 5: 1},
    },
    "phrygian": {
        0: {1: 4, 6: 4, 3: 2, 5: 2, 2: 1},
        1: {0: 4, 6: 2, 2: 1},
        2: {1: 3, 3: 1},
        3: {0: 2, 1: 3, 6: 1},
        5: {6: 2, 1: 3},
        6: {0: 4, 5: 2, 2: 1},
    },
}
# By mode: chords that close a phrase by leading to the tonic, and that leave one open.
_CADENCES: dict[str, dict[int, float]] = {
    "lydian": {1: 2, 4: 3},
    "ionian": {4: 4, 3: 1},
    "mixolydian": {6: 3, 3: 2},
    "dorian": {3: 2, 6: 2, 4: 1},
    "aeolian": {6: 3, 4: 2, 3: 1},
    "phrygian": {1: 3, 6: 2},
}
# Of its weight, a return to the tonic keeps so much before a phrase's end: it would close the phrase. The other modes
# need it: without their tonic they sound like the major or minor key of the same notes.
_TONIC_INSIDE = {"ionian": 0.15, "aeolian": 0.25}
_TONIC_INSIDE_OTHERS = 0.7
_CENTER, _LOWEST, _HIGHEST = 60, 50, 74  # of voicings, MIDI pitches


def harmonise(
    sections: Sequence[Section], mode: str, tonic: int, metre: str, color: float, rng: np.random.Generator
) -> tuple[Chord, ...]:
    """Return the chords of all sections, voiced; sections of one letter share them, the last bar is the tonic.

    Args:
        sections: the form.
        mode: a key of `MODES`.
        tonic: pitch class.
        metre: 4/4, 3/4 or 6/8.
        color: 0 to 1: how many chords get a fourth tone.
        rng: of the piece.
    """
    unit = next(section.bars for section in sections if section.name == "A")
    changes_a_bar = 2 if unit <= 2 and metre == "4/4" else 1
    theme = _period(mode, unit * changes_a_bar, rng)
    graph = _graph(mode)
    contrast_start = _pick({root: 1.0 for root in (3, 5, 6, 4) if root in graph}, rng)
    contrast = _walk(graph, contrast_start, _pick(_CADENCES[mode], rng), unit * changes_a_bar, rng)
    colored: dict[int, tuple[int, ...]] = {root: (root, (root + 2) % 7, (root + 4) % 7) for root in graph}
    for root in graph:
        if rng.random() < color:
            colored[root] = (*colored[root], (root + (6 if rng.random() < 0.6 else 1)) % 7)
    length = QUARTERS_PER_BAR[metre] / changes_a_bar
    roots: list[int] = []
    for section in sections:
        count = section.bars * changes_a_bar
        if section.name == "B":
            roots += contrast
        elif section.name == "outro":
            roots += [*_walk(graph, 0, _pick(_CADENCES[mode], rng), count - 1, rng), 0] if count > 1 else [0]
        else:
            roots += theme[:count]
    roots[-changes_a_bar:] = [0] * changes_a_bar
    if not any(roots):  # two bars with one chord each
        roots[0] = _pick(_CADENCES[mode], rng)
    chords = []
    voicing: tuple[int, ...] = ()
    for number, root in enumerate(roots):
        degrees = colored[root] if number < len(roots) - changes_a_bar else (0, 2, 4)
        voicing = lead_voices(voicing, [(tonic + MODES[mode][degree]) % 12 for degree in degrees])
        chords.append(Chord(number * length, length, root, degrees, voicing))
    return tuple(_joined(chords, QUARTERS_PER_BAR[metre]))


def lead_voices(previous: Sequence[int], pitch_classes: Sequence[int]) -> tuple[int, ...]:
    """Return the voicing of the pitch classes that moves least from the previous one (Tymoczko 2011)."""
    options = []
    for classes in itertools.permutations(pitch_classes):
        for lowest in range(_LOWEST, _LOWEST + 12):
            if lowest % 12 != classes[0]:
                continue
            pitches = [lowest]
            for pitch_class in classes[1:]:
                pitches.append(pitches[-1] + ((pitch_class - pitches[-1]) % 12 or 12))
            if pitches[-1] <= _HIGHEST:
                options.append(tuple(pitches))

    def cost(voicing: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        spread = abs(sum(voicing) / len(voicing) - _CENTER) * (0.4 if previous else 2.0)
        crowded = 3.0 * sum(upper - lower < 2 for lower, upper in itertools.pairwise(voicing))
        moved = sum(min(abs(pitch - old) for old in previous) for pitch in voicing) if previous else 0
        moved += sum(min(abs(pitch - old) for pitch in voicing) for old in previous)
        return moved + spread + crowded, voicing

    return min(options, key=cost)


def _graph(mode: str) -> _Graph:
    """Return a mode's graph, with returns to the tonic as likely as inside a phrase."""
    share = _TONIC_INSIDE.get(mode, _TONIC_INSIDE_OTHERS)
    return {
        root: {to: weight * (share if to == 0 else 1) for to, weight in ways.items()}
        for root, ways in _GRAPHS[mode].items()
    }


def _period(mode: str, count: int, rng: np.random.Generator) -> list[int]:
    """Return a phrase that stays open and one that closes on the tonic; one closing phrase if there is little room."""
    graph, cadence = _graph(mode), _CADENCES[mode]
    if count < 4:
        return [*_walk(graph, 0, _pick(cadence, rng), 2, rng), 0][:count]
    half = count // 2
    first = _walk(graph, 0, _pick(cadence, rng), half, rng)
    second = [
        *_walk(graph, first[0] if rng.random() < 0.5 else _pick(graph[0], rng), _pick(cadence, rng), half - 1, rng),
        0,
    ]
    return first + second + [0] * (count - 2 * half)


def _walk(graph: _Graph, start: int, end: int, count: int, rng: np.random.Generator) -> list[int]:
    """Return `count` roots along the graph from `start` to `end`, each path as likely as the product of its weights.

    Where no path has this length, the last step jumps.
    """
    if count <= 1:
        return [end][:count]
    reach = [{root: float(root == end) for root in graph}]  # by steps that are left: weight of all ways to the end
    for _ in range(count - 1):
        last = reach[-1]
        reach.append({root: sum(weight * last[to] for to, weight in graph[root].items()) for root in graph})
    path = [start]
    for left in range(count - 2, -1, -1):
        ways = {to: weight * reach[left][to] for to, weight in graph[path[-1]].items()}
        path.append(_pick(ways, rng) if any(ways.values()) else end)
    return path


def _pick(weights: dict[int, float], rng: np.random.Generator) -> int:
    """Return a key, as likely as its weight."""
    values = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(values), p=values / values.sum()))]


def _joined(chords: Sequence[Chord], bar: float) -> list[Chord]:
    """Join equal chords of one bar."""
    joined: list[Chord] = []
    for chord in chords:
        if joined and chord.beat % bar and (joined[-1].root, joined[-1].degrees) == (chord.root, chord.degrees):
            joined[-1] = replace(joined[-1], beats=joined[-1].beats + chord.beats)
        else:
            joined.append(chord)
    return joined
