"""`midi_bytes`: a score as a Standard MIDI File."""

from __future__ import annotations

import contextlib
import io
import sys

from serve_app.models.music.composer.score import Score
from serve_app.models.music.instruments import INSTRUMENTS, Role
from serve_app.models.music.scales import relative_major

# pretty_midi imports pyfluidsynth, which prints the library's path where the environment has CI (any CI's machine).
# Standard output belongs to the answer of the command.
with contextlib.redirect_stdout(sys.stderr):
    import pretty_midi

_METRES = {"4/4": (4, 4), "3/4": (3, 4), "6/8": (6, 8)}


def to_midi(score: Score) -> pretty_midi.PrettyMIDI:
    """Return the score as played: General MIDI programs, drums on channel 10, tempo, metre and key signature.

    The key signature is that of the major key with the same notes: MIDI knows no modes.
    """
    midi = pretty_midi.PrettyMIDI(initial_tempo=score.quarter_bpm, resolution=480)
    midi.time_signature_changes.append(pretty_midi.TimeSignature(*_METRES[score.metre], 0.0))
    midi.key_signature_changes.append(pretty_midi.KeySignature(relative_major(score.tonic, score.mode), 0.0))
    for part in score.parts:
        instrument = pretty_midi.Instrument(
            INSTRUMENTS[part.instrument].program, is_drum=part.role is Role.DRUMS, name=part.instrument
        )
        instrument.notes = [
            pretty_midi.Note(note.velocity, note.pitch, note.start_s, note.end_s) for note in part.played
        ]
        midi.instruments.append(instrument)
    return midi


def midi_bytes(score: Score) -> bytes:
    """Return the file's bytes; the same score gives the same bytes."""
    written = io.BytesIO()
    to_midi(score).write(written)
    return written.getvalue()
