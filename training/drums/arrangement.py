"""Whole pieces out of grooves: sections that change, bars that vary, fills, breaks and count-ins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.drums.articulations import TOMS
from training.drums.grooves import GENRES, Genre
from training.drums.improvisation import fill, single_drum, solo, unrelated
from training.drums.score import Bar, Note, Score, sketch

# Instead of a genre's groove.
_SHARE_NOTHING, _SHARE_UNRELATED, _SHARE_SINGLE, _SHARE_SOLO, _SHARE_SCRAMBLED = 0.01, 0.08, 0.05, 0.05, 0.06
_KICK_CHANCES = (0.95, 0.05, 0.25, 0.15, 0.15, 0.08, 0.35, 0.2, 0.55, 0.08, 0.4, 0.15, 0.15, 0.1, 0.25, 0.1)


def compose(rng: np.random.Generator, seconds: float) -> Score:
    """Return a score that lasts at least that long."""
    shares = [_SHARE_NOTHING, _SHARE_UNRELATED, _SHARE_SINGLE, _SHARE_SOLO]
    match int(np.searchsorted(np.cumsum(shares), rng.random(), side="right")):
        case 0:  # other instruments or noise alone
            return Score("nothing", 120.0, (Bar(2 * seconds, ()),), metrical=False)
        case 1:
            return unrelated(rng, seconds)
        case 2:
            return single_drum(rng, seconds)
        case 3:
            return solo(rng, seconds * 180 / 60)
    return play_genre(rng, seconds, draw_genre(rng))


def draw_genre(rng: np.random.Generator) -> str:
    """Return the name of a genre, by the genres' weights."""
    weights = np.array([genre.weight for genre in GENRES.values()])
    return str(rng.choice(list(GENRES), p=weights / weights.sum()))


def play_genre(rng: np.random.Generator, seconds: float, name: str) -> Score:
    """Return a score of that genre that lasts at least that long."""
    genre = GENRES[name]
    bpm = float(rng.uniform(*genre.bpm)) if rng.random() < 0.85 else float(rng.uniform(50, 220))
    machine = bool(rng.random() < genre.machine)
    beats_needed = seconds * bpm / 60 + genre.beats
    scrambled = bool(rng.random() < _SHARE_SCRAMBLED)
    loudness = float(rng.uniform(*genre.soft))
    bars: list[Bar] = [_count_in(rng, genre)] if rng.random() < 0.1 else []
    section = _Section.draw(rng, genre, scrambled)
    while sum(bar.beats for bar in bars) < beats_needed:
        if rng.random() < 0.7:
            section = _Section.draw(rng, genre, scrambled) if rng.random() < 0.6 else section.with_other_time(rng)
        if rng.random() < 0.03:
            bars.append(Bar(genre.beats, ()))
        num_bars = int(rng.choice([1, 2, 4, 8], p=[0.1, 0.3, 0.4, 0.2]))
        section_loudness = loudness * float(np.exp(rng.normal(0, 0.03 if machine else 0.12)))
        swell = rng.uniform(0.5, 1.0) if rng.random() < 0.06 else 1.0  # from soft to loud, over the section
        for index, bar in enumerate(section.play(rng, num_bars, machine)):
            bars.append(_scaled(bar, section_loudness * (swell + (1 - swell) * (index + 1) / num_bars)))
    written = 2 / 3 if genre.steps == 3 else 0.5
    swing = float(rng.uniform(*genre.swing)) if genre.swing and rng.random() < 0.8 else written
    return Score(name, bpm, tuple(bars), swing, genre.swing_beats, written, not scrambled, machine)


@dataclass(frozen=True)
class _Section:
    """A groove as it goes for some bars."""

    genre: Genre
    lanes: tuple[tuple[str, str], ...]  # (articulation or "time", pattern), chances not drawn yet
    time: str
    pedal: str
    open_hats: float  # chance of an opened stroke in a bar
    variation: float

    @classmethod
    def draw(cls, rng: np.random.Generator, genre: Genre, scrambled: bool) -> _Section:
        """Return a section of patterns drawn from the genre's, or of scrambled ones."""
        lanes = [(name, str(rng.choice(patterns))) for name, patterns in genre.lanes.items()]
        if scrambled:
            lanes = [(name, "".join(rng.permutation(list(pattern)))) for name, pattern in lanes]
        if genre.beats == 4 and genre.steps == 4 and rng.random() < 0.15:
            kick = "".join("x" if rng.random() < chance else "." for chance in _KICK_CHANCES)
            lanes = [(name, kick if name == "kick" else pattern) for name, pattern in lanes]
        dropped = rng.random()  # a drum that rests, or one that is left alone
        if dropped < 0.1:
            resting = str(rng.choice(["time", "kick", "snare"]))
            lanes = [lane for lane in lanes if lane[0] != resting]
        elif dropped < 0.13:
            alone = str(rng.choice(["time", "kick", "snare"]))
            lanes = [lane for lane in lanes if lane[0] == alone] or lanes
        names = list(genre.time)
        weights = np.array(list(genre.time.values()))
        time = str(rng.choice(names, p=weights / weights.sum()))
        bar = round(genre.beats * genre.steps)
        pedal = ""
        if not time.startswith("hihat") and rng.random() < genre.pedal:
            gap = genre.steps * int(rng.choice([1, 2]))
            pedal = "".join("x" if step % gap == (gap - genre.steps) else "." for step in range(bar))
        return cls(genre, tuple(lanes), time, pedal, float(rng.choice([0.0, 0.15, 0.6])), float(rng.uniform(0, 0.06)))

    def with_other_time(self, rng: np.random.Generator) -> _Section:
        """Return the same groove with another timekeeper."""
        return replace(self, time=str(rng.choice(list(self.genre.time))))

    def play(self, rng: np.random.Generator, num_bars: int, machine: bool) -> list[Bar]:
        """Return bars of the groove, the last often with a fill, the first often with a crash."""
        genre = self.genre
        bars = []
        for index in range(num_bars):
            notes = self._vary(rng, self._bar(rng, index), machine)
            if index == 0 and rng.random() < (0.15 if machine else 0.5):
                notes = self._crash(rng, notes)
            if index == num_bars - 1 and rng.random() < genre.fills:
                length = min(float(rng.choice([0.5, 1, 2, 4], p=[0.15, 0.35, 0.35, 0.15])), genre.beats)
                start = genre.beats - length
                kept = [note for note in notes if note.beat < start - 1e-6]
                filled = fill(rng, length, genre.steps == 3)
                notes = kept + [replace(note, beat=start + note.beat) for note in filled]
            elif rng.random() < 0.03:  # a break
                end = rng.uniform(0.1, genre.beats)
                notes = [note for note in notes if note.beat < end]
            bars.append(Bar(genre.beats, tuple(notes)))
        return bars

    def _bar(self, rng: np.random.Generator, index: int) -> list[Note]:
        """Return the bar as written; patterns of several bars go on where they were."""
        size = round(self.genre.beats * self.genre.steps)
        notes: list[Note] = []
        for name, pattern in self.lanes:
            if pattern:
                start = index * size % len(pattern)
                articulation = self.time if name == "time" else name
                notes += sketch(rng, pattern[start : start + size], articulation, self.genre.steps)
        notes += sketch(rng, self.pedal, "hihat_pedal", self.genre.steps)
        opened = {note.beat for note in notes if note.articulation == "hihat_open"}
        return [
            note
            for note in notes
            if note.beat not in opened or note.articulation == "hihat_open" or not note.articulation.startswith("hihat")
        ]

    def _vary(self, rng: np.random.Generator, notes: list[Note], machine: bool) -> list[Note]:
        variation = self.variation * (0.3 if machine else 1.0)
        varied = [note for note in notes if rng.random() > variation]
        if notes and rng.random() < 4 * variation:
            chosen = notes[rng.integers(len(notes))]
            steps = self.genre.beats * self.genre.steps
            varied.append(replace(chosen, beat=int(rng.integers(int(steps))) / self.genre.steps))
        hats = [index for index, note in enumerate(varied) if note.articulation in ("hihat_closed", "hihat_half")]
        if hats and rng.random() < self.open_hats:
            opened = [index for index in hats if varied[index].beat % 1 > 0.3] or hats
            for index in rng.choice(opened, size=min(int(rng.choice([1, 1, 2])), len(opened)), replace=False):
                varied[index] = replace(varied[index], articulation="hihat_open")
                if rng.random() < 0.2:  # closed by the foot before the next stroke
                    beat = varied[index].beat + 0.5
                    if beat < self.genre.beats:
                        varied.append(Note(beat, "hihat_pedal", 0.45))
        if rng.random() < 0.04:
            snares = [
                index for index, note in enumerate(varied) if note.articulation == "snare" and note.velocity > 0.5
            ]
            if snares:
                index = int(rng.choice(snares))
                ornament = str(rng.choice(["flam", "drag", "rim"]))
                varied[index] = (
                    replace(varied[index], articulation="snare_rim")
                    if ornament == "rim"
                    else replace(varied[index], ornament=ornament)
                )
        return varied

    def _crash(self, rng: np.random.Generator, notes: list[Note]) -> list[Note]:
        """Return the notes with a crash on one, mostly with a kick, often instead of the timekeeper's stroke."""
        cymbal = str(rng.choice(["crash", "splash", "china", "hihat_open"], p=[0.84, 0.06, 0.06, 0.04]))
        if rng.random() < 0.6:
            notes = [note for note in notes if note.beat > 0.01 or note.articulation != self.time]
        notes = [*notes, Note(0.0, cymbal, float(rng.uniform(0.6, 1.0)))]
        if rng.random() < 0.8 and not any(note.articulation == "kick" and note.beat < 0.01 for note in notes):
            notes.append(Note(0.0, "kick", 0.9))
        return notes


def _count_in(rng: np.random.Generator, genre: Genre) -> Bar:
    sound = str(rng.choice(["side_stick", "woodblock", "hihat_closed", "hihat_pedal", "other", *TOMS[:1]]))
    return Bar(genre.beats, tuple(Note(float(beat), sound, 0.6) for beat in range(int(genre.beats))))


def _scaled(bar: Bar, loudness: float) -> Bar:
    return Bar(bar.beats, tuple(replace(note, velocity=min(note.velocity * loudness, 1.0)) for note in bar.notes))
