"""Keys and modes: pitch names, the steps of each mode, and pitches by scale degree."""

from __future__ import annotations

PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

# Semitones above the tonic, from the brightest mode to the darkest (Ehrlich et al. 2019, without Locrian).
MODES: dict[str, tuple[int, ...]] = {
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}


def pitch_of(degree: int, tonic: int, mode: str) -> int:
    """Return the pitch `degree` scale steps above `tonic` (a MIDI pitch); degrees below 0 lie under it."""
    octave, step = divmod(degree, 7)
    return tonic + 12 * octave + MODES[mode][step]


def nearest_degree(pitch: float, tonic: int, mode: str) -> int:
    """Return the degree whose pitch is nearest to `pitch`, the lower one of two."""
    guess = round((pitch - tonic) * 7 / 12)
    return min(range(guess - 2, guess + 3), key=lambda degree: (abs(pitch_of(degree, tonic, mode) - pitch), degree))


def relative_major(tonic: int, mode: str) -> int:
    """Return the pitch class of the major scale with the same notes: its key signature is the mode's."""
    steps = set(MODES[mode])
    major = MODES["ionian"]
    return next((tonic + shift) % 12 for shift in range(12) if {(shift + step) % 12 for step in major} == steps)
