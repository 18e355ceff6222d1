"""From score to strokes in time: tempo, swing, the limbs' timing, dynamics, flams and rolls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.drums.articulations import LABEL_OF
from training.drums.score import Note, Score

# Two strokes on one drum closer than this are one.
_CLOSEST_S = 0.022
_ROLL_GAP_S = (0.05, 0.075)
_GRACE_GAP_S = (0.016, 0.04)


@dataclass(frozen=True)
class PlayedStroke:
    """One stroke of a performance.

    Attributes:
        velocity: In (0, 1].
        grace: It leads another stroke of the same drum (flam, drag) and is hardly heard as one of its own.
    """

    time_s: float
    articulation: str
    velocity: float
    grace: bool = False


@dataclass(frozen=True)
class Performance:
    """Strokes in order, and where the felt beats fall.

    Attributes:
        beats_s: (n,) times of the beats within the piece; the performance's own tempo, without the limbs' deviations.
        bpm: Mean tempo between these beats.
    """

    strokes: tuple[PlayedStroke, ...]
    beats_s: np.ndarray
    bpm: float


@dataclass(frozen=True)
class _Clock:
    """Times of beats; linear between them."""

    beats: np.ndarray
    times_s: np.ndarray

    def at(self, beats: np.ndarray) -> np.ndarray:
        return np.interp(beats, self.beats, self.times_s)


def perform(rng: np.random.Generator, score: Score, seconds: float) -> Performance:
    """Return the score as somebody plays it, cut to `seconds`; strokes before 0 may still ring."""
    notes = score.notes()
    clock = _clock(rng, score, _start_s(rng, score, seconds))
    placed = _swing(np.array([note.beat for note in notes]), score)
    times_s = clock.at(placed) + _deviations_s(rng, score, notes)
    end_s = seconds - (rng.uniform(0.5, 3.0) if seconds > 8 and rng.random() < 0.2 else 0.0)  # it may ring out
    machine_dynamics = score.machine and rng.random() < 0.6
    strokes: list[PlayedStroke] = []
    for note, time_s in zip(notes, times_s, strict=True):
        if -4.0 < time_s < end_s:
            velocity = note.velocity if machine_dynamics else note.velocity * float(np.exp(rng.normal(0, 0.1)))
            strokes += _ornamented(rng, note, float(time_s), float(np.clip(velocity, 0.04, 1.0)), 60 / score.bpm)
    strokes = [stroke for stroke in strokes if stroke.time_s < end_s - 0.005]
    beats_s = clock.times_s[(clock.times_s >= 0) & (clock.times_s <= min(seconds, end_s))]
    bpm = 60 * (len(beats_s) - 1) / float(beats_s[-1] - beats_s[0]) if len(beats_s) > 1 else score.bpm
    return Performance(_without_doubles(strokes), beats_s, bpm)


def _start_s(rng: np.random.Generator, score: Score, seconds: float) -> float:
    """Return when the first beat falls: before 0 the piece is cut out of a longer one."""
    draw = rng.random()
    if draw < 0.3:
        return 0.0
    if draw < 0.65:
        return -float(rng.uniform(0, max(min(score.beats * 60 / score.bpm - seconds, 8.0), 0.1)))
    return float(rng.uniform(0.01, min(1.5, 0.2 * seconds)))


def _clock(rng: np.random.Generator, score: Score, start_s: float) -> _Clock:
    """Return a tempo that stays, wanders or goes one way."""
    num_beats = int(np.ceil(score.beats)) + 2
    tempo = np.ones(num_beats)
    if not score.machine and score.metrical:
        draw = rng.random()
        if draw < 0.6:  # a free player: a slow random walk
            walk = np.cumsum(rng.normal(0, rng.uniform(0.0005, 0.006), num_beats))
            tempo = np.exp(np.clip(walk, -0.08, 0.08))
        elif draw < 0.7:
            tempo = np.linspace(1.0, rng.uniform(0.88, 1.14), num_beats)
    times_s = start_s + np.concatenate([[0.0], np.cumsum(60 / (score.bpm * tempo))])
    return _Clock(np.arange(num_beats + 1, dtype=float), times_s)


def _swing(beats: np.ndarray, score: Score) -> np.ndarray:
    """Return the beats with what lies between swung pairs moved."""
    if score.swing == score.written_swing:
        return beats
    cycle = np.floor(beats / score.swing_beats + 1e-9)
    phase = np.clip(beats / score.swing_beats - cycle, 0.0, 1.0)
    return (cycle + np.interp(phase, [0, score.written_swing, 1], [0, score.swing, 1])) * score.swing_beats


def _deviations_s(rng: np.random.Generator, score: Score, notes: list[Note]) -> np.ndarray:
    """Return how early or late each stroke is: each limb leans one way, wanders slowly, and scatters."""
    if score.machine:
        return rng.normal(0, 0.0004, len(notes)) if rng.random() < 0.3 else np.zeros(len(notes))
    tightness_s = float(np.clip(np.exp(rng.normal(np.log(0.006), 0.5)), 0.002, 0.016))
    deviations = np.zeros(len(notes))
    limbs = {"foot": -0.3, "left": 0.3, "right": 0.0, "pedal": 0.0}
    limb_of = np.array([_limb(note.articulation) for note in notes])
    for limb, lean in limbs.items():
        ours = np.flatnonzero(limb_of == limb)
        if not ours.size:
            continue
        offset = rng.normal(lean * 0.003, 0.5 * tightness_s)
        if limb == "left" and rng.random() < 0.2:
            offset += rng.uniform(0.0, 0.015)  # laid back
        wander = np.cumsum(rng.normal(0, 1, ours.size))
        wander -= np.linspace(0, wander[-1], ours.size)
        wander *= 0.6 * tightness_s / max(float(np.std(wander)), 1e-9)
        deviations[ours] = offset + wander + rng.normal(0, 0.7 * tightness_s, ours.size)
    return np.clip(deviations, -0.035, 0.035) * min(1.0, 110 / score.bpm)


def _limb(articulation: str) -> str:
    if articulation == "kick":
        return "foot"
    if articulation == "hihat_pedal":
        return "pedal"
    return "left" if LABEL_OF[articulation] == "snare" else "right"


def _ornamented(
    rng: np.random.Generator, note: Note, time_s: float, velocity: float, beat_s: float
) -> list[PlayedStroke]:
    main = PlayedStroke(time_s, note.articulation, velocity)
    if note.ornament == "flam":
        gap_s = rng.uniform(*_GRACE_GAP_S)
        return [PlayedStroke(time_s - gap_s, note.articulation, velocity * rng.uniform(0.25, 0.6), grace=True), main]
    if note.ornament == "drag":
        gap_s = rng.uniform(0.04, 0.06)
        return [
            PlayedStroke(time_s - count * gap_s, note.articulation, velocity * rng.uniform(0.2, 0.45), grace=True)
            for count in (2, 1)
        ] + [main]
    if note.ornament == "buzz":
        length_s = note.length_beats * beat_s
        count = max(round(length_s / rng.uniform(*_ROLL_GAP_S)), 1)
        return [
            PlayedStroke(time_s + index * length_s / count, note.articulation, velocity * float(rng.uniform(0.7, 1.0)))
            for index in range(count)
        ]
    return [main]


def _without_doubles(strokes: list[PlayedStroke]) -> tuple[PlayedStroke, ...]:
    """Return the strokes in order, without those that hit a drum that was hit just before, flams aside."""
    kept: list[PlayedStroke] = []
    last: dict[str, PlayedStroke] = {}
    for stroke in sorted(strokes, key=lambda stroke: stroke.time_s):
        if -0.02 < stroke.time_s < 0:  # the file begins with it
            stroke = PlayedStroke(0.0, stroke.articulation, stroke.velocity, stroke.grace)
        drum = (
            LABEL_OF[stroke.articulation] if stroke.articulation.startswith(("hihat", "snare")) else stroke.articulation
        )
        before = last.get(drum)
        if before is not None and not before.grace and stroke.time_s - before.time_s < _CLOSEST_S:
            continue
        last[drum] = stroke
        kept.append(stroke)
    return tuple(kept)
