"""The file as pretty_midi and mido read it: notes, seconds, grid lines, tempo."""

from __future__ import annotations

import io
from dataclasses import dataclass

import mido
import numpy as np
import pretty_midi
import pytest

from serve_app.models.drums.files import midi_bytes
from serve_app.results import Drum, DrumHit, DrumTranscript, TempoChange


@dataclass(frozen=True)
class Note:
    tick: int
    time_s: float
    note: int
    velocity: int


def transcript(
    times_s: list[float] | np.ndarray,
    tempo_map: list[tuple[float, float]],
    *,
    drum: Drum = Drum.KICK,
    duration_s: float | None = None,
) -> DrumTranscript:
    hits = tuple(DrumHit(float(t) + 0.004, float(t), drum, 100, 0.9) for t in times_s)
    changes = tuple(TempoChange(start_s, bpm) for start_s, bpm in tempo_map)
    last_s = max([0.0, *(hit.time_s for hit in hits)])
    return DrumTranscript(hits, changes[0].bpm, changes, duration_s or last_s + 1.0, "test")


def by_mido(data: bytes) -> list[Note]:
    """Read notes with a clock of our own, in exact microseconds."""
    file = mido.MidiFile(file=io.BytesIO(data))
    tempos: list[tuple[int, int]] = []
    notes: list[tuple[int, mido.Message]] = []
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                assert track is file.tracks[0]
                tempos.append((tick, message.tempo))
            if message.type == "note_on" and message.velocity:
                assert message.channel == 9
                notes.append((tick, message))
    assert tempos[0][0] == 0

    def seconds(tick: int) -> float:
        ends = [*(start for start, _ in tempos[1:]), max(tick, tempos[-1][0])]
        spans = ((max(0, min(tick, end) - start), tempo) for (start, tempo), end in zip(tempos, ends, strict=True))
        return sum(length * tempo for length, tempo in spans) / file.ticks_per_beat / 1e6

    return [Note(tick, seconds(tick), message.note, message.velocity) for tick, message in notes]


def by_pretty_midi(data: bytes) -> list[Note]:
    file = pretty_midi.PrettyMIDI(io.BytesIO(data))
    assert [instrument.is_drum for instrument in file.instruments] == [True] * len(file.instruments)
    notes = [note for instrument in file.instruments for note in instrument.notes]
    assert all(note.end > note.start for note in notes)
    return sorted(
        (Note(file.time_to_tick(note.start), note.start, note.pitch, note.velocity) for note in notes),
        key=lambda note: (note.tick, note.note),
    )


def set_tempos(data: bytes) -> list[tuple[int, float]]:
    tick, found = 0, []
    for message in mido.MidiFile(file=io.BytesIO(data)).tracks[0]:
        tick += message.time
        if message.type == "set_tempo":
            found.append((tick, mido.tempo2bpm(message.tempo)))
    return found


def check_both(data: bytes) -> list[Note]:
    """Return the notes on which both libraries agree."""
    ours, theirs = sorted(by_mido(data), key=lambda note: (note.tick, note.note)), by_pretty_midi(data)
    assert [(note.tick, note.note, note.velocity) for note in ours] == [
        (note.tick, note.note, note.velocity) for note in theirs
    ]
    np.testing.assert_allclose([note.time_s for note in ours], [note.time_s for note in theirs], atol=1e-6)
    return ours


def test_general_midi_drums_together_at_the_tempo() -> None:
    hits = tuple(DrumHit(0.501, 0.5, drum, velocity, 0.9) for drum, velocity in zip(Drum, (127, 1, 64), strict=True))
    data = midi_bytes(DrumTranscript(hits, 120.0, (TempoChange(0.0, 120.0),), 2.0, "test"))
    assert check_both(data) == [Note(480, 0.5, 36, 127), Note(480, 0.5, 38, 1), Note(480, 0.5, 42, 64)]
    assert set_tempos(data) == [(0, 120.0)]
    times_s, tempi = pretty_midi.PrettyMIDI(io.BytesIO(data)).get_tempo_changes()
    assert (times_s.tolist(), tempi.tolist()) == ([0.0], [120.0])
    assert mido.MidiFile(file=io.BytesIO(data)).length == pytest.approx(2.0)


@pytest.mark.parametrize("bpm", [61.3, 97.0, 120.0, 180.0, 219.9])
@pytest.mark.parametrize("first_beat", [0.0, 0.003, 0.1, 0.37, 0.5, 0.99, 1.4, 7.2])
def test_beats_fall_on_quarter_notes_and_seconds_are_right(bpm: float, first_beat: float) -> None:
    beat_s = 60.0 / bpm
    start_s = first_beat * beat_s
    sixteenths = np.array([0, 1, 2, 4, 7, 16, 33, 100, 399])
    times_s = start_s + sixteenths * beat_s / 4
    data = midi_bytes(transcript(times_s, [(start_s, bpm)]))
    notes = check_both(data)
    np.testing.assert_allclose([note.time_s for note in notes], times_s, atol=0.0011)
    first = notes[0].tick
    assert first % 480 == 0
    assert [note.tick - first for note in notes] == (sixteenths * 120).tolist()
    tempos = set_tempos(data)
    if first_beat in (0.0, 0.1, 0.37, 0.5, 0.99, 1.4, 7.2):  # long enough for the song's tempo to come first
        assert tempos[0][1] == pytest.approx(bpm, rel=1e-5)
    assert tempos[-1][1] == pytest.approx(bpm, rel=1e-5)
    assert len(tempos) <= 3


@pytest.mark.parametrize("pickup", [1, 2, 3])
def test_notes_before_the_first_beat_lie_on_the_grid_too(pickup: int) -> None:
    start_s, sixteenth_s = 0.45, 0.125
    times_s = np.array([start_s - pickup * sixteenth_s, start_s, start_s + 4 * sixteenth_s])
    notes = check_both(midi_bytes(transcript(times_s, [(start_s, 120.0)])))
    np.testing.assert_allclose([note.time_s for note in notes], times_s, atol=0.0011)
    assert notes[1].tick % 480 == 0
    assert [note.tick - notes[1].tick for note in notes] == [-120 * pickup, 0, 480]


def test_note_at_the_start_of_the_file_before_the_first_beat() -> None:
    """No time is left for a lead-in: the notes still lie on sixteenths."""
    notes = check_both(midi_bytes(transcript([0.0, 0.25, 0.75], [(0.25, 120.0)])))
    assert [note.tick for note in notes] == [0, 240, 720]
    np.testing.assert_allclose([note.time_s for note in notes], [0.0, 0.25, 0.75], atol=0.0011)


def test_tempo_map() -> None:
    tempo_map, beats_s = [], [0.2]
    for bpm, num_beats in [(100.0, 8), (103.0, 4), (140.0, 16), (90.5, 12)]:
        tempo_map.append((beats_s[-1], bpm))
        beats_s += [beats_s[-1] + (1 + index) * 60.0 / bpm for index in range(num_beats)]
    # the tracker rounds its times
    rounded = [(round(start_s, 3), bpm) for start_s, bpm in tempo_map]
    data = midi_bytes(transcript(beats_s, rounded))
    notes = check_both(data)
    np.testing.assert_allclose([note.time_s for note in notes], beats_s, atol=0.002)
    first = notes[0].tick
    assert [note.tick for note in notes] == [first + 480 * index for index in range(len(beats_s))]
    assert [bpm for _, bpm in set_tempos(data)][2:] == pytest.approx([100.0, 103.0, 140.0, 90.5], rel=2e-3)


def test_random_maps_and_played_times_keep_their_seconds() -> None:
    rng = np.random.default_rng(11)
    for _ in range(25):
        tempo_map, now_s = [], float(rng.uniform(0, 2))
        for _ in range(rng.integers(1, 6)):
            bpm = float(rng.uniform(50, 220))
            tempo_map.append((now_s, bpm))
            now_s += int(rng.integers(1, 40)) * 60.0 / bpm
        times_s = np.unique(np.round(rng.uniform(0, now_s + 5, 60), 4))
        quantized = transcript(times_s, tempo_map, drum=Drum.HIHAT)
        tick_s = 60.0 / 50.0 / 480
        for is_quantized, shift_s in ((True, 0.0), (False, 0.004)):
            notes = check_both(midi_bytes(quantized, quantized=is_quantized))
            played_s = times_s + shift_s
            heard_s = np.array([note.time_s for note in notes])
            gaps_s = np.abs(heard_s[:, None] - played_s).min(axis=0)  # merged ones are within a tick
            assert gaps_s.max() < tick_s + 0.0011
            assert len(notes) >= len(played_s) - 3


def test_hours_stay_in_time_and_can_be_opened() -> None:
    bpm, hours = 181.0, 5
    num_beats = round(hours * 60 * bpm)
    times_s = 0.21 + np.arange(0, num_beats, 50) * 60.0 / bpm
    data = midi_bytes(transcript(times_s, [(0.21, bpm)]))
    notes = check_both(data)
    np.testing.assert_allclose([note.time_s for note in notes], times_s, atol=0.0015)
    per_beat = mido.MidiFile(file=io.BytesIO(data)).ticks_per_beat
    assert all(note.tick % per_beat == 0 for note in notes)


def test_strokes_on_one_tick_are_one_note_as_loud_as_the_loudest() -> None:
    hits = (
        DrumHit(0.49, 0.5, Drum.SNARE, 40, 0.9),
        DrumHit(0.49, 0.5, Drum.KICK, 50, 0.9),
        DrumHit(0.52, 0.5, Drum.SNARE, 90, 0.9),
    )
    song = DrumTranscript(hits, 120.0, (TempoChange(0.0, 120.0),), 2.0, "test")
    assert check_both(midi_bytes(song)) == [Note(480, 0.5, 36, 50), Note(480, 0.5, 38, 90)]
    assert [note.tick for note in check_both(midi_bytes(song, quantized=False))] == [470, 470, 499]


def test_dense_strokes_end_before_the_next_begins() -> None:
    times_s = np.arange(20) * 0.01
    data = midi_bytes(transcript(times_s, [(0.0, 120.0)]))
    assert len(check_both(data)) == 20
    is_on = False
    for message in mido.MidiFile(file=io.BytesIO(data)).tracks[1]:
        if message.type in ("note_on", "note_off"):
            assert (message.type == "note_on") != is_on
            is_on = not is_on


def test_no_hits() -> None:
    data = midi_bytes(transcript([], [(0.0, 120.0)], duration_s=3.0))
    assert check_both(data) == []
    assert set_tempos(data) == [(0, 120.0)]
    file = mido.MidiFile(file=io.BytesIO(data))
    assert (file.length, file.ticks_per_beat) == (pytest.approx(3.0), 480)
