"""The melody: one motif, which recurs, follows the chords and is varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.models.music.composer.rhythm import choose_cell
from serve_app.models.music.composer.score import PULSE, QUARTERS_PER_BAR, Chord, Note, Section
from serve_app.models.music.scales import nearest_degree, pitch_of

_RANGE = 10  # scale steps from the lowest to the highest note: less than one and a half octaves
_LEAP = 4  # scale steps: a fifth
_LONG = 1.5  # quarter notes: a note of this length is a chord tone wherever it stands


@dataclass(frozen=True, slots=True)
class Motif:
    """The idea of a piece.

    Attributes:
        beats: its length.
        onsets: of its notes.
        lengths: of its notes.
        offsets: scale steps from its first note.
    """

    beats: float
    onsets: tuple[float, ...]
    lengths: tuple[float, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Voice:
    """Where a melody lies: its key, and the lowest scale degree that it uses."""

    tonic: int  # MIDI pitch of degree 0
    mode: str
    lowest: int

    @property
    def highest(self) -> int:
        return self.lowest + _RANGE


def make_motif(metre: str, bars: int, density: float, contour: Sequence[float], rng: np.random.Generator) -> Motif:
    """Return a motif of `bars` bars. Its line follows the picture's contour; steps are more likely than leaps."""
    bar = QUARTERS_PER_BAR[metre]
    least = 3 if bars == 1 else 2
    cells = [choose_cell(metre, density, least, number == bars - 1, rng) for number in range(bars)]
    lengths = [length for cell in cells for length in cell]
    onsets = [0.0, *np.cumsum(lengths)[:-1].tolist()]
    middles = [(onset + length / 2) / (bar * bars) for onset, length in zip(onsets, lengths, strict=True)]
    line = np.interp(middles, np.linspace(0, 1, len(contour)), contour)
    spread = float(np.ptp(contour))
    heights = (line - line[0]) / spread * 5 if spread > 0.02 else np.zeros(len(line))
    offsets = [0]
    for height in heights[1:].tolist():
        steps = np.array([-3, -2, -1, 0, 1, 2, 3])
        liking = np.array([0.3, 0.8, 2.0, 0.5, 2.0, 0.8, 0.3]) * np.exp(-0.45 * np.abs(offsets[-1] + steps - height))
        offsets.append(offsets[-1] + int(rng.choice(steps, p=liking / liking.sum())))
    if len(set(offsets)) < min(3, len(offsets)):  # a motif of one pitch is none
        offsets = [(0, 1, 2, 1)[number % 4] for number in range(len(offsets))]
    return Motif(bar * bars, tuple(onsets), tuple(lengths), tuple(offsets))


def inverted(motif: Motif) -> Motif:
    """Return the motif upside down."""
    return Motif(motif.beats, motif.onsets, motif.lengths, tuple(-offset for offset in motif.offsets))


def thinned(motif: Motif) -> Motif:
    """Return the motif without its short notes off the beat; the note before each lasts longer."""
    kept = [number for number, onset in enumerate(motif.onsets) if number == 0 or onset % 1 == 0]
    onsets = [motif.onsets[number] for number in kept]
    lengths = [end - onset for onset, end in zip(onsets, [*onsets[1:], motif.beats], strict=True)]
    return Motif(motif.beats, tuple(onsets), tuple(lengths), tuple(motif.offsets[number] for number in kept))


def ornamented(motif: Motif, rng: np.random.Generator) -> Motif:
    """Return the motif with one longer note divided: a neighbour note leads on."""
    long = [number for number, length in enumerate(motif.lengths) if length >= 1 and number > 0]
    if not long:
        return motif
    place = int(rng.choice(long))
    half = motif.lengths[place] / 2
    following = motif.offsets[(place + 1) % len(motif.offsets)]
    neighbour = motif.offsets[place] + (1 if following >= motif.offsets[place] else -1)
    return Motif(
        motif.beats,
        (*motif.onsets[: place + 1], motif.onsets[place] + half, *motif.onsets[place + 1 :]),
        (*motif.lengths[:place], half, half, *motif.lengths[place + 1 :]),
        (*motif.offsets[: place + 1], neighbour, *motif.offsets[place + 1 :]),
    )


class Melodist:
    """Writes the melody of a piece, motif by motif."""

    def __init__(self, motif: Motif, voice: Voice, chords: Sequence[Chord], metre: str) -> None:
        self._motif, self._voice, self._chords, self._metre = motif, voice, chords, metre
        self._degree = (voice.lowest + voice.highest) // 2  # of the last note
        self._leap = 0  # the direction that the next note has to take back, or 0
        self.notes: list[Note] = []

    def write(self, section: Section, contour: Sequence[float], velocity: int, rng: np.random.Generator) -> None:
        """Write a section's melody.

        Motif by motif: stated, taken to another chord, stated again, and closed. A' and A'' ornament it. B turns it
        upside down, higher, and thins it out. The outro has what is left of it.
        """
        bar = QUARTERS_PER_BAR[self._metre]
        start, end = section.first_bar * bar, (section.first_bar + section.bars) * bar
        count = max(1, round((end - start) / self._motif.beats))
        self._leap = 0
        for number in range(count):
            begin = start + number * self._motif.beats
            motif = self._motif
            if section.name == "B":
                motif = thinned(inverted(motif)) if number % 2 else inverted(motif)
            elif section.name == "outro":
                motif = thinned(motif)
            elif section.name in ("A'", "A''") and number % 2:
                motif = ornamented(motif, rng)
            height = float(np.interp((number + 0.5) / count, np.linspace(0, 1, len(contour)), contour))
            lift = 2 if section.name == "B" else 0
            anchor = self._voice.lowest + 2 + round(height * 3) + lift
            self._state(motif, begin, min(end, begin + motif.beats), anchor, velocity, closes=number == count - 1)

    def end(self, beat: float, beats: float, velocity: int) -> None:
        """Close the piece: the tonic nearest to the last note, held."""
        self.notes = [note for note in self.notes if note.beat < beat]
        voice = self._voice
        pitches = [
            pitch_of(degree, voice.tonic, voice.mode)
            for degree in range(voice.lowest, voice.highest + 1)
            if degree % 7 == 0
        ]
        before = self.notes[-1].pitch if self.notes else pitches[0]
        self.notes.append(Note(beat, beats, min(pitches, key=lambda pitch: (abs(pitch - before), pitch)), velocity))

    def _state(self, motif: Motif, begin: float, end: float, anchor: int, velocity: int, *, closes: bool) -> None:
        """Write the motif once: its anchor moves to a chord tone, strong and long notes are chord tones."""
        anchor = self._chord_tone(begin, anchor)
        for number, (onset, length) in enumerate(zip(motif.onsets, motif.lengths, strict=True)):
            beat = begin + onset
            if beat >= end - 1e-6:
                break
            length = min(length, end - beat)
            last = closes and (number == len(motif.onsets) - 1 or begin + motif.onsets[number + 1] >= end - 1e-6)
            strong = onset % PULSE[self._metre] == 0 and (onset % QUARTERS_PER_BAR[self._metre]) in self._strong_beats()
            degree = self._inside(anchor + motif.offsets[number])
            if strong or last or length >= _LONG:
                moves = number > 0 and motif.offsets[number] != motif.offsets[number - 1]
                degree = self._chord_tone(beat, degree, instead_of=self._degree if moves else None)
            degree = self._singable(degree, beat, strong or last or length >= _LONG)
            pitch = pitch_of(degree, self._voice.tonic, self._voice.mode)
            accent = 6 if onset % QUARTERS_PER_BAR[self._metre] == 0 else 0
            self.notes.append(Note(beat, length, pitch, velocity + accent))
            self._degree = degree

    def _strong_beats(self) -> tuple[float, ...]:
        return {"4/4": (0.0, 2.0), "3/4": (0.0,), "6/8": (0.0, 1.5)}[self._metre]

    def _singable(self, degree: int, beat: float, harmonic: bool) -> int:
        """Return the degree, or one near it: after a leap the line turns back, and no leap is wider than a sixth."""
        step = degree - self._degree
        if self._leap and step * self._leap >= 0:
            degree = self._degree - self._leap
            if harmonic:
                below = [d for d in self._tones(beat) if (d - self._degree) * self._leap < 0]
                degree = min(below, key=lambda d: abs(d - self._degree)) if below else self._chord_tone(beat, degree)
        elif abs(step) > _LEAP + 1:
            degree = self._degree + (_LEAP if step > 0 else -_LEAP)
            if harmonic:
                degree = self._chord_tone(beat, degree)
        degree = self._inside(degree)
        step = degree - self._degree
        self._leap = (1 if step > 0 else -1) if abs(step) >= _LEAP else 0
        return degree

    def _inside(self, degree: int) -> int:
        """Return the degree mirrored at the ends of the range."""
        low, high = self._voice.lowest, self._voice.highest
        mirrored = 2 * low - degree if degree < low else 2 * high - degree if degree > high else degree
        return min(max(mirrored, low), high)

    def _tones(self, beat: float) -> list[int]:
        """Return the degrees of the range that belong to the chord's triad at a beat."""
        chord = next(chord for chord in self._chords if chord.beat <= beat + 1e-6 < chord.beat + chord.beats)
        return [d for d in range(self._voice.lowest, self._voice.highest + 1) if d % 7 in chord.degrees[:3]]

    def _chord_tone(self, beat: float, degree: int, instead_of: int | None = None) -> int:
        """Return the chord tone nearest to a degree, of two the one nearer to the last note; not `instead_of`."""
        tones = [tone for tone in self._tones(beat) if tone != instead_of]
        return min(tones, key=lambda tone: (abs(tone - degree), abs(tone - self._degree), tone))


def make_voice(tonic: int, mode: str, center: int) -> Voice:
    """Return the range of a melody around a MIDI pitch."""
    base = 60 + (tonic if tonic < 6 else tonic - 12)
    return Voice(base, mode, nearest_degree(center, base, mode) - _RANGE // 2)
